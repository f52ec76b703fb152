"""KeyRing: the public keys of one issuer of tokens, read from a file or over https, kept and renewed.

In: `read`, which gives the JWKS document (RFC 7517) or raises OSError. Out: the key of a token's `kid`. A `kid` nobody
knows makes it read again, but for `floor` seconds after the last attempt, whoever asks; so do keys older than `age`,
while they are still used. Keys that could not be renewed for a day are none. Raises AuthUnavailableError without keys.
Only keys that can verify one of `algorithms` are taken: no shared secret, no RSA key below 2048 bits.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from relay.mail.errors import AuthUnavailableError
from relay.ports import Clock

_MOST_KEYS: Final = 100
_LONGEST_USE: Final = 86_400.0
_FEWEST_RSA_BITS: Final = 2048


class JwksError(ValueError):
    """No set of keys; the text says what is wrong."""


def parse_jwks(document: bytes, algorithms: tuple[str, ...]) -> dict[str, jwt.PyJWK]:
    """The usable keys by `kid`; one key without a name is called `""`. Raises JwksError."""
    try:
        listed = json.loads(document)["keys"]
        entries = [entry for entry in listed[:_MOST_KEYS] if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise JwksError('no JSON Web Key Set: {"keys": [...]} is awaited (RFC 7517)') from None
    keys: dict[str, jwt.PyJWK] = {}
    for entry in entries:
        key = _usable(entry, algorithms)
        if key is not None:
            kid = entry.get("kid")
            keys[kid if isinstance(kid, str) else ""] = key
    if not keys:
        raise JwksError(f"no public key for one of {', '.join(algorithms)} in it")
    return keys


def _usable(entry: dict[str, Any], algorithms: tuple[str, ...]) -> jwt.PyJWK | None:
    """What is for another use, or in a form we do not know, is for others."""
    try:
        if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ("verify",)) or "d" in entry:
            return None
        key = jwt.PyJWK(entry)
    except Exception:  # it raises whatever it stumbles over: KeyError for a member that is missing, and more
        return None
    if key.algorithm_name not in algorithms:
        return None
    weak = isinstance(key.key, RSAPublicKey) and key.key.key_size < _FEWEST_RSA_BITS
    return None if weak else key


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds: keys are renewed when older than `age`; no two attempts come closer than `floor`."""

    age: float
    floor: float


class KeyRing:
    """For one event loop. `failed` hears of a document that could not be had or used."""

    def __init__(
        self,
        read: Callable[[], Awaitable[bytes]],
        algorithms: tuple[str, ...],
        freshness: Freshness,
        clock: Clock,
        failed: Callable[[str], None],
    ) -> None:
        self._read = read
        self._algorithms = algorithms
        self._freshness = freshness
        self._clock = clock
        self._failed = failed
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = 0.0
        self._tried_at: float | None = None
        self._renewal: asyncio.Task[None] | None = None

    def take(self, document: bytes) -> None:
        """Use these keys from now on. Raises JwksError, and keeps those it has."""
        self._keys = parse_jwks(document, self._algorithms)
        self._read_at = self._clock.monotonic()

    async def find(self, kid: str | None) -> jwt.PyJWK | None:
        """The key of that name, the only key where a token names none, or None. Raises AuthUnavailableError."""
        age = self._clock.monotonic() - self._read_at
        found = self._named(kid)
        if not self._keys or age > _LONGEST_USE or found is None:
            await self._renew()
            found = self._named(kid)
        elif age > self._freshness.age:
            self._start_renewal()
        if not self._keys or self._clock.monotonic() - self._read_at > _LONGEST_USE:
            raise AuthUnavailableError("the keys of the tokens' issuer cannot be had")
        return found

    def _named(self, kid: str | None) -> jwt.PyJWK | None:
        if kid is not None:
            return self._keys.get(kid)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    async def _renew(self) -> None:
        """Wait for the one renewal there is; none where the last attempt was a moment ago."""
        self._start_renewal()
        if self._renewal is not None:
            # Shielded: a client that hangs up does not take the keys from others.
            await asyncio.shield(self._renewal)

    def _start_renewal(self) -> None:
        now = self._clock.monotonic()
        if self._renewal is None and (self._tried_at is None or now - self._tried_at >= self._freshness.floor):
            self._tried_at = now
            self._renewal = asyncio.get_running_loop().create_task(self._renewed())

    async def _renewed(self) -> None:
        try:
            self.take(await self._read())
        except (OSError, JwksError) as error:
            self._failed(str(error) or type(error).__name__)
        finally:
            self._renewal = None
