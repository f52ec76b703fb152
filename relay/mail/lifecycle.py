"""The life of a recipient: one table, from which the diagram in docs/lifecycle.md is drawn.

A recipient is in exactly one state; only the transitions listed here exist. In a terminal state nothing is left to do,
but later news may still change what is known: who was handed on turns out to be delivered, or bounced after all.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from relay.mail.event import EventKind


class State(IntEnum):
    """Stored as the number. Below 10 something is still to be done; from 10 on the recipient is terminal."""

    QUEUED = 0
    DEFERRED = 1
    HELD = 2
    SENT = 10
    DELIVERED = 11
    BOUNCED = 12
    EXPIRED = 13
    CANCELLED = 14

    @property
    def terminal(self) -> bool:
        return self >= 10


MAYBE_DELIVERED: Final = "it may have been delivered"
"""Stands in the last answer of who is in doubt."""

TRANSITIONS: dict[State, dict[EventKind, State]] = {
    State.QUEUED: {
        EventKind.DEFERRED: State.DEFERRED,
        EventKind.IN_DOUBT: State.DEFERRED,
        EventKind.AWAITED: State.DEFERRED,
        EventKind.SENT: State.SENT,
        EventKind.DELIVERED: State.DELIVERED,
        EventKind.BOUNCED: State.BOUNCED,
        EventKind.EXPIRED: State.EXPIRED,
        EventKind.CANCELLED: State.CANCELLED,
        EventKind.HELD: State.HELD,
        EventKind.REROUTED: State.QUEUED,
    },
    State.HELD: {
        EventKind.RELEASED: State.QUEUED,
        EventKind.DELIVERED: State.DELIVERED,
        EventKind.BOUNCED: State.BOUNCED,
        EventKind.EXPIRED: State.EXPIRED,
        EventKind.CANCELLED: State.CANCELLED,
    },
}
TRANSITIONS[State.SENT] = {EventKind.DELIVERED: State.DELIVERED, EventKind.BOUNCED: State.BOUNCED}
TRANSITIONS[State.DELIVERED] = {EventKind.BOUNCED: State.BOUNCED}
TRANSITIONS[State.DEFERRED] = TRANSITIONS[State.QUEUED]


def next_state(state: State, event: EventKind) -> State:
    """The state after `event`. Raises ValueError for a transition that does not exist."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise ValueError(f"a recipient that is {state.name.lower()} cannot be {event}") from None
