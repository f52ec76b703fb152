"""Event: the one record from which logs, metrics, notices and statistics derive."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class EventKind(StrEnum):
    """Names are the public contract; docs/reference/events.md defines each, and a test compares the two."""

    QUEUED = "queued"
    REJECTED = "rejected"
    DEFERRED = "deferred"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    HELD = "held"
    RELEASED = "released"
    REROUTED = "rerouted"
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True, slots=True)
class Event:
    """`at` is seconds since the epoch; `recipient` is empty for facts about the whole message."""

    at: float
    kind: EventKind
    message_id: str
    recipient: str = ""
    reply: str = ""
    detail: dict[str, str] = field(default_factory=dict)
