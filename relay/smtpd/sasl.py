"""SASL exchanges without I/O: what the dialogue runs, and the mechanisms PLAIN, LOGIN and EXTERNAL.

A mechanism is a generator: it yields challenges (bytes before base64) and returns a Claim; what it receives are decoded
responses. An Exchange runs one over lines. Raises SaslError for a response that makes no sense.
Source: RFC 4954, RFC 4616 (PLAIN), RFC 4422 (EXTERNAL), draft-murchison-sasl-login (LOGIN).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Generator
from dataclasses import field
from typing import Final, Protocol

from relay.mail.frozen import frozen
from relay.mail.reply import Reply
from relay.mail.session import Login

AUTH_REFUSED: Final = 535
_ESCAPE: Final = re.compile(r"=(2C|3D|)")


class SaslError(Exception):
    """The client's response does not make sense; the text is fit for a 501 reply."""


class Claim(Protocol):
    """Who a client says it is, and as whom it wants to act: empty in most clients, else the same."""

    @property
    def username(self) -> str: ...

    @property
    def authorize_as(self) -> str: ...

    def last_words(self, result: Reply | Login) -> bytes:
        """A challenge to send before the result, which the client answers with nothing of meaning; empty: none."""
        ...


Steps = Generator[bytes, bytes, Claim]


@frozen
class Credentials:
    """A password. `authorize_as` is PLAIN's authzid."""

    username: str
    password: str
    authorize_as: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, password hidden)"

    def last_words(self, result: Reply | Login) -> bytes:
        return b""


def decode_response(line: bytes) -> bytes:
    """One base64 response line; `=` stands for the empty one (RFC 4954 §4). Raises SaslError."""
    if line == b"=":
        return b""
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error:
        raise SaslError("Response is not base64") from None


def text_of(value: bytes) -> str:
    """Raises SaslError."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise SaslError("Response is not UTF-8") from None


def sasl_name(text: str) -> str:
    """RFC 5801 §4: `=2C` is a comma, `=3D` an equals sign, and no other `=` may be there. Raises SaslError."""

    def one(match: re.Match[str]) -> str:
        if not match[1]:
            raise SaslError("Malformed user name: write = as =3D and a comma as =2C")
        return "," if match[1] == "2C" else "="

    return _ESCAPE.sub(one, text)


def plain() -> Steps:
    """RFC 4616: authzid NUL authcid NUL passwd."""
    response = yield b""
    parts = response.split(b"\0")
    if len(parts) != 3 or not parts[1]:
        raise SaslError("Malformed PLAIN response")
    authorize_as, username, password = map(text_of, parts)
    return Credentials(username, password, authorize_as)


def login() -> Steps:
    """Two prompts, in the words old clients compare against."""
    username = text_of((yield b"Username:"))
    password = text_of((yield b"Password:"))
    if not username:
        raise SaslError("Empty user name")
    return Credentials(username, password)


@frozen
class ExternalClaim:
    """Proved by the handshake already; `username` is the authorization identity, mostly empty."""

    username: str
    certificate: bytes = field(repr=False)
    authorize_as: str = ""

    def last_words(self, result: Reply | Login) -> bytes:
        return b""


def external(certificate: bytes) -> Steps:
    """RFC 4422 appendix A: as whom, or an empty response."""
    return ExternalClaim(text_of((yield b"")), certificate)


class Exchange:
    """One run of a mechanism. A step answers the next challenge line or, at the end, the Claim."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def begin(self, initial: bytes) -> bytes | Claim:
        """`initial` is the initial response (RFC 4954 §4), empty where the client sent none."""
        challenge = next(self._steps)
        return self.respond(initial) if initial else base64.b64encode(challenge)

    def respond(self, line: bytes) -> bytes | Claim:
        """Raises SaslError; then the exchange is over."""
        try:
            return base64.b64encode(self._steps.send(decode_response(line)))
        except StopIteration as done:
            claim: Claim = done.value
            return claim


class LastStep:
    """After the last words the client sends one more line; then it gets the result."""

    def __init__(self, result: Reply | Login) -> None:
        self._result = result

    def respond(self, line: bytes) -> Reply | Login:
        """Raises SaslError where a client that is let in answers with more than nothing."""
        if isinstance(self._result, Login) and decode_response(line):
            raise SaslError("Nothing but an empty response is awaited")
        return self._result
