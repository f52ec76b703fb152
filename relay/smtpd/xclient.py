"""XCLIENT: what a trusted proxy says of the client it speaks for.

In: the attributes of the command. Out: a value for each, `""` for [UNAVAILABLE] and [TEMPUNAVAIL], and the session as
that client's. Raises CommandError. Source: Postfix's XCLIENT_README (command syntax, server response).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from relay.mail.reply import Reply, reply
from relay.mail.session import Login, Session
from relay.mail.xtext import is_xtext
from relay.smtpd.commands import CommandError

ATTRIBUTES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "REVERSE_NAME", "DESTADDR", "DESTPORT")
_UNAVAILABLE: Final = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
_LONGEST: Final = 255
_TEXT: Final = re.compile(r"[!-~]+\Z")
_ENCODED: Final = re.compile(r"\+([0-9A-F]{2})")


def parse_xclient(argument: bytes, *, login: bool) -> dict[str, str]:
    """Read what follows `XCLIENT `. `login`: whether LOGIN is an attribute here. Raises CommandError."""
    given: dict[str, str] = {}
    for word in filter(None, argument.decode("ascii", "replace").split(" ")):
        name, _, value = word.partition("=")
        name = name.upper()
        if name not in ATTRIBUTES and not (login and name == "LOGIN"):
            raise CommandError(reply(501, "5.5.4", "XCLIENT attribute is not among those EHLO names"))
        if not value or len(value) > _LONGEST or not is_xtext(value):
            raise CommandError(_bad_value(name))
        given[name] = "" if value.upper() in _UNAVAILABLE else _read(name, value)
    if not given:
        raise CommandError(reply(501, "5.5.4", "Syntax: XCLIENT attribute=value..."))
    return given


def _read(name: str, value: str) -> str:
    text = _ENCODED.sub(lambda octet: chr(int(octet[1], 16)), value)
    found = _READERS.get(name, _text)(text)
    if not found:
        raise CommandError(_bad_value(name))
    return found


def _text(text: str) -> str:
    return text if _TEXT.match(text) else ""


def _address(text: str) -> str:
    bare = text[5:] if text[:5].upper() == "IPV6:" else text
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return ""
    if "%" in bare:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _port(text: str) -> str:
    return text if text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 65_535 else ""


def _protocol(text: str) -> str:
    return text.upper() if text.upper() in ("SMTP", "ESMTP") else ""


_READERS: Final[Mapping[str, Callable[[str], str]]] = {
    "ADDR": _address,
    "DESTADDR": _address,
    "PORT": _port,
    "DESTPORT": _port,
    "PROTO": _protocol,
}


def as_client(session: Session, connection: Session, given: Mapping[str, str], login: Login | None) -> Session:
    """The session begun anew: TLS stays, HELO, PROTO and the login are as said with this command or forgotten.

    An address that is not available is that of the `connection`, so that limits hold for somebody.
    """
    peer, port = session.peer, session.peer_port
    if "ADDR" in given:
        peer, port = given["ADDR"] or connection.peer, 0 if given["ADDR"] else connection.peer_port
    return replace(
        session,
        peer=peer,
        peer_port=int(given.get("PORT") or 0) if "PORT" in given else port,
        helo=given.get("HELO", ""),
        protocol=given.get("PROTO") or "SMTP",
        login=login,
    )


def _bad_value(name: str) -> Reply:
    return reply(501, "5.5.4", f"Bad value for XCLIENT attribute {name}")
