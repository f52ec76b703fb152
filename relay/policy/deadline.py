"""Deadline: what it means that a message is to be delivered by a time. Pure.

Returned when it is late (mode R), it is not tried any more from then on. Told of when it is late (N), it is tried at
that time whatever its retry profile says, so that the notice says what holds it just then.
Source: RFC 2852 §4.1.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from relay.mail.dates import date_time
from relay.mail.envelope import Envelope, Recipient
from relay.mail.reply import Reply, reply
from relay.ports import RecipientResult

_LONGEST: Final = 999_999_999  # nine digits (RFC 2852 §4)


def is_over(envelope: Envelope, now: float) -> bool:
    """Whether it has to be returned instead of being tried."""
    return envelope.by_mode == "R" and envelope.deliver_by is not None and now >= envelope.deliver_by


def too_late(envelope: Envelope) -> Reply:
    """Why it is returned (RFC 3463 §3.5: X.4.7, delivery time expired)."""
    by = date_time(envelope.deliver_by or 0.0)
    return reply(554, "5.4.7", f"Could not be delivered by {by}, and its sender wants it back then")


def seconds_left(envelope: Envelope, now: float) -> int | None:
    """As BY says it; negative when it is late. None where no time was given."""
    if envelope.deliver_by is None:
        return None
    return max(-_LONGEST, min(_LONGEST, math.floor(envelope.deliver_by - now)))


def awake_by(envelope: Envelope, result: RecipientResult, now: float) -> RecipientResult:
    """A wait that would go beyond the time ends at it; the attempt then is one more than the retry profile has."""
    by = envelope.deliver_by
    if by is None or result.awaits or result.next_at is None or not now < by < result.next_at:
        return result
    return replace(result, next_at=by, counts=result.counts and envelope.by_mode == "R")


def is_late(envelope: Envelope, now: float) -> bool:
    """Whether its sender is to hear that it is late."""
    return envelope.by_mode == "N" and envelope.deliver_by is not None and now >= envelope.deliver_by


def owes_relayed(envelope: Envelope, recipient: Recipient, *, passed_on: bool) -> bool:
    """Whether the sender hears that it was handed on: by a trace, or because nobody watches the time from here on.

    RFC 2852 §4.1.4: unless NOTIFY=NEVER.
    """
    if "NEVER" in recipient.notify or envelope.deliver_by is None:
        return False
    return envelope.by_trace or (envelope.by_mode == "N" and not passed_on)
