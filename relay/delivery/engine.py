"""Engine: takes what is due, runs each job through route -> prepare -> deliver -> record.

Comes in: messages from intake (after their commit) and from the spool (when due). Goes out: results in the spool,
events to the sink. A bug in a transport is Deferred; while results cannot be written nothing new is sent.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Final

from relay import faults
from relay.delivery.attempts import INTERNAL, Attempts
from relay.delivery.job import InFlight, Job, Place, next_hop, plan
from relay.delivery.next_hops import NextHops, Visit
from relay.delivery.observer import Observer
from relay.delivery.pauses import Pauses
from relay.delivery.record import Recorder, Tried
from relay.delivery.scheduler import Scheduler
from relay.delivery.verdict import goes_elsewhere
from relay.mail.errors import StoreError
from relay.mail.outcome import Deferred, Failed, Fault
from relay.mail.reply import reply
from relay.policy.breaker import LONGEST
from relay.policy.rate_limits import RateLimits
from relay.policy.retry import longest_wait
from relay.ports import (
    AttemptStart,
    Clock,
    EventSink,
    QueuedMessage,
    QueuedRecipient,
    Random,
    Signer,
    Spool,
    Transport,
)
from relay.settings import Settings

_PAUSED: Final = reply(451, "4.7.0", "Route is paused: its credentials were refused; see the log")
_SECONDS_BETWEEN_TRIES: Final = 1.0
_SHORTEST_SLEEP: Final = 0.01
_CROWD_SHARE: Final = 10  # one account's mail for one next hop may hold a tenth of the window

Pending = dict[int, QueuedRecipient]


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
        self._clock = clock
        self.observer = observer
        self._attempts = Attempts(spool, transports, signer, clock, observer, _dialects(settings))
        self._recorder = Recorder(settings, spool, clock, random, events, observer, self._attempts.original)
        self._recorder.on_notice = self._take_notice
        self._recorder.on_deferred = self._deferred
        delivery = settings.delivery
        self._pauses = Pauses(delivery.route_pause, clock, observer)
        self._hops = NextHops(delivery, clock, random, observer)
        self._scheduler = Scheduler(delivery.concurrency, self._hops.limit)
        self._limits = RateLimits(settings.limit, settings.server.worker_count, clock)
        self._alarm: asyncio.TimerHandle | None = None
        self._crowd = _crowd(settings)
        self._active: set[tuple[str, int]] = set()
        self._messages = 0
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.on_room: Callable[[], None] = lambda: None
        self.on_left_out: Callable[[float], None] = lambda next_at: None
        self.on_crowded: Callable[[Place, float], None] = lambda place, next_at: None
        self.on_deferred: Callable[[float], None] = lambda next_at: None

    # --- what others call ----------------------------------------------------------------------------------

    def reconfigure(self, settings: Settings, transports: Mapping[str, Transport]) -> None:
        """Follow other settings from now on: what waits is planned anew, what is under way ends as it began."""
        self._settings = settings
        self._attempts.reconfigure(transports, _dialects(settings))
        self._recorder.reconfigure(settings)
        self._pauses.reconfigure(settings.delivery.route_pause)
        self._hops.reconfigure(settings.delivery)
        self._scheduler.limit_to(settings.delivery.concurrency)
        self._limits.replace(settings.limit)
        self._crowd = _crowd(settings)
        self._unschedule(lambda job: True)

    def share_limits(self, workers: int) -> None:
        """So many workers keep to the rate limits together."""
        self._limits.share(workers)

    async def settled(self) -> None:
        """Return when everything that is under way now has ended."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    @property
    def longest_wait(self) -> float:
        """Seconds beyond which nothing is put off."""
        settings = self._settings
        return longest_wait(settings.retry_profiles, (settings.delivery.route_pause, LONGEST * 2))

    @property
    def room(self) -> int:
        """How many more messages may be scheduled in memory."""
        return max(0, self._settings.spool.window - self._messages)

    @property
    def roomy(self) -> bool:
        """Room for so many that a look into the spool is worth it."""
        return self.room * 4 >= self._settings.spool.window

    def has_place(self, place: Place) -> bool:
        """Whether a place that was crowded has come down so far that a look into the spool is worth it."""
        return self._scheduler.waiting(place) * 2 <= self._crowd

    @property
    def healthy(self) -> bool:
        """False while results cannot be written, and so nothing is sent."""
        return self._recorder.healthy

    @property
    def active(self) -> frozenset[tuple[str, int]]:
        """Recipients scheduled or in flight: (message id, index)."""
        return frozenset(self._active)

    def submit(self, message: QueuedMessage) -> bool:
        """Schedule what is not scheduled yet; False when there is no room and the spool has to bring it later.

        What finds its place crowded stays in the spool too, and `on_crowded` hears of it: one destination that takes
        its time, or one account's bulk, must not fill the memory all of them share.
        """
        if self._stopping or not self.room:
            return False
        due = [waiting for waiting in message.due if (message.id, waiting.index) not in self._active]
        if not due:
            return True
        content = message.content
        if content is not None and self._bytes + len(content) > self._settings.spool.memory:
            content = None
        in_flight = InFlight(message, content)
        for job in plan(in_flight, due, self._settings.route, self._limits.of):
            place = job.place
            if self._scheduler.waiting(place) >= self._crowd:
                self.on_crowded(place, job.next_at)
                continue
            in_flight.jobs += 1
            self._active.update((message.id, waiting.index) for waiting in job.recipients)
            self._scheduler.add(job)
        if in_flight.jobs:
            self._messages += 1
            self._bytes += len(content) if content is not None else 0
            self.pump()
        return True

    def pump(self) -> None:
        """Start every job that may run now."""
        while not self._stopping and self.healthy and (job := self._scheduler.pop()) is not None:
            task = asyncio.get_running_loop().create_task(self._run(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._set_alarm()

    def _set_alarm(self) -> None:
        """Come back when a rate limit has a token for what it holds back."""
        seconds = max(self._scheduler.seconds, _SHORTEST_SLEEP)
        if self._stopping or seconds == math.inf:
            return
        loop = asyncio.get_running_loop()
        if self._alarm is not None:
            if self._alarm.when() <= loop.time() + seconds:
                return
            self._alarm.cancel()
        self._alarm = loop.call_later(seconds, self._wake)

    def _wake(self) -> None:
        self._alarm = None
        self._scheduler.wake()
        self.pump()

    def forget(self, message_ids: frozenset[str]) -> None:
        """Take waiting jobs of these messages off the schedule; what the spool still holds of them comes again."""
        self._unschedule(lambda job: job.message.id in message_ids)

    def _unschedule(self, unwanted: Callable[[Job], bool]) -> None:
        for job in self._scheduler.remove(unwanted):
            self.on_left_out(job.next_at)
            self._finished(job)
        self.on_room()

    def candidates(self) -> tuple[str, ...]:
        """The ways out there are."""
        return self._attempts.candidates

    def queues(self) -> list[tuple[str, int, int]]:
        """Next hop, jobs waiting, jobs running."""
        return sorted(self._scheduler.queues())

    def paused(self) -> dict[str, float]:
        """Candidates that rest, with the seconds left."""
        return self._pauses.left()

    def open_hops(self) -> dict[str, float]:
        """Next hops that are not dialled because they gave no session, with the seconds until one delivery probes."""
        return self._hops.open()

    def resume(self, name: str) -> None:
        """Try a paused candidate or an open next hop again."""
        self._pauses.resume(name)
        self._hops.close(name)

    async def stop(self, timeout: float) -> None:
        """Start nothing new, give what runs `timeout` seconds; the rest stays in the spool."""
        self._stopping = True
        if self._alarm is not None:
            self._alarm.cancel()
        if self._tasks:
            _, running = await asyncio.wait(self._tasks, timeout=timeout)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    # --- one job -------------------------------------------------------------------------------------------

    async def _run(self, job: Job) -> None:
        pending = {waiting.index: waiting for waiting in job.recipients}
        try:
            await self._try_candidates(job, pending)
        except StoreError as error:
            # Nothing was sent. The place stays taken a moment, so that a failing disk is not asked in a tight loop.
            self.observer.store_failed(error)
            await asyncio.sleep(_SECONDS_BETWEEN_TRIES)
            self.on_left_out(job.next_at)
        except Exception as error:
            self.observer.failure("delivery", error, job.message.id)
            await self._recorder.settle(job, dict.fromkeys(pending, Deferred(INTERNAL)), Tried())
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

    def _deferred(self, next_at: float) -> None:
        self.on_deferred(next_at)

    def _take_notice(self, notice: QueuedMessage) -> None:
        if not self.submit(notice):
            self.on_left_out(notice.received_at)

    async def _try_candidates(self, job: Job, pending: Pending) -> None:
        """Candidates in turn; who is settled leaves `pending`."""
        paused, closed = self._pauses.left(), self._hops.waits(job.route.via, job.destination)
        usable = [name for name in job.route.via if name not in paused and name not in closed]
        waits_for_route = len(usable) < len(job.route.via)
        for position, candidate in enumerate(usable):
            last = position == len(usable) - 1
            await self._attempt(job, candidate, pending, last=last, waits_for_route=waits_for_route)
            if not pending:
                return
        waits = {name: seconds for name, seconds in closed.items() if name not in paused}
        candidate = min(waits, key=waits.__getitem__, default=job.route.via[0])
        # Nothing is dialled, but who ended, was held or put off since the spool was read has to be left alone too.
        attempt_id = await self._begin(job, candidate, pending)
        if waits and pending:
            outcome = self._hops.put_off(next_hop(candidate, job.destination))
            tried = Tried(attempt_id, candidate, put_off=waits[candidate])
            await self._recorder.settle(job, dict.fromkeys(pending, outcome), tried)
        elif pending:
            await self._recorder.settle(job, dict.fromkeys(pending, Deferred(_PAUSED, Fault.ROUTE)), Tried(attempt_id))

    async def _attempt(self, job: Job, candidate: str, pending: Pending, *, last: bool, waits_for_route: bool) -> None:
        """One candidate tries all of `pending`; whom the next one may have stays there."""
        with self._hops.visit(next_hop(candidate, job.destination)) as visit:
            await self._attempt_there(visit, job, candidate, pending, last=last, waits_for_route=waits_for_route)

    async def _attempt_there(
        self, visit: Visit, job: Job, candidate: str, pending: Pending, *, last: bool, waits_for_route: bool
    ) -> None:
        attempt_id = await self._begin(job, candidate, pending)
        if not pending:
            return
        recipients = tuple(pending.values())
        faults.point("attempt-begun")
        report = await self._attempts.make(job, candidate, recipients)
        faults.point("answer-read")
        outcomes = {waiting.index: report.outcomes[waiting.recipient.address] for waiting in recipients}
        visit.outcomes = tuple(outcomes.values())
        self._pauses.watch(candidate, outcomes.values())
        settled = {
            index: outcome
            for index, outcome in outcomes.items()
            # After the last one a refusal still waits for a candidate that rests; a deferral comes back anyway.
            if not goes_elsewhere(outcome) or (last and not (waits_for_route and isinstance(outcome, Failed)))
        }
        await self._recorder.settle(job, settled, Tried(attempt_id, candidate, report))
        for index in settled:
            del pending[index]

    async def _begin(self, job: Job, candidate: str, pending: Pending) -> int:
        """Put the attempt on disk; who does not wait any more leaves `pending`. Returns the attempt's id."""
        # Never before the due time it answers, or a clock that was set back would look like a recipient put off.
        at = max([self._clock.now(), *(waiting.next_at for waiting in pending.values())])
        start = AttemptStart(job.message.id, tuple(pending), candidate, job.destination, at)
        begun = await self._spool.begin_attempt(start)
        left_out = pending.keys() - set(begun.recipients)
        if left_out:
            # Ended, held or put off; or an operator gave it another way, and then it has to be brought for that.
            self.on_left_out(job.next_at)
        for index in left_out:
            del pending[index]
        return begun.id


def _dialects(settings: Settings) -> dict[str, str]:
    return {f"smarthost:{name}": each.dialect for name, each in settings.smarthost.items()}


def _crowd(settings: Settings) -> int:
    return max(settings.delivery.destination_concurrency, settings.spool.window // _CROWD_SHARE)
