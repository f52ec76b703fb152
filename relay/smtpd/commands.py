"""Commands as bytes to commands as values: MAIL and RCPT lines with their parameters.

Pure functions. What they cannot read they refuse with CommandError, which holds the reply.
Source: RFC 5321 §4.1.1, RFC 1870 (SIZE), RFC 6152 and RFC 3030 (BODY), RFC 6531 (SMTPUTF8), RFC 4954 §5 (AUTH=), RFC
3461 (RET, ENVID, NOTIFY, ORCPT), RFC 4865 (HOLDFOR, HOLDUNTIL), RFC 6710 (MT-PRIORITY), RFC 2852 (BY), RFC 8689
(REQUIRETLS).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast, get_args

from relay.mail.address import parse_address
from relay.mail.envelope import Notify, Recipient
from relay.mail.errors import AddressSyntaxError
from relay.mail.frozen import frozen
from relay.mail.priority import priority_of
from relay.mail.reply import Reply, reply
from relay.mail.xtext import decoded, is_xtext

POSTMASTER: Final = "postmaster"
_NO_UTF8_SENDER: Final = reply(550, "5.6.7", "Non-ASCII address: send MAIL with the SMTPUTF8 parameter")
_NO_UTF8_RECIPIENT: Final = reply(553, "5.6.7", "Non-ASCII address: send MAIL with the SMTPUTF8 parameter")
UNKNOWN: Final = "<>"
_LONGEST_SUBMITTER: Final = 500
_PATH: Final = re.compile(r"<([^<>]*)>(?: (.*))?\Z", re.DOTALL)
_PARAMETER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\u0080-\U0010ffff]+))?\Z")
_BY: Final = re.compile(r"([+-]?[0-9]{1,9});([RN])(T?)\Z", re.IGNORECASE)
_SECONDS: Final = re.compile(r"[1-9][0-9]{0,8}\Z")
_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_SOURCE_ROUTE: Final = re.compile(r"@[^:@<>,]+(?:,@[^:@<>,]+)*:")


class CommandError(Exception):
    """A command we refuse; `reply` is the answer."""

    def __init__(self, answer: Reply) -> None:
        super().__init__(str(answer))
        self.reply = answer


@frozen
class MailCommand:
    """`address` is None for the null reverse-path; `size` is what the client declared, 0 when it did not."""

    address: str | None
    size: int = 0
    body_8bit: bool = False
    smtputf8: bool = False
    ret: Literal["FULL", "HDRS"] | None = None
    envid: str | None = None
    hold_for: float | None = None
    hold_until: float | None = None
    priority: int | None = None
    by_seconds: int | None = None
    by_mode: Literal["", "R", "N"] = ""
    by_trace: bool = False
    requiretls: bool = False
    binary: bool = False
    submitter: str = ""


def parse_mail(argument: bytes) -> MailCommand:
    """Read what follows `MAIL `: `FROM:<address> [parameters]`. Raises CommandError."""
    path, parameters = _split(argument, "FROM:", "MAIL FROM:<address>")
    if parameters:
        _no_doubles("MAIL", parameters)
    given: dict[str, Any] = {}
    for name, value in parameters:
        read = _MAIL_PARAMETERS.get(name)
        if read is None:
            raise CommandError(_bad_parameter(name, "MAIL", known=False))
        found = read(value)
        if found is None:
            raise CommandError(_bad_parameter(name, "MAIL", known=True))
        given |= found
    if "hold_for" in given and "hold_until" in given:
        # RFC 4865 §4.2: one hold-param.
        raise CommandError(reply(501, "5.5.4", "HOLDFOR and HOLDUNTIL exclude each other"))
    address = _address(path, "5.1.7", given.get("smtputf8", False)) if path else None
    return MailCommand(address, **given) if given else MailCommand(address)


def _size(value: str) -> dict[str, int] | None:
    return {"size": int(value)} if value.isascii() and value.isdecimal() and len(value) <= 20 else None


def _body(value: str) -> dict[str, bool] | None:
    word = value.upper()
    if word == "BINARYMIME":
        return {"body_8bit": True, "binary": True}
    return {"body_8bit": word == "8BITMIME"} if word in ("7BIT", "8BITMIME") else None


def _smtputf8(value: str) -> dict[str, bool] | None:
    return None if value else {"smtputf8": True}


def _requiretls(value: str) -> dict[str, bool] | None:
    return None if value else {"requiretls": True}


def _auth(value: str) -> dict[str, str] | None:
    """RFC 4954 §5: an address as xtext, or `<>`. Accepted from everybody; whom to believe the handler knows."""
    if value == UNKNOWN:
        return {"submitter": UNKNOWN}
    if len(value) > _LONGEST_SUBMITTER or not is_xtext(value, utf8=True):
        return None
    try:
        return {"submitter": str(parse_address(decoded(value)))}
    except AddressSyntaxError:
        return None


def _ret(value: str) -> dict[str, str] | None:
    word = value.upper()
    return {"ret": word} if word in ("FULL", "HDRS") else None


def _envid(value: str) -> dict[str, str] | None:
    return {"envid": value} if value and len(value) <= 100 and is_xtext(value) else None


def _hold_for(value: str) -> dict[str, float] | None:
    """RFC 4865 §3: seconds, 1 to 999999999."""
    return {"hold_for": float(value)} if _SECONDS.match(value) else None


def _hold_until(value: str) -> dict[str, float] | None:
    """RFC 4865 §3 with erratum 2040: a date and time as RFC 3339 §5.6 has it, with its zone."""
    if not _DATE_TIME.match(value):
        return None
    try:
        # In UTC it may lie outside the years there are.
        return {"hold_until": datetime.fromisoformat(value).astimezone(UTC).timestamp()}
    except (ValueError, OverflowError):
        return None


def _priority(value: str) -> dict[str, int] | None:
    priority = priority_of(value)
    return None if priority is None else {"priority": priority}


def _by(value: str) -> dict[str, Any] | None:
    """RFC 2852 §4: what is to be returned when it is late cannot be late already."""
    match = _BY.match(value)
    if match is None or (match[2] in "Rr" and int(match[1]) <= 0):
        return None
    return {"by_seconds": int(match[1]), "by_mode": match[2].upper(), "by_trace": bool(match[3])}


_MAIL_PARAMETERS: Final[dict[str, Callable[[str], Mapping[str, Any] | None]]] = {
    "SIZE": _size,
    "BODY": _body,
    "SMTPUTF8": _smtputf8,
    "AUTH": _auth,
    "RET": _ret,
    "ENVID": _envid,
    "HOLDFOR": _hold_for,
    "HOLDUNTIL": _hold_until,
    "MT-PRIORITY": _priority,
    "BY": _by,
    "REQUIRETLS": _requiretls,
}


def parse_rcpt(argument: bytes, *, smtputf8: bool) -> Recipient:
    """Read what follows `RCPT `: `TO:<address> [parameters]`. Raises CommandError.

    `<Postmaster>` has no domain (RFC 5321 §4.1.1.3); who that is here the handler knows.
    """
    path, parameters = _split(argument, "TO:", "RCPT TO:<address>")
    address = POSTMASTER if path.lower() == POSTMASTER else _address(path, "5.1.3", smtputf8)
    if not parameters:
        return Recipient(address)
    _no_doubles("RCPT", parameters)
    notify: tuple[Notify, ...] = ()
    orcpt = None
    for name, value in parameters:
        if name == "NOTIFY":
            notify = _notify(value)
        elif name == "ORCPT":
            orcpt = _orcpt(value)
        else:
            raise CommandError(_bad_parameter(name, "RCPT", known=False))
    return Recipient(address, notify, orcpt)


def _notify(value: str) -> tuple[Notify, ...]:
    """RFC 3461 §4.1: NEVER alone, or any of the others."""
    words = list(dict.fromkeys(value.upper().split(",")))
    if not set(words) <= set(get_args(Notify)) or ("NEVER" in words and len(words) > 1):
        raise CommandError(_bad_parameter("NOTIFY", "RCPT", known=True))
    return cast("tuple[Notify, ...]", tuple(words))


def _orcpt(value: str) -> str:
    """RFC 3461 §4.2: `rfc822;` and an xtext; RFC 6533 §3: `utf-8;`."""
    kind, semicolon, text = value.partition(";")
    known = kind.isascii() and kind.replace("-", "").isalnum()
    if not (semicolon and text and known and len(value) <= 500 and is_xtext(text, utf8=kind.lower() == "utf-8")):
        raise CommandError(_bad_parameter("ORCPT", "RCPT", known=True))
    return value


def _split(argument: bytes, keyword: str, usage: str) -> tuple[str, list[tuple[str, str]]]:
    try:
        text = argument.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandError(reply(501, "5.5.2", "Command is not UTF-8")) from None
    if text[: len(keyword)].upper() != keyword:
        raise CommandError(reply(501, "5.5.4", f"Syntax: {usage}"))
    match = _PATH.match(text, len(keyword))
    if match is None:
        raise CommandError(reply(501, "5.5.4", f"Syntax: {usage} with the address in angle brackets"))
    parameters = []
    for word in filter(None, (match[2] or "").split(" ")):
        parsed = _PARAMETER.match(word)
        if parsed is None:
            raise CommandError(reply(501, "5.5.4", "Malformed parameter"))
        parameters.append((parsed[1].upper(), parsed[2] or ""))
    return match[1], parameters


def _no_doubles(verb: str, parameters: list[tuple[str, str]]) -> None:
    """RFC 3461 §4.5 has each of them once at most, and no rule says which of two would count."""
    names = [name for name, _ in parameters]
    if len(set(names)) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise CommandError(reply(501, "5.5.4", f"{verb} parameter {double} is given twice"))


def _address(path: str, status: str, smtputf8: bool) -> str:
    try:
        route = _SOURCE_ROUTE.match(path) if path.startswith("@") else None
        address = parse_address(path[route.end() :] if route else path)
    except AddressSyntaxError as error:
        raise CommandError(reply(553 if status == "5.1.3" else 501, status, f"Bad address: {error}")) from None
    if not smtputf8 and not (address.local.isascii() and address.domain.isascii()):
        # RFC 6531 §3.4: UTF-8 in a path needs the SMTPUTF8 parameter; §3.5: 550 to MAIL, 553 to RCPT.
        raise CommandError(_NO_UTF8_RECIPIENT if status == "5.1.3" else _NO_UTF8_SENDER)
    return str(address)


def _bad_parameter(name: str, verb: str, *, known: bool) -> Reply:
    if known:
        return reply(501, "5.5.4", f"Bad value for {verb} parameter {name}")
    return reply(555, "5.5.4", f"{verb} parameter {name} is not supported")
