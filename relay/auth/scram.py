"""SCRAM-SHA-256 on the server: verifiers to store, and the check of a client's proof.

A verifier is `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, made when a password is known in the clear.
The salt is a keyed hash of the name before the `@`, for names that exist and names that do not: so an answer tells
nothing about a name or its spellings, survives restarts, is the same in every worker, and a password and its successor
within a grace period share one challenge. A verifier of other iterations or another salt is one that is not there.
Never raises for what a client sends. Sources: RFC 5802 §3, RFC 7677 §4, RFC 5803 (the form of the verifier).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from relay.auth.saslprep import saslprep
from relay.ports import Clock, ScramParameters, ScramProved, ScramSource, StoredCredential

FEWEST_ITERATIONS: Final = 4096  # RFC 7677 §4
_SCHEME: Final = "SCRAM-SHA-256"
_SALT: Final = 16
_DIGEST: Final = 32


@dataclass(frozen=True, slots=True)
class _Keys:
    stored: bytes
    server: bytes


def scram_salt(secret: bytes, username: str) -> bytes:
    """The salt of every name that begins like `username` up to its `@`. `secret` is the registry's own."""
    identifier = username.lower().partition("@")[0].encode("utf-8", "surrogatepass")
    return _hmac(secret, b"scram-sha-256 salt " + identifier)[:_SALT]


def scram_verifier(password: str, username: str, secret: bytes, iterations: int) -> str | None:
    """What to store for a password, None for one that SASLprep forbids. Costs what `iterations` say."""
    prepared = saslprep(password)
    if prepared is None:
        return None
    return derived_verifier(prepared, scram_salt(secret, username), iterations)


def derived_verifier(prepared: bytes, salt: bytes, iterations: int) -> str:
    """RFC 5802 §3: the keys of a prepared password."""
    salted = hashlib.pbkdf2_hmac("sha256", prepared, salt, iterations)
    stored = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    return f"{_head(iterations, salt)}{_b64(stored)}:{_b64(_hmac(salted, b'Server Key'))}"


class ScramBook:
    """The port of the same name: proofs against the verifiers of one source, with the iterations in force."""

    def __init__(self, source: ScramSource, clock: Clock, iterations: int, *, offer: str = "all") -> None:
        """`offer`: `all` or `some`, how many of the credentials have to have a verifier before SCRAM is offered."""
        self._source = source
        self._clock = clock
        self._iterations = iterations
        self._everybody = offer == "all"
        self._kind = f"{_SCHEME}${iterations}"
        self._nobody = _Keys(secrets.token_bytes(_DIGEST), secrets.token_bytes(_DIGEST))

    def offered(self) -> bool:
        """See the port."""
        kinds = self._source.scram_kinds()
        return kinds == {self._kind} if self._everybody else self._kind in kinds

    def parameters(self, username: str) -> ScramParameters:
        """See the port."""
        return ScramParameters(scram_salt(self._source.scram_secret(), username), self._iterations)

    def prove(self, username: str, message: bytes, proof: bytes) -> ScramProved | None:
        """See the port. Two keys are tried for everybody: now and then a password has a successor."""
        credential = self._source.find_credential(username)
        texts = credential.scram_at(self._clock.now()) if credential else ()
        keys = list(self._keys(username, texts))
        keys += [self._nobody] * (2 - len(keys))
        fitting = [one for one in keys if _fits(one, message, proof)]
        if credential is None or not fitting or fitting[0] is self._nobody:
            return None
        login = credential.login
        return ScramProved(login, _hmac(fitting[0].server, message))

    def has_verifier(self, credential: StoredCredential) -> bool:
        """Whether the password in force has one that counts."""
        return any(self._keys(credential.username, (credential.scram,)))

    def verifier(self, password: str, credential: StoredCredential) -> str | None:
        """One that counts, for a password that was proved in the clear; beside the loop, for it takes its time."""
        return scram_verifier(password, credential.username, self._source.scram_secret(), self._iterations)

    def _keys(self, username: str, texts: tuple[str, ...]) -> Iterator[_Keys]:
        head = _head(self._iterations, scram_salt(self._source.scram_secret(), username))
        for text in texts:
            if text.startswith(head):
                stored, _, server = text.removeprefix(head).partition(":")
                yield _Keys(base64.b64decode(stored), base64.b64decode(server))


def _fits(keys: _Keys, message: bytes, proof: bytes) -> bool:
    """RFC 5802 §3: the client key comes out of the proof, and its hash is what is stored."""
    signature = _hmac(keys.stored, message)
    client_key = bytes(one ^ other for one, other in zip(proof.ljust(_DIGEST, b"\0"), signature, strict=False))
    same = hmac.compare_digest(hashlib.sha256(client_key).digest(), keys.stored)
    return same and len(proof) == _DIGEST


def _head(iterations: int, salt: bytes) -> str:
    return f"{_SCHEME}${iterations}:{_b64(salt)}$"


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
