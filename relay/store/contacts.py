"""Contacts in a spool: what marketing platforms have yet to hear, one row a person and platform.

In: events as the spool writes them, what came of telling, the operator's verbs. Out: who is due. An event is noted in
its own transaction, so that neither a crash nor a platform that is down loses it. A row goes only where nothing was
added since it was read (`version`). Lives in the writer (changes) and on any reader.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import apsw

from relay.mail.address import comparable
from relay.ports import Contact, Told, Watch
from relay.store.rows import Row, microseconds, query, update

# An event of a message from nobody is a notice of ours: whoever sent mail is no recipient of it.
_NOTE: Final = """
INSERT INTO contact (name, person, address, facts, erase, version, since, attempts, due, words)
SELECT v.name, v.person, v.address, json_object(v.kind, v.at), 0, v.now, v.now, 0, v.now, ''
FROM v JOIN message m ON m.id = v.message
WHERE m.reverse_path IS NOT NULL
 AND (v.accounts = '[]' OR m.account IN (SELECT value FROM json_each(v.accounts)))
ON CONFLICT (name, person) DO UPDATE SET
 facts = (SELECT json_set(contact.facts, n.fullkey, max(n.value, coalesce(contact.facts ->> n.fullkey, 0)))
  FROM json_each(excluded.facts) n),
 address = iif(erase, address, excluded.address),
 version = max(version + 1, excluded.version), attempts = iif(due IS NULL, 0, attempts),
 due = coalesce(due, excluded.due)
"""
# Due since ever: an erasure does not wait behind a million others.
_ERASE: Final = """
INSERT INTO contact (name, person, address, facts, erase, version, since, attempts, due, words)
SELECT v.name, v.person, v.address, '{}', 1, v.now, v.now, 0, 0, '' FROM v WHERE true
ON CONFLICT (name, person) DO UPDATE SET address = excluded.address, facts = '{}', erase = 1,
 version = max(version + 1, excluded.version), since = excluded.since, attempts = 0, due = excluded.due, words = ''
