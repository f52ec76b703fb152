"""API keys: `sk_live_<id>_<secret>`, 256 random bits behind a public id.

The id finds the stored key, a constant-time comparison of SHA-256 digests decides; an unknown id is compared too. A
random key needs no slow hash. Only the digest is stored; the key is shown once. Never raises for what a client sends.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from relay.mail.session import Login
from relay.ports import ApiKeySource

KEY_PREFIX: Final = "sk_live_"
SCOPES: Final = (
    "messages:send",
    "messages:read",
    "messages:cancel",
    "suppressions:read",
    "suppressions:write",
    "templates:read",
    "templates:write",
    "webhooks:read",
    "webhooks:write",
    "logs:read",
    "analytics:read",
)
_BASE32: Final = "abcdefghijkmnpqrstuvwxyz23456789"
_BASE62: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_ID_LENGTH: Final = 12
_SECRET_LENGTH: Final = 43  # 62 ** 43 > 2 ** 256
_KEY = re.compile(rf"{KEY_PREFIX}([a-z0-9]{{{_ID_LENGTH}}})_[A-Za-z0-9]{{{_SECRET_LENGTH}}}\Z")
_NOBODY: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at its birth: `text` goes to the client and nowhere else, `id` and `digest` to the registry."""

    id: str
    text: str = field(repr=False)
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApiKeyGrant:
    """Who calls, and what the key may do."""

    login: Login
    scopes: tuple[str, ...]

    def allows(self, scope: str) -> bool:
        """True for `messages:send` when granted as such, as `messages:*` or as `*`."""
        return bool({scope, f"{scope.partition(':')[0]}:*", "*"}.intersection(self.scopes))


def generate_key(choice: Callable[[str], str] = secrets.choice) -> NewKey:
    """A new key. `choice` picks one character of a string and must be cryptographically random."""
    key_id = "".join(choice(_BASE32) for _ in range(_ID_LENGTH))
    text = f"{KEY_PREFIX}{key_id}_" + "".join(choice(_BASE62) for _ in range(_SECRET_LENGTH))
    return NewKey(key_id, text, digest_of(text))


def digest_of(key: str) -> bytes:
    """SHA-256 of the whole key as shown."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def unknown_scopes(scopes: Iterable[str]) -> list[str]:
    """Those that no key can have: neither a scope, nor `NOUN:*` of one, nor `*`."""
    known = {*SCOPES, "*", *(f"{scope.partition(':')[0]}:*" for scope in SCOPES)}
    return [scope for scope in scopes if scope not in known]


class ApiKeyVerifier:
    """Checks keys against a source; cheap enough for the loop."""

    def __init__(self, source: ApiKeySource) -> None:
        self._source = source

    def verify(self, key: str) -> ApiKeyGrant | None:
        """The grant, or None for anything but the whole of an enabled key. The Login's name is `sk_live_<id>`."""
        match = _KEY.match(key)
        if match is None:
            return None
        stored = self._source.find_api_key(match[1])
        same = hmac.compare_digest(digest_of(key), stored.key_hash if stored else _NOBODY)
        if stored is None or not same:
            return None
        return ApiKeyGrant(Login(stored.account, KEY_PREFIX + stored.id, stored.rights), stored.scopes)
