"""TokenVerifier: a bearer token in, the Login of the credential it speaks of out.

A token is a JWT signed by a configured issuer (RFC 7519, RFC 9068): signature by a key of that issuer and one of the
allowed algorithms, `iss` and `aud` exact, `exp` (and `nbf`, `iat` where present) within the clock skew. The claim that
names the user has to name an enabled credential, whose account and rights are the login's. Never raises for what a
client sends: None, and `refused` hears why in words without the token. Raises AuthUnavailableError where an issuer's
keys cannot be had.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt

from relay.auth.jwks import KeyRing
from relay.mail.session import Login
from relay.ports import Clock, CredentialSource

_LONGEST_TOKEN: Final = 9000  # an AUTH line holds no more
_OPTIONS: Final[jwt.types.SigOptions] = {"enforce_minimum_key_length": True}


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs tokens, and what has to stand in them."""

    name: str
    issuer: str
    audience: tuple[str, ...]
    username_claim: str
    algorithms: tuple[str, ...]
    skew: float
    keys: KeyRing


class _RefusedError(Exception):
    """Why a token is none; the text is ours but for the names of claims."""


class TokenVerifier:
    """The port of the same name over the issuers that are configured."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        source: CredentialSource,
        clock: Clock,
        refused: Callable[[str, str], None],
    ) -> None:
        """`refused` hears the issuer's name, empty while unknown, and the reason."""
        self._issuers = {one.issuer: one for one in issuers}
        self._source = source
        self._clock = clock
        self._refused = refused
        self._jws = jwt.PyJWS(algorithms=sorted({name for one in issuers for name in one.algorithms}))

    async def verify(self, token: str, username: str) -> Login | None:
        """See the port."""
        issuer = None
        try:
            issuer = self._issuer_of(token)
            claims = await self._verified(token, issuer)
            self._check_claims(claims, issuer)
            return self._login(claims, issuer, username)
        except _RefusedError as reason:
            self._refused(issuer.name if issuer else "", str(reason))
            return None

    def _issuer_of(self, token: str) -> Issuer:
        """By what the token says of itself; believed only when its signature holds."""
        if len(token) > _LONGEST_TOKEN:
            raise _RefusedError("longer than a token may be")
        try:
            payload = self._jws.decode_complete(token, options={"verify_signature": False})["payload"]
        except jwt.PyJWTError:
            raise _RefusedError("no signed JSON Web Token") from None
        issuer = self._issuers.get(str(_object(payload).get("iss")))
        if issuer is None:
            raise _RefusedError("its issuer is none of ours")
        return issuer

    async def _verified(self, token: str, issuer: Issuer) -> Mapping[str, Any]:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError:
            raise _RefusedError("no signed JSON Web Token") from None
        key = await issuer.keys.find(kid)
        if key is None:
            raise _RefusedError("signed by a key its issuer does not publish")
        try:
            found = self._jws.decode_complete(token, key, algorithms=list(issuer.algorithms), options=_OPTIONS)
        except jwt.InvalidAlgorithmError:
            raise _RefusedError("signed by an algorithm that is not allowed, or not the key's") from None
        except jwt.PyJWTError:
            raise _RefusedError("its signature does not hold") from None
        return _object(found["payload"])

    def _check_claims(self, claims: Mapping[str, Any], issuer: Issuer) -> None:
        """RFC 7519 §4.1. Times are seconds since the epoch."""
        if claims.get("iss") != issuer.issuer:
            raise _RefusedError("its issuer is none of ours")
        given = claims.get("aud")
        audience = given if isinstance(given, list) else [given]
        if not any(isinstance(one, str) and one in issuer.audience for one in audience):
            raise _RefusedError("not meant for us: aud is none of `audience`")
        now = self._clock.now()
        if _time(claims, "exp", required=True) + issuer.skew <= now:
            raise _RefusedError("expired")
        if max(_time(claims, "nbf"), _time(claims, "iat")) - issuer.skew > now:
            raise _RefusedError("not valid yet; are both clocks right?")

    def _login(self, claims: Mapping[str, Any], issuer: Issuer, username: str) -> Login:
        name = claims.get(issuer.username_claim)
        if not isinstance(name, str) or not name:
            raise _RefusedError(f"has no claim {issuer.username_claim!r}")
        if issuer.username_claim == "email" and claims.get("email_verified") is False:
            raise _RefusedError("its e-mail address is not verified")
        credential = self._source.find_credential(name)
        if credential is None:
            raise _RefusedError(f"its claim {issuer.username_claim!r} names no enabled credential")
        if username and self._source.find_credential(username) != credential:
            raise _RefusedError("the client names another user than its token does")
        return Login(credential.account, credential.username, credential.rights)


def _object(payload: bytes) -> Mapping[str, Any]:
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise _RefusedError("no signed JSON Web Token")
    return claims


def _time(claims: Mapping[str, Any], name: str, *, required: bool = False) -> float:
    """0 where it is missing and may be. Raises _RefusedError."""
    value = claims.get(name)
    if value is None and not required:
        return 0.0
    try:
        moment = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:  # an integer of hundreds of digits
        moment = math.nan
    if not math.isfinite(moment):
        raise _RefusedError(f"its {name} is no time")
    return moment