"""
_DONE: Final = (
    # IN, for with EXISTS the writer reads the whole table.
    "DELETE FROM contact WHERE (name, person, version) IN (SELECT name, person, version FROM v)"
)
_PUT_OFF: Final = (
    "UPDATE contact SET due = v.due, attempts = v.attempts, words = v.words FROM v"
    " WHERE v.name = contact.name AND v.person = contact.person AND v.version = contact.version"
)
_AGAIN: Final = (
    "UPDATE contact SET due = ?1, attempts = 0 WHERE name = ?2 AND person IN"
    " (SELECT person FROM contact WHERE name = ?2 AND person > ?3 ORDER BY person LIMIT ?4) RETURNING person"
)
_DROP: Final = (
    "DELETE FROM contact WHERE name = ?1 AND person IN"
    " (SELECT person FROM contact WHERE name = ?1 LIMIT ?2) RETURNING 1"
)
_DUE: Final = (
    "SELECT address, facts, erase, version, since, attempts FROM contact"
    " WHERE name = ? AND due <= ? ORDER BY due LIMIT ?"
)
_WAITING: Final = "SELECT count(due) FROM contact WHERE name = ?"
_SUMMARY: Final = (
    "SELECT name, count(*), count(due), min(since), sum(erase),"
    " max(iif(words <> '' AND due IS NOT NULL, words, NULL)) FROM contact GROUP BY name ORDER BY name"
)
STRETCH: Final = 500
"""Rows a verb changes in one commit, for which mail waits."""
_GIVEN_UP: Final = "SELECT name, address, words FROM contact WHERE due IS NULL ORDER BY name, person LIMIT ?"


@dataclass(frozen=True, slots=True)
class Tell:
    """What came of telling some."""

    told: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class Erase:
    """Everything known of a person has to go, at these platforms, and what waits to be told of them now."""

    names: tuple[str, ...]
    address: str
    at: float


@dataclass(frozen=True, slots=True)
class TellAgain:
    """Of what waits for a platform, or was given up, the next stretch after this person is due now."""

    name: str
    at: float
    after: str


@dataclass(frozen=True, slots=True)
class Forget:
    """A stretch of what waits is never told."""

    name: str


class Watched:
    """Which events are noted; changes with the settings, between two commits."""

    __slots__ = ("_accounts", "_watches", "kinds")

    def __init__(self) -> None:
        self.kinds: frozenset[str] = frozenset()
        self._watches: tuple[Watch, ...] = ()
        self._accounts: dict[str, str] = {}

    def follow(self, watches: Sequence[Watch]) -> None:
        self._watches = tuple(watches)
        self._accounts = {one.name: json.dumps(one.accounts) for one in watches}
        self.kinds = frozenset(kind for one in watches for kind in one.events)

    def note(self, connection: apsw.Connection, seen: Sequence[tuple[int, str, str, int]], now: float) -> None:
        """`seen`: message, address, kind of event and when, of kinds some platform hears."""
        moment = microseconds(now)
        rows: list[Row] = [
            (message, one.name, self._accounts[one.name], comparable(address), address, kind, at, moment)
            for message, address, kind, at in seen
            for one in self._watches
            if kind in one.events
        ]
        update(connection, "message, name, accounts, person, address, kind, at, now", _NOTE, rows)


# --- in the writer -------------------------------------------------------------------------------------------


def tell(connection: apsw.Connection, operation: Tell) -> None:
    done = [(*_key(one), one.contact.version) for one in operation.told if one.done]
    update(connection, "name, person, version", _DONE, done)
    later = [
        (
            *_key(one),
            one.contact.version,
            None if one.due_at is None else microseconds(one.due_at),
            one.attempts,
            one.words,
        )
        for one in operation.told
        if not one.done
    ]
    update(connection, "name, person, version, due, attempts, words", _PUT_OFF, later)


def erase(connection: apsw.Connection, operation: Erase) -> None:
    now, person = microseconds(operation.at), comparable(operation.address)
    rows = [(name, person, operation.address, now) for name in operation.names]
    update(connection, "name, person, address, now", _ERASE, rows)


def tell_again(connection: apsw.Connection, operation: TellAgain) -> tuple[int, str]:
    """Returns how many, and after whom to go on; `""` where there is nobody more."""
    found = query(connection, _AGAIN, (microseconds(operation.at), operation.name, operation.after, STRETCH))
    return len(found), max(person for (person,) in found) if len(found) == STRETCH else ""


def forget(connection: apsw.Connection, operation: Forget) -> int:
    """Returns how many; as many as a stretch has: there may be more."""
    return len(query(connection, _DROP, (operation.name, STRETCH)))


VERBS: Final[dict[type[Any], Callable[[apsw.Connection, Any], Any]]] = {
    Tell: tell,
    Erase: erase,
    TellAgain: tell_again,
    Forget: forget,
}


def _key(told: Told) -> tuple[str, str]:
    return told.contact.name, comparable(told.contact.address)


# --- reading -------------------------------------------------------------------------------------------------


def due(connection: apsw.Connection, name: str, until: float, limit: int) -> list[Contact]:
    rows = query(connection, _DUE, (name, microseconds(until), limit))
    return [
        Contact(name, address, _facts(facts), bool(erased), version, since / 1e6, attempts)
        for address, facts, erased, version, since, attempts in rows
    ]


def waiting(connection: apsw.Connection, name: str) -> int:
    """How many wait, those given up left out."""
    [(found,)] = query(connection, _WAITING, (name,))
    return int(found)


def summary(connection: apsw.Connection) -> list[dict[str, Any]]:
    """By platform: how many wait and were given up, since when, how many erasures, and why it waits."""
    if not _kept(connection):
        return []
    return [
        {
            "name": name,
            "waiting": open_,
            "given_up": all_ - open_,
            "oldest": since / 1e6,
            "erasures": erasures,
            "words": words or "",
        }
        for name, all_, open_, since, erasures, words in query(connection, _SUMMARY)
    ]


def given_up(connection: apsw.Connection, limit: int) -> list[dict[str, str]]:
    rows = query(connection, _GIVEN_UP, (limit,)) if _kept(connection) else []
    return [{"name": name, "address": address, "words": words} for name, address, words in rows]


def _kept(connection: apsw.Connection) -> bool:
    """Whether the spool has been opened by a server that keeps contacts."""
    return bool(query(connection, "SELECT 1 FROM sqlite_schema WHERE name = 'contact'"))


def _facts(text: str) -> dict[str, float]:
    return {kind: at / 1e6 for kind, at in json.loads(text).items()}
