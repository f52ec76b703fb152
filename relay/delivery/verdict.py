"""Verdict: an outcome and the retry profile make a recipient's result. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from relay.mail.event import EventKind
from relay.mail.lifecycle import MAYBE_DELIVERED
from relay.mail.outcome import Deferred, Delivered, Failed, Fault, InDoubt, Outcome, Sent
from relay.mail.reply import Reply, printable
from relay.policy.retry import next_attempt_at
from relay.ports import QueuedRecipient, RecipientResult
from relay.settings import RetrySettings

_SPREAD: Final = 0.1  # so that a queue that waits for one next hop does not come back all at once


def goes_elsewhere(outcome: Outcome) -> bool:
    """Whether the route's next candidate may try: this one could not carry it, and certainly has not."""
    if isinstance(outcome, Failed):
        return outcome.elsewhere
    return isinstance(outcome, Deferred) and outcome.fault is not Fault.MESSAGE


def result_of(
    waiting: QueuedRecipient,
    outcome: Outcome,
    *,
    profile: RetrySettings,
    received_at: float,
    now: float,
    route_pause: float,
    throw: float,
    put_off: float | None = None,
    hold_doubt: bool = False,
) -> RecipientResult:
    """What the attempt means for one recipient (design: docs/lifecycle.md).

    With `put_off` there was no attempt: its next hop is not dialled for that many seconds. `hold_doubt`: who may have
    the message already waits for the operator.
    """

    def result(
        kind: EventKind, *, next_at: float | None = None, remote_id: str = "", counts: bool = True
    ) -> RecipientResult:
        address = waiting.recipient.address
        return RecipientResult(waiting.index, address, kind, str(outcome.reply), next_at, remote_id, counts)

    match outcome:
        case Delivered():
            return result(EventKind.DELIVERED)
        case Sent(remote_id=remote_id):
            # A provider's word, from JSON: it may hold what no database or log line takes.
            return result(EventKind.SENT, remote_id=printable(remote_id))
        case Failed():
            return result(EventKind.BOUNCED)
        case InDoubt() if hold_doubt:
            return replace(result(EventKind.HELD), reply=f"{outcome.reply}; {MAYBE_DELIVERED}")
        case Deferred(fault=Fault.ROUTE):
            # Nothing is wrong with the message: it waits for the operator and uses up no attempt, only its time.
            # As after an attempt, a first wait is always granted: a clock that jumps must not bounce a queue.
            waited = waiting.attempts > 0 or waiting.next_at > received_at
            if profile.expire and waited and now + route_pause > received_at + profile.expire:
                return result(EventKind.EXPIRED, counts=False)
            return result(EventKind.DEFERRED, next_at=now + route_pause, counts=False)
    if put_off is not None and now + put_off <= received_at + (profile.expire or sum(profile.delays)):
        # Uses up no attempt. Once it is as old as its profile makes it, one is used each time, so that it ends.
        return result(EventKind.DEFERRED, next_at=now + put_off * (1 + _SPREAD * throw), counts=False)
    attempts = waiting.attempts + 1
    hint = outcome.retry_after if isinstance(outcome, Deferred) else None
    next_at = next_attempt_at(profile, attempts=attempts, received_at=received_at, now=now, throw=throw, hint=hint)
    if next_at is not None:
        kind = EventKind.IN_DOUBT if isinstance(outcome, InDoubt) else EventKind.DEFERRED
        return result(kind, next_at=next_at)
    return result(EventKind.BOUNCED if attempts > len(profile.delays) else EventKind.EXPIRED)


def reason(result: RecipientResult, reply: Reply) -> str:
    """The sentence a notice begins with."""
    if reply.permanent:
        return "the next mail host refused it"
    if result.kind is EventKind.EXPIRED:
        return "it could not be delivered before it expired"
    return "all delivery attempts failed; the last answer was"
