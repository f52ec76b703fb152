"""Recorder: outcomes become results, events and the notice, in one commit; then the world is told.

Comes in: a job, the outcomes of an attempt. Goes out: rows in the spool, events to the sink, the notice to `on_notice`.
A result that cannot be written is kept and tried until it can: sending on would send it all again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from relay import faults
from relay.delivery.job import InFlight, Job
from relay.delivery.notices import Notifier, notice
from relay.delivery.observer import Observer
from relay.delivery.verdict import result_of
from relay.mail.dsn import RecipientStatus
from relay.mail.errors import StoreError
from relay.mail.event import Event, EventKind
from relay.mail.frozen import frozen
from relay.mail.outcome import Deferred, Outcome
from relay.policy.deadline import awake_by
from relay.policy.retry import bounded
from relay.ports import (
    AttemptEnd,
    Clock,
    DeliveryReport,
    Doubt,
    EventSink,
    MayTell,
    NewMessage,
    QueuedMessage,
    Random,
    RecipientResult,
    Spool,
    tells_all,
)
from relay.settings import RetrySettings, Settings

SECONDS_TO_TRY_AGAIN: Final = 1.0
_NO_REPORT: Final = DeliveryReport({})


@frozen
class Tried:
    """The attempt that brought outcomes; the default is none at all (its route rests).

    `put_off`: no attempt either, its next hop is not dialled for that many seconds. `awaited`: seconds for which the
    candidate owes a report on what it took. `judged`: it is about an earlier attempt. `late`: no attempt, its time is
    over. `doubt`: who is in doubt is asked about in `ask_in` seconds. `began`: seconds since the
    epoch. `repeats`: the call was made again, and whom it puts off stay bound to the candidate by this.
    """

    attempt_id: int = 0
    candidate: str = ""
    report: DeliveryReport = _NO_REPORT
    put_off: float | None = None
    awaited: float | None = None
    judged: bool = False
    late: bool = False
    doubt: Doubt | None = None
    ask_in: float = 0.0
    began: float = 0.0
    repeats: Doubt | None = None

    @property
    def tls(self) -> str:
        tls = self.report.tls
        return f"{tls.version} {tls.cipher}" if tls else ""


class Recorder:
    """Writes what came of attempts."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        clock: Clock,
        random: Random,
        events: EventSink,
        observer: Observer,
        original: Callable[[InFlight], Awaitable[bytes]],
        may_tell: MayTell = tells_all,
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._random = random
        self._events = events
        self._observer = observer
        self._original = original
        self._may_tell = may_tell
        self._unrecorded = 0
        self.on_notice: Callable[[QueuedMessage], None] = lambda notice: None
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        self._settings = settings
        self._profiles: dict[tuple[str, str | None, str], RetrySettings] = {}
        self._delivery = settings.delivery
        self._route_pause = settings.delivery.route_pause
        self._holds_doubt = settings.delivery.in_doubt != "retry"

    @property
    def healthy(self) -> bool:
        """False while a result cannot be written."""
        return self._unrecorded == 0

    async def settle(self, job: Job, outcomes: Mapping[int, Outcome], tried: Tried) -> None:
        """Record `outcomes` (by recipient index) and tell of them. Returns when they are on disk."""
        message, now = job.message, self._clock.now()
        results, statuses = self._results(job, outcomes, tried, now)
        notice = await self._notice(job.in_flight, statuses, now) if statuses else None
        end = AttemptEnd(message.id, tried.attempt_id, now, tried.report.host, tried.tls, tuple(results), notice)
        queued = await self._write(end)
        faults.point("recorded")
        self._announce(message, results, tried, now)
        for one in results:
            if one.next_at:
                job.in_flight.due_again = min(job.in_flight.due_again, one.next_at)
        if queued is not None:
            self._observer.notice_queued(message.id, queued.id, queued.due[0].recipient.address)
            self.on_notice(queued)

    def _results(
        self, job: Job, outcomes: Mapping[int, Outcome], tried: Tried, now: float
    ) -> tuple[list[RecipientResult], list[RecipientStatus]]:
        """What the outcomes mean, and what the sender is told of them."""
        message, delivery, profile = job.message, self._delivery, self._profile(job)
        notifier = None
        if message.envelope.reverse_path is not None:
            notifier = Notifier(delivery, profile, message, tried.report, now)
        # One throw for all, so that who was put off together comes back together, under the same idempotency key.
        throw = self._random.random()
        results: list[RecipientResult] = []
        statuses: list[RecipientStatus] = []
        whom = [waiting for waiting in job.recipients if waiting.index in outcomes]
        for waiting in whom:
            result = result_of(
                waiting,
                outcomes[waiting.index],
                profile=profile,
                received_at=message.since,
                now=now,
                route_pause=self._route_pause,
                throw=throw,
                put_off=tried.put_off,
                hold_doubt=self._holds_doubt,
                doubt=tried.doubt,
                ask_in=tried.ask_in,
                awaits=tried.candidate if tried.awaited is not None else "",
                awaited=tried.awaited or 0.0,
            )
            results.append(result)
        results = _bound(results, outcomes, tried)
        for place, waiting in enumerate(whom):
            result = results[place]
            if tried.late:
                result = replace(result, kind=EventKind.EXPIRED, counts=False)
            elif tried.judged:
                result = replace(result, counts=False)
            if message.envelope.deliver_by is not None:
                result = awake_by(message.envelope, result, now)
            if notifier is not None:
                result, status = notifier.tell(waiting, result, outcomes[waiting.index].reply)
                if status is not None:
                    statuses.append(status)
            results[place] = result
        return results, statuses

    def _profile(self, job: Job) -> RetrySettings:
        message = job.message
        key = message.envelope.retry, job.route.retry, message.account
        profile = self._profiles.get(key)
        if profile is None:
            profile = self._profiles[key] = self._settings.retry_profile_for(*key)
        return bounded(profile, message.since, message.envelope.expires_at)

    async def _notice(self, in_flight: InFlight, statuses: Sequence[RecipientStatus], now: float) -> NewMessage | None:
        message = in_flight.message
        try:
            return notice(
                message,
                statuses,
                await self._original(in_flight),
                notice_id=self._spool.new_id(),
                hostname=self._settings.hostname,
                now=now,
                largest=self._settings.delivery.returned_size,
                may_tell=self._may_tell,
            )
        except Exception as error:
            # What was delivered beside it has to be recorded, or it would be sent again.
            self._observer.failure("notice", error, message.id)
            return None

    async def _write(self, end: AttemptEnd) -> QueuedMessage | None:
        try:
            return await self._spool.end_attempt(end)
        except StoreError as error:
            self._observer.store_failed(error)
        self._unrecorded += 1
        try:
            while True:
                await asyncio.sleep(SECONDS_TO_TRY_AGAIN)
                try:
                    return await self._spool.end_attempt(end)
                except StoreError as error:
                    self._observer.store_failed(error)
        finally:
            self._unrecorded -= 1

    def _announce(self, message: QueuedMessage, results: Sequence[RecipientResult], tried: Tried, now: float) -> None:
        for result in results:
            detail = {"transport": tried.candidate, "host": tried.report.host}
            if result.remote_id:
                detail["remote_id"] = result.remote_id
            self._events.event(Event(now, result.kind, message.id, result.address, result.reply, detail))


def _bound(results: list[RecipientResult], outcomes: Mapping[int, Outcome], tried: Tried) -> list[RecipientResult]:
    """Who is put off is bound to the candidate that may have taken it, where its call has to be repeated."""
    bound = {one.index for one in results if _is_bound(one, outcomes[one.index], tried)}
    if not bound:
        return results
    doubt = replace(tried.repeats or Doubt(tried.candidate, tried.began), together=len(bound))
    return [replace(one, doubt=doubt) if one.index in bound else one for one in results]


def _is_bound(result: RecipientResult, outcome: Outcome, tried: Tried) -> bool:
    if result.kind is not EventKind.DEFERRED and (result.kind is not EventKind.IN_DOUBT or result.doubt is not None):
        return False
    return tried.repeats is not None or (isinstance(outcome, Deferred) and outcome.repeats)
