"""An issuer of tokens for tests: keys of every allowed kind, and tokens as they are or twisted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://login.example.com"
NOW = 1_800_000_000.0


@cache
def private_key(algorithm: str, which: int) -> Any:
    """`which` tells several of a kind apart."""
    if algorithm.startswith(("RS", "PS")):
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def jwk(algorithm: str, kid: str | None, which: int = 0, **more: Any) -> dict[str, Any]:
    """The public half."""
    kind = {"R": RSAAlgorithm, "P": RSAAlgorithm, "E": ECAlgorithm}[algorithm[0]]
    kind = OKPAlgorithm if algorithm == "EdDSA" else kind
    key = kind.to_jwk(private_key(algorithm, which).public_key(), as_dict=True)
    return {**key, "key_ops": ["verify"], "alg": algorithm, **({"kid": kid} if kid is not None else {}), **more}


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def token(algorithm: str = "RS256", kid: str | None = "k1", which: int = 0, **claims: Any) -> str:
    """A good one but for `claims`; None takes a claim away."""
    given = {
        "iss": ISSUER, "aud": "smtp", "email": "app1", "exp": NOW + 300, "iat": NOW, "nbf": NOW, **claims,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    headers = {"kid": kid} if kid is not None else {}
    return jwt.PyJWS().encode(
        json.dumps(given).encode(), private_key(algorithm, which), algorithm=algorithm, headers=headers
    )


@dataclass
class ManualClock:
    time: float = NOW

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time - NOW + 1000.0
