"""Contacts: what a marketing platform has yet to hear of a recipient, where that is kept, and who tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from relay.mail.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Watch:
    """What `[contacts.NAME]` hears: these events of recipients of these accounts (none named: of all)."""

    name: str
    events: frozenset[str]
    accounts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contact:
    """What has to be told of one person. `address` is as the envelope had it; nothing of it is order: it is a state.

    `facts`: when each kind of event happened last, in seconds since the epoch. `erase`: everything known of the person
    goes first. `version` tells whether more came in the meantime.
    """

    name: str
    address: str
    facts: Mapping[str, float]
    erase: bool = False
    version: int = 0
    since: float = 0.0
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What came of telling. Neither `done` nor `due_at`: it is given up until an operator or more news brings it back.

    `attempts`: made so far, this one included where it counts.
    """

    contact: Contact
    done: bool
    due_at: float | None = None
    attempts: int = 0
    words: str = ""


class ContactOutbox(Protocol):
    """Part of a spool; written in the commit that holds the event. Raises StoreError."""

    async def contacts_due(self, name: str, until: float, limit: int) -> list[Contact]:
        """Those due longest first."""
        ...

    async def contacts_told(self, told: Sequence[Told]) -> None:
        """On disk when it returns. A contact of which more has come in is kept."""
        ...

    async def contacts_waiting(self, name: str) -> int: ...


class ContactDirectory(Protocol):
    """A platform. Never raises for a result; a repetition does no harm there."""

    async def tell(self, contact: Contact) -> Outcome:
        """Sent: it knows all of it now. Failed: it will not take this. Deferred, with whose fault it is."""
        ...

    async def close(self) -> None: ...


class Turn(Protocol):
    """One worker at a time talks to a platform."""

    def __call__(self) -> AbstractAsyncContextManager[None]: ...
