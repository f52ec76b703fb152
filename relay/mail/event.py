"""Event: the one record from which logs, metrics, notices and statistics derive."""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum

from relay.mail.frozen import frozen


class EventKind(StrEnum):
    """Names are the public contract; docs/reference/events.md defines each, and a test compares the two."""

    QUEUED = "queued"
    REJECTED = "rejected"
    DEFERRED = "deferred"
    AWAITED = "awaited"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    HELD = "held"
    RELEASED = "released"
    REROUTED = "rerouted"
    IN_DOUBT = "in_doubt"
    DELAYED = "delayed"
    OPENED = "opened"
    CLICKED = "clicked"
    UNSUBSCRIBED = "unsubscribed"
    COMPLAINED = "complained"


@frozen
class Event:
    """`at` is seconds since the epoch; `recipient` is empty for facts about the whole message."""

    at: float
    kind: EventKind
    message_id: str
    recipient: str = ""
    reply: str = ""
    detail: dict[str, str] = field(default_factory=dict)
