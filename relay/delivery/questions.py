"""Questions: whether a next hop has what an attempt gave it whose answer was lost, before anything is sent again.

Comes in: a job of recipients in doubt. Goes out: an outcome for each, and what the recorder has to know: whom the next
hop has was sent to; the rest is sent to again, asked about again, or held (`policy/doubt.py`). Where a next hop carries
a repeated call out once, the call is repeated there without a question. Raises nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.delivery.attempts import Attempts
from relay.delivery.job import Job
from relay.delivery.observer import Observer
from relay.delivery.record import Tried
from relay.mail.outcome import Deferred, InDoubt, Outcome, Sent
from relay.mail.reply import Reply, printable, reply
from relay.policy.doubt import Next, Patience, after_answer
from relay.ports import Clock, Doubt, Knowledge, QueuedRecipient
from relay.settings import Settings

_LONGEST: Final = 400


class Answered(NamedTuple):
    """Outcomes by recipient index; `doubt` is what is asked again about who is still InDoubt, in `ask_in` seconds."""

    outcomes: dict[int, Outcome]
    doubt: Doubt | None = None
    ask_in: float = 0.0


class Questions:
    """Of one engine."""

    def __init__(self, settings: Settings, attempts: Attempts, clock: Clock, observer: Observer) -> None:
        self._attempts = attempts
        self._clock = clock
        self._observer = observer
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        self._settings = settings
        self._asks = settings.delivery.in_doubt == "query"

    def first(self, candidate: str, since: float) -> tuple[Doubt | None, float]:
        """What an attempt that began at `since` leads to where its answer was lost; None: no question."""
        if not self._asks or not self._attempts.settles_doubt(candidate):
            return None, 0.0
        return Doubt(candidate, since), self._settings.delivery.query_after

    def again(self, job: Job) -> Tried:
        """After a bug of ours: who is in doubt is asked about later."""
        return Tried(judged=job.doubt is not None, doubt=job.doubt, ask_in=self._settings.delivery.query_after)

    def repeats(self, doubt: Doubt, recipients: int) -> bool:
        """Whether the call may simply be made again for so many, there and nowhere else."""
        if doubt.together and recipients != doubt.together:
            return False  # somebody was held, cancelled or made due alone: it would have another key
        return self._clock.now() - doubt.since < self._attempts.repeatable_for(doubt.candidate)

    async def ask(self, job: Job, doubt: Doubt, recipients: Sequence[QueuedRecipient]) -> Answered:
        """What becomes of these now."""
        everybody = tuple(recipients)
        policy, name = self._settings.delivery.in_doubt, doubt.candidate
        if policy == "retry":
            return _all(everybody, Deferred(_said(name, "was not asked: delivery.in_doubt is retry")))
        if policy == "hold":
            return _all(everybody, InDoubt(_said(name, "was not asked: delivery.in_doubt is hold")))
        known = await self._attempts.inquire(job, doubt, everybody)
        if known is None:
            return _all(everybody, InDoubt(_said(name, "cannot be asked whether it has this message")))
        return self._judged(doubt, known, everybody)

    def _judged(self, doubt: Doubt, known: Knowledge, recipients: tuple[QueuedRecipient, ...]) -> Answered:
        name, has = doubt.candidate, {one.index for one in recipients if one.recipient.address in known.remote_ids}
        then = after_answer(
            doubt, self._patience(name), self._clock.now(),
            found=len(has), complete=known.complete, wish=known.retry_after,
        )  # fmt: skip
        rest = _rest(name, known, then, partly=doubt.partly or bool(has))
        taken = reply(250, "2.0.0", printable(f"{name} was asked and has it", _LONGEST))
        missing = len(recipients) - len(has)
        self._observer.asked(name, has=len(has), none=missing * then.none, unsure=missing * (not then.none))
        return Answered(
            {
                one.index: Sent(taken, known.remote_ids[one.recipient.address]) if one.index in has else rest
                for one in recipients
            },
            then.doubt,
            then.wait,
        )

    def _patience(self, candidate: str) -> Patience:
        delivery = self._settings.delivery
        provider = self._settings.provider.get(candidate.removeprefix("provider:"))
        trust = (provider.query_trust if provider is not None else 0.0) or delivery.query_trust
        return Patience(delivery.query_after, trust, delivery.query_times)


def _all(recipients: tuple[QueuedRecipient, ...], outcome: Outcome) -> Answered:
    return Answered({one.index: outcome for one in recipients})


def _rest(name: str, known: Knowledge, then: Next, *, partly: bool) -> Outcome:
    """Of whom it does not have."""
    if then.none:
        return Deferred(_said(name, "was asked and has nothing of it; it is sent again"))
    words = f"was asked and {known.words}" if not known.complete else "was asked and does not have it yet"
    if known.complete and partly:
        words = "was asked and has others of the same call, but not this one"
    return InDoubt(_said(name, words if then.doubt is not None else f"{words}; it was asked for the last time"))


def _said(name: str, words: str) -> Reply:
    return reply(451, "4.4.2", printable(f"{name} {words}", _LONGEST))
