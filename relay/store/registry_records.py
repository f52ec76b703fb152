"""Registry records: what an operator may write into the registry, and what is read from it.

In: words an operator typed, or rows. Out: checked words, and records without any hash, so that no listing can show one.
Raises StoreError, one line with the fix, for what cannot be written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, get_args

from relay.mail.errors import StoreError
from relay.mail.session import SenderRights
from relay.settings import LoginTolerance, Tolerance
from relay.store.usernames import sender_address, sender_domain

HIGHEST_PRIORITY: Final = 9
CREDENTIALS: Final = (
    "SELECT username, account, sender_addresses, sender_domains, note, created_at, rotated_at, old_hash_until,"
    " disabled_at, scram IS NOT NULL, priority, tolerate FROM credential"
)
"""Gives the rows that `credential_record` takes."""
_LONGEST_NOTE: Final = 200


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """A tenant. Times are epoch seconds; `disabled_at` is None while enabled."""

    id: str
    display_name: str
    created_at: float
    disabled_at: float | None


@dataclass(frozen=True, slots=True)
class CredentialRecord:
    """An SMTP credential without its hashes, so no listing can show one. `scram`: whether it has a SCRAM verifier."""

    username: str
    account: str
    sender_addresses: tuple[str, ...]
    sender_domains: tuple[str, ...]
    note: str
    created_at: float
    rotated_at: float | None
    old_password_until: float | None
    disabled_at: float | None
    scram: bool
    priority: int
    tolerate: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """A name of client certificates, and the credential it stands for."""

    name: str
    username: str
    created_at: float


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """An API key without its hash. `id` is the public part of the key."""

    id: str
    account: str
    scopes: tuple[str, ...]
    sender_addresses: tuple[str, ...]
    sender_domains: tuple[str, ...]
    note: str
    created_at: float
    disabled_at: float | None


@dataclass(frozen=True, slots=True)
class Added:
    """Where something new belongs, and whether its account had to be created for it."""

    name: str
    account: str
    account_created: bool


def note_line(text: str) -> str:
    """`text` when it is one printable line for people. Raises StoreError."""
    if len(text) > _LONGEST_NOTE or not text.isprintable():
        raise StoreError(f"note or name {text[:20]!r}...: use one line of {_LONGEST_NOTE} printable characters at most")
    return text


def sender_rights(addresses: Iterable[str], domains: Iterable[str], priority: int = 0) -> SenderRights:
    """Rights from what an operator typed, without repeats. Raises StoreError for what cannot be granted."""
    return SenderRights(
        tuple(dict.fromkeys(map(sender_address, addresses))),
        tuple(dict.fromkeys(map(sender_domain, domains))),
        known_priority(priority),
    )


def known_priority(number: int) -> int:
    """Raises StoreError."""
    if not 0 <= number <= HIGHEST_PRIORITY:
        raise StoreError(f"priority {number}: use a number from 0 to {HIGHEST_PRIORITY}")
    return number


def known_tolerance(word: str) -> str:
    """A mistake of clients that can be tolerated by login. Raises StoreError."""
    known = get_args(LoginTolerance)
    if word in known:
        return word
    if word in get_args(Tolerance):
        raise StoreError(f"{word} happens before a client logs in; put it into tolerate of the listener it uses")
    raise StoreError(f"{word!r} is nothing to tolerate; known: {', '.join(known)}")


def lists_of(rights: SenderRights) -> tuple[str, str]:
    """As columns."""
    return json.dumps(rights.addresses), json.dumps(rights.domains)


def credential_record(row: tuple[Any, ...]) -> CredentialRecord:
    return CredentialRecord(
        *row[:2], *map(tuple_of, row[2:4]), *row[4:9], *map(bool, row[9:10]), *row[10:11], *map(tuple_of, row[11:])
    )


def tuple_of(text: str) -> tuple[str, ...]:
    """A list, as `lists_of` wrote it."""
    return tuple(json.loads(text))
