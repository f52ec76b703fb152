"""Verdict: an outcome and the retry profile make a recipient's result. Pure."""

from __future__ import annotations

from typing import Final

from relay.mail.event import EventKind
from relay.mail.lifecycle import MAYBE_DELIVERED
from relay.mail.outcome import Deferred, Delivered, Failed, Fault, InDoubt, Outcome, Sent
from relay.mail.reply import Reply, printable
from relay.policy.retry import next_attempt_at
from relay.ports import Doubt, QueuedRecipient, RecipientResult
from relay.settings import RetrySettings

_SPREAD: Final = 0.1  # so that a queue that waits for one next hop does not come back all at once


def goes_elsewhere(outcome: Outcome) -> bool:
    """Whether the route's next candidate may try: this one could not carry it, and certainly has not."""
    if isinstance(outcome, Failed):
        return outcome.elsewhere
    return isinstance(outcome, Deferred) and outcome.fault is not Fault.MESSAGE and not outcome.repeats


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
    awaits: str = "",
    awaited: float = 0.0,
    doubt: Doubt | None = None,
    ask_in: float = 0.0,
) -> RecipientResult:
    """What the attempt means for one recipient (design: docs/lifecycle.md).

    With `put_off` there was no attempt: its next hop is not dialled for that many seconds. `hold_doubt`: who may have
    the message already waits for the operator. `awaits`: the candidate owes a report, for `awaited` seconds more.
    `doubt`: who may have it is asked about in `ask_in` seconds.
    """
    index, address, answer = waiting.index, waiting.recipient.address, str(outcome.reply)
    match outcome:
        case Delivered():
            return RecipientResult(index, address, EventKind.DELIVERED, answer)
        case Sent():
            # A provider's word, from JSON: it may hold what no database or log line takes.
            remote_id = printable(outcome.remote_id)
            if not awaits or not remote_id:
                return RecipientResult(index, address, EventKind.SENT, answer, remote_id=remote_id)
            owed = EventKind.AWAITED
            return RecipientResult(index, address, owed, answer, now + awaited, remote_id, awaits=awaits)
        case Failed():
            return RecipientResult(index, address, EventKind.BOUNCED, answer)
        case InDoubt() if hold_doubt or doubt is not None:
            return _in_doubt(waiting, outcome.reply, doubt, now + ask_in)
        case Deferred(fault=Fault.ROUTE):
            # Nothing is wrong with the message: it waits for the operator and uses up no attempt, only its time.
            # As after an attempt, a first wait is always granted: a clock that jumps must not bounce a queue.
            waited = waiting.attempts > 0 or waiting.next_at > received_at
            if profile.expire and waited and now + route_pause > received_at + profile.expire:
                return RecipientResult(index, address, EventKind.EXPIRED, answer, counts=False)
            return RecipientResult(index, address, EventKind.DEFERRED, answer, now + route_pause, counts=False)
    if put_off is not None and now + put_off <= received_at + (profile.expire or sum(profile.delays)):
        # Uses up no attempt. Once it is as old as its profile makes it, one is used each time, so that it ends.
        later = now + put_off * (1 + _SPREAD * throw)
        return RecipientResult(index, address, EventKind.DEFERRED, answer, later, counts=False)
    attempts = waiting.attempts + 1
    hint = outcome.retry_after if isinstance(outcome, Deferred) else None
    next_at = next_attempt_at(profile, attempts=attempts, received_at=received_at, now=now, throw=throw, hint=hint)
    if next_at is not None:
        kind = EventKind.IN_DOUBT if isinstance(outcome, InDoubt) else EventKind.DEFERRED
        return RecipientResult(index, address, kind, answer, next_at)
    kind = EventKind.BOUNCED if attempts > len(profile.delays) else EventKind.EXPIRED
    return RecipientResult(index, address, kind, answer)


def _in_doubt(waiting: QueuedRecipient, reply: Reply, doubt: Doubt | None, ask_at: float) -> RecipientResult:
    """Asked about, or held for the operator."""
    index, address = waiting.index, waiting.recipient.address
    if doubt is None:
        return RecipientResult(index, address, EventKind.HELD, f"{reply}; {MAYBE_DELIVERED}")
    return RecipientResult(index, address, EventKind.IN_DOUBT, str(reply), ask_at, doubt=doubt)


def reason(result: RecipientResult, reply: Reply) -> str:
    """The sentence a notice begins with."""
    if result.kind is EventKind.EXPIRED:
        return "it could not be delivered before it expired"
    if reply.permanent:
        return "the next mail host refused it"
    return "all delivery attempts failed; the last answer was"
