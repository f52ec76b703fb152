"""XOAUTH2 and OAUTHBEARER: a token of somebody who knows the user, instead of a password.

In: what the client sends. Out: a BearerClaim. Where it is refused, the client is told in JSON and answers before it
gets the reply. Raises SaslError for what is no such message.
Sources: RFC 7628, RFC 6750 §2.1 (the form of a token), Google's "XOAUTH2 mechanism" (the same in another dress).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final

from relay.mail.reply import Reply
from relay.mail.session import Login
from relay.smtpd.sasl import AUTH_REFUSED, SaslError, Steps, sasl_name, text_of

_TOKEN: Final = r"(?i:bearer) +(?P<token>[A-Za-z0-9._~+/-]+=*)"  # noqa: S105 - a pattern
_XOAUTH2: Final = re.compile(rf"user=(?P<username>[^\x01]+)\x01auth={_TOKEN}\x01\x01\Z")
_OAUTHBEARER: Final = re.compile(
    rf"(?P<flag>[ny]|p=[A-Za-z0-9.-]+),(?:a=(?P<username>[^,\x01]+))?,\x01"
    rf"(?:(?!auth=)[A-Za-z]+=[^\x01]*\x01)*auth={_TOKEN}\x01(?:(?!auth=)[A-Za-z]+=[^\x01]*\x01)*\x01\Z"
)


@dataclass(frozen=True, slots=True)
class BearerClaim:
    """`username` is empty where the token alone says who it is; `refusal` is what a client that is refused is told."""

    username: str
    token: str = field(repr=False)
    refusal: bytes
    authorize_as: str = ""

    def last_words(self, result: Reply | Login) -> bytes:
        return self.refusal if isinstance(result, Reply) and result.code == AUTH_REFUSED else b""


def xoauth2() -> Steps:
    match = _XOAUTH2.match(text_of((yield b"")))
    if match is None:
        raise SaslError("Malformed XOAUTH2 response")
    return BearerClaim(match["username"], match["token"], b'{"status":"401","schemes":"bearer"}')


def oauthbearer(configuration: str) -> Steps:
    """`configuration`: where a client learns how to get a token (OpenID Connect Discovery); empty: nobody's."""
    match = _OAUTHBEARER.match(text_of((yield b"")))
    if match is None:
        raise SaslError("Malformed OAUTHBEARER response")
    if match["flag"].startswith("p"):
        raise SaslError("OAUTHBEARER cannot bind the channel")
    told = {"status": "invalid_token"} | ({"openid-configuration": configuration} if configuration else {})
    return BearerClaim(sasl_name(match["username"] or ""), match["token"], json.dumps(told).encode("ascii"))
