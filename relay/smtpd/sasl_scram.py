"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS: the messages of the exchange, read and written.

In: a ScramBook, which knows salts and checks proofs; the octets of the channel binding `tls-server-end-point`, empty
where there are none. Out: a ScramClaim, proved or not: an unknown name and a wrong password part ways nowhere before.
Raises SaslError for what is no such message. Sources: RFC 5802 §5 to §7, RFC 7677, RFC 5929 §4.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from relay.mail.reply import Reply
from relay.mail.session import Login
from relay.ports import ScramBook, ScramProved
from relay.smtpd.sasl import SaslError, Steps, sasl_name, text_of

BINDING: Final = "tls-server-end-point"
_NONCE: Final = 18  # octets, before base64
# `m` asks for an extension that nobody knows yet, and has to end the exchange (RFC 5802 §5.1).
_FIRST: Final = re.compile(
    r"(?P<header>(?P<flag>[ny]|p=(?P<binding>[A-Za-z0-9.-]+)),(?:a=(?P<authorize_as>[^,]+))?,)"
    r"(?P<bare>n=(?P<username>[^,]+),r=(?P<nonce>[!-+\--~]+)(?:,(?!m)[A-Za-z]=[^,]+)*)\Z"
)
_FINAL: Final = re.compile(
    r"(?P<bare>c=(?P<binding>[A-Za-z0-9+/=]+),r=(?P<nonce>[!-+\--~]+)(?:,(?!m)[A-Za-z]=[^,]+)*),p=(?P<proof>[A-Za-z0-9+/=]+)\Z"
)


@dataclass(frozen=True, slots=True)
class ScramClaim:
    """`proved` is None where the proof does not hold."""

    username: str
    authorize_as: str
    proved: ScramProved | None = field(repr=False)

    def last_words(self, result: Reply | Login) -> bytes:
        """The server proves that it knows the verifier: to nobody but who proved the password."""
        if self.proved is None or not isinstance(result, Login):
            return b""
        return b"v=" + base64.b64encode(self.proved.signature)


def scram(book: ScramBook, end_point: bytes, random_bytes: Callable[[int], bytes], *, plus: bool) -> Steps:
    """`plus`: the client chose the mechanism that binds the channel."""
    first = _match(_FIRST, (yield b""), "first")
    _check_flag(first, plus=plus, end_point=end_point)
    username, authorize_as = sasl_name(first["username"]), sasl_name(first["authorize_as"] or "")
    parameters = book.parameters(username)
    nonce = first["nonce"] + base64.b64encode(random_bytes(_NONCE)).decode("ascii")
    challenge = f"r={nonce},s={base64.b64encode(parameters.salt).decode('ascii')},i={parameters.iterations}"
    final = _match(_FINAL, (yield challenge.encode("utf-8")), "final")
    if final["nonce"] != nonce:
        raise SaslError("The SCRAM nonce is not the one that was given")
    message = f"{first['bare']},{challenge},{final['bare']}".encode()
    proved = book.prove(username, message, _octets(final["proof"]))
    if _octets(final["binding"]) != first["header"].encode() + (end_point if plus else b""):
        # RFC 5802 §6: another channel than ours, so somebody is between; no word of the server's.
        proved = None
    return ScramClaim(username, authorize_as, proved)


def _check_flag(first: re.Match[str], *, plus: bool, end_point: bytes) -> None:
    """RFC 5802 §6: a client that would bind, and was told by somebody between that the server could not, is stopped."""
    if first["flag"] == "y" and end_point:
        raise SaslError("Channel binding is offered here; was the list of mechanisms changed on its way?")
    if (first["binding"] is not None) != plus:
        raise SaslError("The channel binding flag does not go with the mechanism")
    if plus and first["binding"] != BINDING:
        raise SaslError(f"The only channel binding here is {BINDING}")


def _match(pattern: re.Pattern[str], response: bytes, which: str) -> re.Match[str]:
    match = pattern.match(text_of(response))
    if match is None:
        raise SaslError(f"Malformed SCRAM client-{which}-message")
    return match


def _octets(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise SaslError("A value of the SCRAM client-final-message is not base64") from None
