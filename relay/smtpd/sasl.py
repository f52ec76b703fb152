"""AUTH PLAIN and LOGIN as small exchanges without I/O.

A mechanism is a generator: it yields challenges (bytes before base64) and returns Credentials; what it
receives are decoded responses. Source: RFC 4954, RFC 4616 (PLAIN), draft-murchison-sasl-login (LOGIN).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Generator
from dataclasses import dataclass

Exchange = Generator[bytes, bytes, "Credentials"]


class SaslError(Exception):
    """The client's response does not make sense; the text is fit for a 501 reply."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client claims. `authorize_as` is PLAIN's authzid, empty in most clients."""

    username: str
    password: str
    authorize_as: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, password hidden)"


def decode_response(line: bytes) -> bytes:
    """One base64 response line; `=` stands for the empty one (RFC 4954 §4). Raises SaslError."""
    if line == b"=":
        return b""
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error:
        raise SaslError("Response is not base64") from None


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise SaslError("Response is not UTF-8") from None


def plain() -> Exchange:
    """RFC 4616: authzid NUL authcid NUL passwd."""
    response = yield b""
    parts = response.split(b"\0")
    if len(parts) != 3 or not parts[1]:
        raise SaslError("Malformed PLAIN response")
    authorize_as, username, password = map(_text, parts)
    return Credentials(username, password, authorize_as)


def login() -> Exchange:
    """Two prompts, in the words old clients compare against."""
    username = _text((yield b"Username:"))
    password = _text((yield b"Password:"))
    if not username:
        raise SaslError("Empty user name")
    return Credentials(username, password)


MECHANISMS: dict[str, Callable[[], Exchange]] = {"PLAIN": plain, "LOGIN": login}
