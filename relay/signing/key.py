"""One signing key: what it signs with, and what DNS has to show of it.

In: PKCS#8 in PEM, or nothing for a new key. Out: SigningKey values. Does no I/O. Raises OperatorError.
Source: RFC 6376 §3.3, RFC 8301 §3.2 (RSA sizes), RFC 8463 (Ed25519).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from relay.mail.errors import OperatorError

Algorithm = Literal["rsa", "ed25519"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)

RSA_BITS: Final = 2048
_RSA_BITS_ALLOWED: Final = range(2048, 4097)
_PKCS1: Final = padding.PKCS1v15()
_SHA256: Final = Prehashed(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and the name its public half has in DNS. Only an `active` one signs."""

    domain: str
    selector: str
    algorithm: Algorithm
    private: RSAPrivateKey | Ed25519PrivateKey = field(repr=False)
    active: bool = True

    @property
    def dns_name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def public_base64(self) -> str:
        """The `p=` value: SubjectPublicKeyInfo for RSA, the bare 32 octets for Ed25519 (RFC 8463 §4)."""
        public = self.private.public_key()
        if isinstance(self.private, RSAPrivateKey):
            encoded = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        else:
            encoded = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64.b64encode(encoded).decode("ascii")

    def sign_digest(self, digest: bytes) -> bytes:
        """The signature over a SHA-256 digest. Ed25519 signs the digest as its message (RFC 8463 §3)."""
        if isinstance(self.private, RSAPrivateKey):
            return self.private.sign(digest, _PKCS1, _SHA256)
        return self.private.sign(digest)


def new_private_key(algorithm: Algorithm) -> bytes:
    """A fresh key as unencrypted PKCS#8 in PEM."""
    private = generate_private_key(65537, RSA_BITS) if algorithm == "rsa" else Ed25519PrivateKey.generate()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def parse_private_key(data: bytes, algorithm: Algorithm) -> RSAPrivateKey | Ed25519PrivateKey:
    """The key in `data`. Raises OperatorError when it is no key, another kind, or an RSA key of a bad size."""
    try:
        # The file is private and the key was sound when it was made: proving its primes again costs 30 ms a key.
        private = load_pem_private_key(data, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OperatorError("not an unencrypted PKCS#8 private key in PEM; replace it") from error
    if algorithm == "rsa" and isinstance(private, RSAPrivateKey):
        if private.key_size not in _RSA_BITS_ALLOWED:
            raise OperatorError(f"an RSA key of {private.key_size} bits; use 2048 to 4096")
        return private
    if algorithm == "ed25519" and isinstance(private, Ed25519PrivateKey):
        return private
    raise OperatorError(f"not an {algorithm} key; name the file by what it holds")
