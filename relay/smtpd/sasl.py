"""AUTH PLAIN and LOGIN as small exchanges without I/O.

A mechanism is a generator: it yields challenges (bytes before base64) and returns Credentials; what it
receives are decoded responses. An Exchange runs one over lines. Raises SaslError for a response that
makes no sense. Source: RFC 4954, RFC 4616 (PLAIN), draft-murchison-sasl-login (LOGIN).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final

Steps = Generator[bytes, bytes, "Credentials"]


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


def plain() -> Steps:
    """RFC 4616: authzid NUL authcid NUL passwd."""
    response = yield b""
    parts = response.split(b"\0")
    if len(parts) != 3 or not parts[1]:
        raise SaslError("Malformed PLAIN response")
    authorize_as, username, password = map(_text, parts)
    return Credentials(username, password, authorize_as)


def login() -> Steps:
    """Two prompts, in the words old clients compare against."""
    username = _text((yield b"Username:"))
    password = _text((yield b"Password:"))
    if not username:
        raise SaslError("Empty user name")
    return Credentials(username, password)


MECHANISMS: Final[dict[str, Callable[[], Steps]]] = {"PLAIN": plain, "LOGIN": login}


class Exchange:
    """One run of a mechanism. A step answers the next challenge line or, at the end, the Credentials."""

    def __init__(self, mechanism: str) -> None:
        self.mechanism = mechanism
        self._steps = MECHANISMS[mechanism]()

    def begin(self, initial: bytes) -> bytes | Credentials:
        """`initial` is the initial response (RFC 4954 §4), empty where the client sent none."""
        challenge = next(self._steps)
        return self.respond(initial) if initial else base64.b64encode(challenge)

    def respond(self, line: bytes) -> bytes | Credentials:
        """Raises SaslError; then the exchange is over."""
        try:
            return base64.b64encode(self._steps.send(decode_response(line)))
        except StopIteration as done:
            credentials: Credentials = done.value
            return credentials
