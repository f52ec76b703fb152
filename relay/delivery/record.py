"""Recorder: outcomes become results, events and the notice, in one commit; then the world is told.

Comes in: a job, the outcomes of an attempt. Goes out: rows in the spool, events to the sink, the notice to `on_notice`.
A result that cannot be written is kept and tried until it can: sending on would send it all again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relay import faults
from relay.delivery.job import InFlight, Job
from relay.delivery.notices import Notifier, notice
from relay.delivery.observer import Observer
from relay.delivery.verdict import result_of
from relay.mail.dsn import RecipientStatus
from relay.mail.errors import StoreError
from relay.mail.event import Event
from relay.mail.outcome import Outcome
from relay.policy.retry import bounded
from relay.ports import (
    AttemptEnd,
    Clock,
    DeliveryReport,
    EventSink,
    NewMessage,
    QueuedMessage,
    Random,
    RecipientResult,
    Spool,
)
from relay.settings import RetrySettings, Settings

SECONDS_TO_TRY_AGAIN: Final = 1.0
_NO_REPORT: Final = DeliveryReport({})


@dataclass(frozen=True, slots=True)
class Tried:
    """The attempt that brought outcomes; the default is none at all (its route rests).

    `put_off`: no attempt either, its next hop is not dialled for that many seconds.
    """

    attempt_id: int = 0
    candidate: str = ""
    report: DeliveryReport = _NO_REPORT
    put_off: float | None = None

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
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._clock = clock
        self._random = random
        self._events = events
        self._observer = observer
        self._original = original
        self._unrecorded = 0
        self.on_notice: Callable[[QueuedMessage], None] = lambda notice: None
        self.on_deferred: Callable[[float], None] = lambda next_at: None

    def reconfigure(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def healthy(self) -> bool:
        """False while a result cannot be written."""
        return self._unrecorded == 0

    async def settle(self, job: Job, outcomes: Mapping[int, Outcome], tried: Tried) -> None:
        """Record `outcomes` (by recipient index) and tell of them. Returns when they are on disk."""
        message, now = job.message, self._clock.now()
        profile = self._profile(job)
        by_index = {waiting.index: waiting for waiting in job.recipients}
        # One throw for all, so that who was put off together comes back together, under the same idempotency key.
        throw = self._random.random()
        results = tuple(
            result_of(
                by_index[index],
                outcome,
                profile=profile,
                received_at=message.received_at,
                now=now,
                route_pause=self._settings.delivery.route_pause,
                throw=throw,
                put_off=tried.put_off,
                hold_doubt=self._settings.delivery.in_doubt == "hold",
            )
            for index, outcome in outcomes.items()
        )
        statuses: list[RecipientStatus] = []
        if message.envelope.reverse_path is not None:
            notifier = Notifier(self._settings.delivery, profile, message, tried.report, now)
            told = [notifier.tell(by_index[one.index], one, outcomes[one.index].reply) for one in results]
            results = tuple(one.result for one in told)
            statuses = [one.status for one in told if one.status is not None]
        notice = await self._notice(job.in_flight, statuses, now) if statuses else None
        end = AttemptEnd(message.id, tried.attempt_id, now, tried.report.host, tried.tls, results, notice)
        queued = await self._write(end)
        faults.point("recorded")
        self._announce(message, results, tried, now)
        if queued is not None:
            self._observer.notice_queued(message.id, queued.id, queued.due[0].recipient.address)
            self.on_notice(queued)

    def _profile(self, job: Job) -> RetrySettings:
        message = job.message
        profile = self._settings.retry_profile_for(message.envelope.retry, job.route.retry, message.account)
        return bounded(profile, message.received_at, message.envelope.expires_at)

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
            if result.next_at is not None:
                self.on_deferred(result.next_at)
