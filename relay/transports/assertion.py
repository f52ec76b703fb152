"""Assertion: a signed statement of who asks for a token and for whom, in place of a secret.

In: a private key (PEM, or Google's JSON of a service account), who asks, for whom. Out: a JWT that counts for an hour.
Raises SettingsError at construction: file and fix, never the key. Sources: RFC 7523 §3, RFC 7519; Google, "Using OAuth
2.0 for Server to Server Applications".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from relay.mail.errors import SettingsError

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFE: Final = 3600
_LONGEST: Final = 65_536
_SHORTEST_RSA: Final = 2048


class Assertion:
    """Signs as `issuer` for `subject`, towards `audience`, which is the token's address."""

    def __init__(self, setting: str, path: Path, issuer: str, subject: str, audience: str) -> None:
        """Reads the key. `setting` names its file's key in the configuration. Raises SettingsError."""
        pem, self._key_id = _read(setting, path)
        self._key, self._algorithm = _usable(setting, path, pem)
        self._claims = {"iss": issuer, "sub": subject, "aud": audience}

    def signed(self, now: float, scope: str) -> str:
        """`now` in seconds since the epoch."""
        claims = {**self._claims, "iat": int(now), "exp": int(now) + _LIFE, **({"scope": scope} if scope else {})}
        headers = {"kid": self._key_id} if self._key_id else None
        return jwt.encode(claims, self._key, self._algorithm, headers=headers)


def _read(setting: str, path: Path) -> tuple[bytes, str]:
    """The PEM and the key's id, `""` where the file does not say."""
    try:
        octets = path.read_bytes()[:_LONGEST]
    except OSError as error:
        raise SettingsError(
            f"{setting}: cannot read {path} ({error.strerror}); check the path and its owner"
        ) from error
    if not octets.lstrip().startswith(b"{"):
        return octets, ""
    try:
        found = json.loads(octets)
        return str(found["private_key"]).encode("ascii"), str(found.get("private_key_id", ""))
    except (ValueError, KeyError, RecursionError):
        raise SettingsError(f"{setting}: {path} is no key of a service account; download its JSON again") from None


def _usable(setting: str, path: Path, pem: bytes) -> tuple[RSAPrivateKey | EllipticCurvePrivateKey, str]:
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        raise SettingsError(
            f"{setting}: {path} holds no private key without a passphrase; name a PEM or JSON"
        ) from None
    if isinstance(key, RSAPrivateKey) and key.key_size >= _SHORTEST_RSA:
        return key, "RS256"
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key, "ES256"
    raise SettingsError(f"{setting}: {path} holds no key that servers take; use RSA with 2048 bits or P-256")
