"""Commands as bytes to commands as values: MAIL and RCPT lines with their parameters.

Pure functions. What they cannot read they refuse with CommandError, which holds the reply.
Source: RFC 5321 §4.1.1, RFC 1870 (SIZE), RFC 6152 (BODY), RFC 6531 (SMTPUTF8), RFC 4954 §5 (AUTH=).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from relay.mail.address import parse_address
from relay.mail.errors import AddressSyntaxError
from relay.mail.reply import Reply, reply

_PATH: Final = re.compile(r" ?<([^<>]*)>(?: (.*))?\Z", re.DOTALL)
_PARAMETER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\u0080-\U0010ffff]+))?\Z")
_SOURCE_ROUTE: Final = re.compile(r"@[^:@<>]+(?:,@[^:@<>]+)*:")


class CommandError(Exception):
    """A command we refuse; `reply` is the answer."""

    def __init__(self, answer: Reply) -> None:
        super().__init__(str(answer))
        self.reply = answer


@dataclass(frozen=True, slots=True)
class MailCommand:
    """`address` is None for the null reverse-path; `size` is what the client declared, 0 when it did not."""

    address: str | None
    size: int = 0
    body_8bit: bool = False
    smtputf8: bool = False


def parse_mail(argument: bytes) -> MailCommand:
    """Read what follows `MAIL `: `FROM:<address> [parameters]`. Raises CommandError."""
    path, parameters = _split(argument, "FROM:", "MAIL FROM:<address>")
    size, body_8bit, smtputf8 = 0, False, False
    for name, value in parameters:
        if name == "SIZE" and value.isascii() and value.isdecimal() and len(value) <= 20:
            size = int(value)
        elif name == "BODY" and value.upper() in ("7BIT", "8BITMIME"):
            body_8bit = value.upper() == "8BITMIME"
        elif name == "SMTPUTF8" and not value:
            smtputf8 = True
        elif name != "AUTH":  # RFC 4954 §5: accepted from everybody, believed from nobody
            raise CommandError(_bad_parameter(name, "MAIL", known=name in ("SIZE", "BODY", "SMTPUTF8")))
    address = _address(path, "5.1.7", smtputf8) if path else None
    return MailCommand(address, size, body_8bit, smtputf8)


def parse_rcpt(argument: bytes, *, smtputf8: bool) -> str:
    """Read what follows `RCPT `: `TO:<address>`; returns the address. Raises CommandError."""
    path, parameters = _split(argument, "TO:", "RCPT TO:<address>")
    for name, _ in parameters:
        raise CommandError(_bad_parameter(name, "RCPT", known=False))
    return _address(path, "5.1.3", smtputf8)


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


def _address(path: str, status: str, smtputf8: bool) -> str:
    try:
        address = parse_address(_SOURCE_ROUTE.sub("", path, count=1) if path.startswith("@") else path)
    except AddressSyntaxError as error:
        raise CommandError(reply(553 if status == "5.1.3" else 501, status, f"Bad address: {error}")) from None
    if not smtputf8 and not (address.local.isascii() and address.domain.isascii()):
        # RFC 6531 §3.4: UTF-8 in a path needs the SMTPUTF8 parameter.
        raise CommandError(reply(553, "5.6.7", "Non-ASCII address: send MAIL with the SMTPUTF8 parameter"))
    return str(address)


def _bad_parameter(name: str, verb: str, *, known: bool) -> Reply:
    if known:
        return reply(501, "5.5.4", f"Bad value for {verb} parameter {name}")
    return reply(555, "5.5.4", f"{verb} parameter {name} is not supported")
