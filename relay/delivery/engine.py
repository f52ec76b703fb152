"""Engine: takes what is due, runs each job through route -> prepare -> deliver -> record.

Comes in: messages from intake (after their commit) and from the spool (when due). Goes out: results in the spool,
events to the sink. A bug in a transport is Deferred; while results cannot be written nothing new is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from relay.delivery.job import InFlight, Job, plan
from relay.delivery.notices import failure_notice
from relay.delivery.scheduler import Scheduler
from relay.delivery.verdict import goes_elsewhere, reason, result_of
from relay.mail.dsn import RecipientStatus
from relay.mail.errors import StoreError
from relay.mail.event import Event, EventKind
from relay.mail.outcome import Deferred, Fault, Outcome
from relay.mail.reply import Reply, reply
from relay.ports import (
    AttemptEnd,
    AttemptStart,
    Clock,
    DeliveryReport,
    DeliveryRequest,
    EventSink,
    QueuedMessage,
    QueuedRecipient,
    Random,
    RecipientResult,
    Signer,
    Spool,
    Transport,
)
from relay.settings import Settings

_INTERNAL = reply(451, "4.3.0", "Internal error while delivering")
_UNREADABLE = reply(451, "4.3.0", "The stored message cannot be read; see the log")
_PAUSED = reply(451, "4.7.0", "Route is paused: its credentials were refused; see the log")
_SECONDS_TO_RECORD_AGAIN: Final = 1.0


class Observer(Protocol):
    """Hears of attempts, for metrics and logs; must not raise."""

    def attempt_started(self, request: DeliveryRequest, transport: str) -> None: ...

    def attempt_ended(self, transport: str, report: DeliveryReport, seconds: float) -> None: ...

    def notice_queued(self, message_id: str, notice_id: str, recipient: str) -> None: ...

    def route_paused(self, route: str, seconds: float, answer: Reply) -> None: ...

    def route_resumed(self, route: str) -> None: ...

    def store_failed(self, error: StoreError) -> None: ...

    def failure(self, where: str, error: BaseException, message_id: str | None = None) -> None: ...


class Engine:
    """The delivery of one worker."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        transports: Mapping[str, Transport],
        signer: Signer,
        clock: Clock,
        random: Random,
        events: EventSink,
        observer: Observer,
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._transports = transports
        self._signer = signer
        self._clock = clock
        self._random = random
        self._events = events
        self._observer = observer
        delivery = settings.delivery
        self._scheduler = Scheduler(delivery.concurrency, delivery.destination_concurrency)
        self._active: set[tuple[str, int]] = set()
        self._messages = 0
        self._bytes = 0
        self._paused: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unrecorded = 0
        self._stopping = False
        self.on_room: Callable[[], None] = lambda: None
        self.on_left_out: Callable[[float], None] = lambda next_at: None
        self.on_deferred: Callable[[float], None] = lambda next_at: None

    # --- what others call ----------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many more messages may be scheduled in memory."""
        return max(0, self._settings.spool.window - self._messages)

    @property
    def roomy(self) -> bool:
        """Room for so many that a look into the spool is worth it."""
        return self.room * 4 >= self._settings.spool.window

    @property
    def healthy(self) -> bool:
        """False while results cannot be written, and so nothing is sent."""
        return self._unrecorded == 0

    @property
    def active(self) -> frozenset[tuple[str, int]]:
        """Recipients scheduled or in flight: (message id, index)."""
        return frozenset(self._active)

    def submit(self, message: QueuedMessage) -> bool:
        """Schedule what is not scheduled yet; False when there is no room and the spool has to bring it later."""
        if self._stopping or not self.room:
            return False
        due = [waiting for waiting in message.due if (message.id, waiting.index) not in self._active]
        if not due:
            return True
        content = message.content
        if content is not None and self._bytes + len(content) > self._settings.spool.memory:
            content = None
        in_flight = InFlight(message, content)
        jobs = plan(in_flight, due, self._settings.route)
        in_flight.jobs = len(jobs)
        self._messages += 1
        self._bytes += len(content) if content is not None else 0
        self._active.update((message.id, waiting.index) for waiting in due)
        for job in jobs:
            self._scheduler.add(job)
        self.pump()
        return True

    def pump(self) -> None:
        """Start every job that may run now."""
        while not self._stopping and self.healthy and (job := self._scheduler.pop()) is not None:
            task = asyncio.get_running_loop().create_task(self._run(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def forget(self, message_ids: frozenset[str]) -> None:
        """Take waiting jobs of these messages off the schedule (they stay in the spool)."""
        for job in self._scheduler.remove(lambda job: job.message.id in message_ids):
            self._finished(job)

    def queues(self) -> list[tuple[str, int, int]]:
        """Next hop, jobs waiting, jobs running."""
        return sorted(self._scheduler.queues())

    def paused(self) -> dict[str, float]:
        """Candidates that rest, with the seconds left."""
        if not self._paused:
            return {}
        now = self._clock.monotonic()
        for name, until in tuple(self._paused.items()):
            if until <= now:
                self.resume(name)
        return {name: until - now for name, until in self._paused.items()}

    def resume(self, candidate: str) -> None:
        """Try a paused candidate again."""
        if self._paused.pop(candidate, None) is not None:
            self._observer.route_resumed(candidate)

    async def stop(self, timeout: float) -> None:
        """Start nothing new, give what runs `timeout` seconds; the rest stays in the spool."""
        self._stopping = True
        if self._tasks:
            _, running = await asyncio.wait(self._tasks, timeout=timeout)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    # --- one job -------------------------------------------------------------------------------------------

    async def _run(self, job: Job) -> None:
        try:
            await self._try_candidates(job)
        except StoreError as error:
            # Nothing was sent. The place stays taken a moment, so that a failing disk is not asked in a tight loop.
            self._observer.store_failed(error)
            await asyncio.sleep(_SECONDS_TO_RECORD_AGAIN)
            self.on_left_out(min(waiting.next_at for waiting in job.recipients))
        except Exception as error:
            self._observer.failure("delivery", error, job.message.id)
            await self._settle(job, dict.fromkeys(_indexes(job), Deferred(_INTERNAL)), None, "")
        finally:
            self._scheduler.release(job)
            self._finished(job)
            self.pump()
            self.on_room()

    def _finished(self, job: Job) -> None:
        in_flight = job.in_flight
        self._active.difference_update((job.message.id, waiting.index) for waiting in job.recipients)
        in_flight.jobs -= 1
        if not in_flight.jobs:
            self._messages -= 1
            if in_flight.content is not None:
                self._bytes -= len(in_flight.content)

    async def _prepare(self, job: Job) -> bytes:
        """The bytes of this attempt: signed late, once for all jobs of the message in memory."""
        in_flight, message = job.in_flight, job.message
        content = in_flight.content
        if content is None:
            content = await self._spool.read_content(message.id)
        if in_flight.signature is None:
            # Only what an authenticated account sent is ours to sign; mail let in by port 25 is not.
            in_flight.signature = self._signer.sign(content, message.envelope.sender_domain) if message.account else b""
        return in_flight.signature + content

    async def _try_candidates(self, job: Job) -> None:
        pending = {waiting.index: waiting for waiting in job.recipients}
        paused = self.paused()
        usable = [name for name in job.route.via if name not in paused]
        for position, candidate in enumerate(usable):
            last = position == len(usable) - 1
            pending = await self._attempt(job, candidate, tuple(pending.values()), last=last)
            if not pending:
                return
        if pending:
            await self._settle(job, dict.fromkeys(pending, Deferred(_PAUSED, Fault.ROUTE)), None, "")

    async def _attempt(
        self, job: Job, candidate: str, recipients: tuple[QueuedRecipient, ...], *, last: bool
    ) -> dict[int, QueuedRecipient]:
        """One candidate tries; returns the recipients the next candidate may have."""
        message = job.message
        indexes = tuple(waiting.index for waiting in recipients)
        start = AttemptStart(message.id, indexes, candidate, job.destination, self._clock.now())
        begun = await self._spool.begin_attempt(start)
        if not begun.recipients:
            return {}
        recipients = tuple(waiting for waiting in recipients if waiting.index in begun.recipients)
        try:
            content = await self._prepare(job)
        except StoreError as error:
            self._observer.store_failed(error)
            unreadable = {waiting.index: Deferred(_UNREADABLE) for waiting in recipients}
            await self._settle(job, unreadable, begun.id, candidate)
            return {}
        report = await self._deliver(job, candidate, recipients, content)
        outcomes = {waiting.index: report.outcomes[waiting.recipient.address] for waiting in recipients}
        self._watch_route(candidate, outcomes)
        elsewhere = set() if last else {index for index, outcome in outcomes.items() if goes_elsewhere(outcome)}
        settled = {index: outcome for index, outcome in outcomes.items() if index not in elsewhere}
        await self._settle(job, settled, begun.id, candidate, content, report)
        return {waiting.index: waiting for waiting in recipients if waiting.index in elsewhere}

    async def _deliver(
        self, job: Job, candidate: str, recipients: tuple[QueuedRecipient, ...], content: bytes
    ) -> DeliveryReport:
        message = job.message
        indexes = ".".join(str(waiting.index) for waiting in recipients)
        request = DeliveryRequest(
            message_id=message.id,
            account=message.account,
            reverse_path=message.envelope.reverse_path,
            recipients=tuple(waiting.recipient for waiting in recipients),
            destination=job.destination,
            envelope=message.envelope,
            attempt=max(waiting.attempts for waiting in recipients) + 1,
            idempotency_key=f"{message.id}-{indexes}",
        )
        started = self._clock.monotonic()
        self._observer.attempt_started(request, candidate)
        try:
            report = await self._transports[candidate].deliver(request, content)
        except Exception as error:
            self._observer.failure(candidate, error, message.id)
            report = DeliveryReport({})
        missing = [recipient.address for recipient in request.recipients if recipient.address not in report.outcomes]
        if missing:
            outcomes = {**report.outcomes, **dict.fromkeys(missing, Deferred(_INTERNAL))}
            report = DeliveryReport(outcomes, report.host, report.tls)
        self._observer.attempt_ended(candidate, report, self._clock.monotonic() - started)
        return report

    def _watch_route(self, candidate: str, outcomes: Mapping[int, Outcome]) -> None:
        for outcome in outcomes.values():
            if isinstance(outcome, Deferred) and outcome.fault is Fault.ROUTE:
                seconds = self._settings.delivery.route_pause
                self._paused[candidate] = self._clock.monotonic() + seconds
                self._observer.route_paused(candidate, seconds, outcome.reply)
                return

    # --- recording -----------------------------------------------------------------------------------------

    async def _settle(
        self,
        job: Job,
        outcomes: Mapping[int, Outcome],
        attempt_id: int | None,
        candidate: str,
        content: bytes = b"",
        report: DeliveryReport | None = None,
    ) -> None:
        """Write results, events and the notice in one commit."""
        message, now = job.message, self._clock.now()
        profile = self._settings.retry_profile(job.route.retry or self._settings.delivery.retry)
        by_index = {waiting.index: waiting for waiting in job.recipients}
        results = tuple(
            result_of(
                by_index[index],
                outcome,
                profile=profile,
                received_at=message.received_at,
                now=now,
                route_pause=self._settings.delivery.route_pause,
                random=self._random,
            )
            for index, outcome in outcomes.items()
        )
        statuses = _failures(by_index, results, outcomes, report.host if report else "")
        notice = None
        if statuses:
            notice = failure_notice(
                message,
                statuses,
                content,
                notice_id=self._spool.new_id(),
                hostname=self._settings.hostname,
                now=now,
            )
        tls = f"{report.tls.version} {report.tls.cipher}" if report and report.tls else ""
        host = report.host if report else ""
        await self._record(AttemptEnd(message.id, attempt_id or 0, now, host, tls, results, notice))
        self._announce(message, results, candidate, host, now)

    async def _record(self, end: AttemptEnd) -> None:
        """A result that cannot be written is kept and tried until it can: sending on would send it all again."""
        failing = False
        try:
            while True:
                try:
                    queued = await self._spool.end_attempt(end)
                    break
                except StoreError as error:
                    self._observer.store_failed(error)
                    if not failing:
                        failing = True
                        self._unrecorded += 1
                    await asyncio.sleep(_SECONDS_TO_RECORD_AGAIN)
        finally:
            if failing:
                self._unrecorded -= 1
        if queued is not None:
            self._observer.notice_queued(end.message_id, queued.id, queued.due[0].recipient.address)
            self.submit(queued)

    def _announce(
        self, message: QueuedMessage, results: Sequence[RecipientResult], candidate: str, host: str, now: float
    ) -> None:
        for result in results:
            detail = {"transport": candidate, "host": host}
            if result.remote_id:
                detail["remote_id"] = result.remote_id
            self._events.event(Event(now, result.kind, message.id, result.address, result.reply, detail))
            if result.next_at is not None:
                self.on_deferred(result.next_at)


def _indexes(job: Job) -> list[int]:
    return [waiting.index for waiting in job.recipients]


def _failures(
    by_index: Mapping[int, QueuedRecipient],
    results: Sequence[RecipientResult],
    outcomes: Mapping[int, Outcome],
    host: str,
) -> list[RecipientStatus]:
    """What the sender has to be told."""
    return [
        RecipientStatus(
            address=result.address,
            orcpt=by_index[result.index].recipient.orcpt,
            action="failed",
            reply=outcomes[result.index].reply,
            remote=host,
            reason=reason(result, outcomes[result.index].reply),
        )
        for result in results
        if result.kind in (EventKind.BOUNCED, EventKind.EXPIRED)
        and by_index[result.index].recipient.wants_failure_notice
    ]
