"""The operator's verbs on a spool: which recipients a selection means, and the rows that change them.

Comes in: Act. Goes out: what was found, with what is in flight marked, and rows for `recipient` and `event`. A reader
walks along the queue a stretch at a time (`find`), so that a filter over millions holds up nobody; the writer asks
again, inside its transaction, about the few it is to change (`recheck`), so nothing begins or ends in between.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import apsw

from relay.mail.event import EventKind
from relay.mail.lifecycle import State, next_state
from relay.store.ids import to_number, to_text
from relay.store.rows import Row, microseconds, query, value


class Verb(StrEnum):
    """What the operator can do to recipients that are not finished."""

    HOLD = "hold"
    RELEASE = "release"
    CANCEL = "cancel"
    RETRY = "retry"
    EXPIRE = "expire"
    REROUTE = "reroute"


@dataclass(frozen=True, slots=True)
class Selection:
    """All conditions hold together; empty means any. `sender` `<>` is the null sender; `before` is a time received."""

    ids: tuple[str, ...] = ()
    account: str = ""
    domain: str = ""
    sender: str = ""
    state: str = ""
    before: float | None = None


@dataclass(frozen=True, slots=True)
class Act:
    """At most `limit` recipients after the place `after` (message id, index), in the order of ids.

    `via` is the candidate that REROUTE sets, empty to follow the routes again.
    """

    verb: Verb
    selection: Selection
    dry_run: bool = False
    after: tuple[str, int] | None = None
    limit: int = 1000
    via: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """Do it to these: message number and index, at most as many as one commit should hold.

    `at` (microseconds) is when the last of them becomes due, where the verb makes them due.
    """

    act: Act
    keys: tuple[tuple[int, int], ...]
    at: int


@dataclass(frozen=True, slots=True)
class Acted:
    """A recipient the selection means. `state` is what it was; one that is `in_flight` was not touched."""

    message_id: str
    index: int
    address: str
    state: str
    in_flight: bool
    reply: str = ""


EVENTS: Final = {
    Verb.HOLD: EventKind.HELD,
    Verb.RELEASE: EventKind.RELEASED,
    Verb.CANCEL: EventKind.CANCELLED,
    Verb.REROUTE: EventKind.REROUTED,
}
_APPLIES: Final = {
    Verb.HOLD: (State.QUEUED, State.DEFERRED),
    Verb.RELEASE: (State.HELD,),
    Verb.CANCEL: (State.QUEUED, State.DEFERRED, State.HELD),
    Verb.RETRY: (State.QUEUED, State.DEFERRED),
    Verb.EXPIRE: (State.QUEUED, State.DEFERRED, State.HELD),
    Verb.REROUTE: (State.QUEUED, State.DEFERRED, State.HELD),
}
STRETCH: Final = 2000
_NO_INDEX: Final = -1
_BEYOND: Final = 2**31
IN_FLIGHT: Final = (
    "EXISTS (SELECT 1 FROM attempt a, json_each(a.recipients) j"
    " WHERE a.message = r.message AND a.ended_at IS NULL AND j.value = r.n)"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A row of the selection, with what of it is kept."""

    acted: Acted
    number: int
    state: State
    reply: str
    remote_id: str
    awaits: str
    doubt: str


@dataclass(slots=True)
class Changes:
    """Rows for `recipient` and `event`; `ways` are new ways out, `ended` the messages that may have ended."""

    settled: list[Row] = field(default_factory=list)
    ways: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)


Place = tuple[int, int]
"""A message's number and a recipient's index."""


def find(connection: apsw.Connection, act: Act, after: Place | None, limit: int) -> tuple[list[Found], Place | None]:
    """One stretch of the queue: whom the verb means there, and from where to go on, None at the end.

    Raises ValueError for what is no id.
    """
    place = after or (0, _NO_INDEX)
    last = _end_of_stretch(connection, act, place)
    if last is None:
        return [], None
    source = (
        "body b CROSS JOIN recipient r ON r.message = b.message CROSS JOIN message m ON m.id = b.message"
        " WHERE b.message >= ? AND b.message <= ? AND (r.message, r.n) > (?, ?)"
    )
    found = _select(connection, act, source, [place[0], last, *place], limit)
    return found, (found[-1].number, found[-1].acted.index) if len(found) == limit else (last, _BEYOND)


