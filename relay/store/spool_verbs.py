"""The operator's verbs on a spool: which recipients a selection means, and the rows that change them.

Comes in: Act. Goes out: what was found, with what is in flight marked, and rows for `recipient` and `event`. Everything
is read inside the writer's transaction, so nothing can begin, end or arrive between the choice and the change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import apsw

from relay.mail.event import EventKind
from relay.mail.lifecycle import State, next_state
from relay.store.ids import to_number, to_text
from relay.store.rows import Row, microseconds, query


class Verb(StrEnum):
    """What the operator can do to recipients that are not finished."""

    HOLD = "hold"
    RELEASE = "release"
    CANCEL = "cancel"
    RETRY = "retry"


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
    """At most `limit` recipients after the place `after` (message id, index), in the order of ids."""

    verb: Verb
    selection: Selection
    dry_run: bool = False
    after: tuple[str, int] | None = None
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class Acted:
    """A recipient the selection means. `state` is what it was; one that is `in_flight` was not touched."""

    message_id: str
    index: int
    address: str
    state: str
    in_flight: bool


EVENTS: Final = {
    Verb.HOLD: EventKind.HELD,
    Verb.RELEASE: EventKind.RELEASED,
    Verb.CANCEL: EventKind.CANCELLED,
}
_APPLIES: Final = {
    Verb.HOLD: (State.QUEUED, State.DEFERRED),
    Verb.RELEASE: (State.HELD,),
    Verb.CANCEL: (State.QUEUED, State.DEFERRED, State.HELD),
    Verb.RETRY: (State.QUEUED, State.DEFERRED),
}
_IN_FLIGHT: Final = (
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


def select(connection: apsw.Connection, act: Act) -> list[Found]:
    """Recipients the verb applies to, in the order of ids. Raises StoreError for what is no id."""
    conditions, bindings = _conditions(act)
    text = (
        f"SELECT r.message, r.n, r.address, r.state, r.reply, r.remote_id, {_IN_FLIGHT}"  # noqa: S608 - our own text
        " FROM recipient r JOIN message m ON m.id = r.message WHERE r.message IN (SELECT message FROM body) AND "
        f"{' AND '.join(conditions)} ORDER BY r.message, r.n LIMIT ?"
    )
    return [
        Found(
            Acted(to_text(number), n, address, State(state).name.lower(), bool(in_flight)),
            number,
            State(state),
            reply,
            remote_id,
        )
        for number, n, address, state, reply, remote_id, in_flight in query(connection, text, [*bindings, act.limit])
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
    if act.after is not None:
        also("(r.message, r.n) > (?, ?)", to_number(act.after[0]), act.after[1])
    return conditions, bindings


def changes(
    found: Sequence[Found], verb: Verb, at: int, sequence: Callable[[], int]
) -> tuple[list[Row], list[Row], set[int]]:
    """Rows for recipients and events, and the messages that may have ended, for what is not in flight.

    Each message made due gets a time of its own, so that a reader can walk along a whole queue made due at once.
    """
    settled: list[Row] = []
    events: list[Row] = []
    touched = [one for one in found if not one.acted.in_flight]
    newest_first = sorted({one.number for one in touched}, reverse=True)
    due_at = {number: at - place for place, number in enumerate(newest_first)}
    kind = EVENTS.get(verb)
    for one in touched:
        state = next_state(one.state, kind) if kind else one.state
        next_at = due_at[one.number] if state < State.HELD else 0
        reply = "cancelled by the operator" if verb is Verb.CANCEL else one.reply
        settled.append((one.number, one.acted.index, int(state), 0, next_at, reply, one.remote_id))
        if kind:
            events.append((one.number, sequence(), at, one.acted.index, kind.value, ""))
    return settled, events, {one.number for one in touched} if verb is Verb.CANCEL else set()