def _end_of_stretch(connection: apsw.Connection, act: Act, place: Place) -> int | None:
    """The last message to look at; None where there is none any more. Named messages are a stretch of their own."""
    if act.selection.ids:
        last = max(to_number(one) for one in act.selection.ids)
        return last if (last, _BEYOND) > place else None
    beyond = place[0] + (place[1] == _BEYOND)
    text = "SELECT max(message) FROM (SELECT message FROM body WHERE message >= ? ORDER BY message LIMIT ?)"
    last_of_all: int | None = value(connection, text, (beyond, STRETCH))
    return last_of_all


def recheck(connection: apsw.Connection, change: Change) -> list[Found]:
    """Those of the change the verb still means."""
    source = (
        "json_each(?) k CROSS JOIN recipient r ON r.message = k.value ->> 0 AND r.n = k.value ->> 1"
        " CROSS JOIN message m ON m.id = r.message WHERE true"
    )
    return _select(connection, change.act, source, [json.dumps(change.keys)], len(change.keys))


def _select(connection: apsw.Connection, act: Act, source: str, places: list[Any], limit: int) -> list[Found]:
    conditions, bindings = _conditions(act)
    text = (
        f"SELECT r.message, r.n, r.address, r.state, r.reply, r.remote_id, r.awaits, r.doubt, {IN_FLIGHT} FROM {source}"  # noqa: S608
        f" AND {' AND '.join(conditions)} ORDER BY r.message, r.n LIMIT ?"
    )
    return [
        Found(
            Acted(to_text(number), n, address, State(state).name.lower(), bool(in_flight), reply),
            number,
            State(state),
            reply,
            remote_id,
            awaits,
            doubt,
        )
        for number, n, address, state, reply, remote_id, awaits, doubt, in_flight in query(
            connection, text, [*places, *bindings, limit]
        )
    ]


def _conditions(act: Act) -> tuple[list[str], list[Any]]:
    chosen, states = act.selection, [int(state) for state in _APPLIES[act.verb]]
    conditions = ["r.state IN (SELECT value FROM json_each(?))"]
    bindings: list[Any] = [json.dumps(states)]

    def also(condition: str, *values: Any) -> None:
        conditions.append(condition)
        bindings.extend(values)

    if chosen.ids:
        also("r.message IN (SELECT value FROM json_each(?))", json.dumps([to_number(one) for one in chosen.ids]))
    if chosen.account:
        also("m.account = ?", chosen.account)
    if chosen.domain:
        also("substr(lower(r.address), -(length(?) + 1)) = '@' || ?", *[chosen.domain.lower()] * 2)
    if chosen.sender:
        wanted = "" if chosen.sender == "<>" else chosen.sender.lower()
        also("lower(coalesce(m.reverse_path, '')) = ?", wanted)
    if chosen.state:
        also("r.state = ?", int(State[chosen.state.upper()]))
    if chosen.before is not None:
        also("m.received_at <= ?", microseconds(chosen.before))
    return conditions, bindings


def changes(found: Sequence[Found], act: Act, at: int, sequence: Callable[[], int]) -> Changes:
    """What the verb does to those that are not in flight.

    Each message made due gets a time of its own, so that a reader can walk along a whole queue made due at once.
    """
    verb, kind = act.verb, EVENTS.get(act.verb)
    touched = [one for one in found if not one.acted.in_flight]
    newest_first = sorted({one.number for one in touched}, reverse=True)
    due_at = {number: at - place for place, number in enumerate(newest_first)}
    rows = Changes()
    for one in touched:
        index, stays = one.acted.index, verb is Verb.REROUTE and one.state is State.HELD
        state = next_state(one.state, kind) if kind and not stays else one.state
        next_at = due_at[one.number] if state < State.HELD else 0
        reply = "cancelled by the operator" if verb is Verb.CANCEL else one.reply
        # Another way is another way, whatever the one that took it may report yet.
        awaits = "" if verb is Verb.REROUTE else one.awaits
        rows.settled.append((one.number, index, int(state), 0, next_at, reply, one.remote_id, 0, awaits, one.doubt))
        if verb is Verb.REROUTE:
            rows.ways.append((one.number, index, act.via))
        if verb is Verb.CANCEL:
            rows.ended.add(one.number)
        if kind:
            words = (act.via or "by its route again") if verb is Verb.REROUTE else ""
            rows.events.append((one.number, sequence(), at, index, kind.value, words))
    return rows
