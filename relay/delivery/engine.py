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
from relay.delivery.job import InFlight, Job, Pending, Place, next_hop, plan
from relay.delivery.leaving_out import LeavingOut
from relay.delivery.next_hops import NextHops, Visit
from relay.delivery.observer import Observer
from relay.delivery.pauses import Pauses
from relay.delivery.questions import Questions
from relay.delivery.record import Recorder, Tried
from relay.delivery.scheduler import Scheduler
from relay.delivery.terms import Terms
from relay.delivery.verdict import goes_elsewhere
from relay.delivery.whole import Whole
from relay.mail.errors import StoreError
from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Outcome, Sent
from relay.mail.reply import reply
from relay.policy.breaker import LONGEST
from relay.policy.deadline import is_over, too_late
from relay.policy.health import Health, Watch
from relay.policy.rate_limits import RateLimits
from relay.policy.retry import longest_wait
from relay.ports import (
    AttemptStart,
    Clock,
    Doubt,
    EventSink,
    MayTell,
    QueuedMessage,
    Random,
    RollsUp,
    Signer,
    Spool,
    Suppressed,
    Transport,
    nobody_suppressed,
    tells_all,
)
from relay.settings import Settings

_PAUSED: Final = reply(451, "4.7.0", "Route is paused: its credentials were refused; see the log")
_TAKEN: Final = reply(250, "2.0.0", "Taken by the provider")
_UNREPORTED: Final = reply(451, "4.4.7", "Taken by the provider, which has not reported on it in time")
_SECONDS_BETWEEN_TRIES: Final = 1.0
_SHORTEST_SLEEP: Final = 0.01
_CROWD_SHARE: Final = 10  # one account's mail for one next hop may hold a tenth of the window
_URGENT_SHARE: Final = 10  # mail of a priority above 0 has a tenth more than the window


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
        return_key: bytes = b"",
        suppressed: Suppressed = nobody_suppressed,
        may_tell: MayTell = tells_all,
    ) -> None:
        """`return_key` signs return paths of ours; without one bounces go to whom the client named."""
        self._return_key = return_key
        self._settings = settings
        self._window, self._routes = settings.spool.window, settings.routes
        self._spool = spool
        self._clock = clock
        self.observer = observer
        self._terms = Terms.of(settings, return_key)
        self._attempts = Attempts(spool, transports, signer, clock, observer, self._terms)
        self._recorder = Recorder(settings, spool, clock, random, events, observer, self._attempts.original, may_tell)
        self._recorder.on_notice = self._take_notice
        self._questions = Questions(settings, self._attempts, clock, observer)
        self._leaving_out = LeavingOut(suppressed, self._begin, self._recorder)
        self._whole = Whole(settings.spool.memory)
        delivery = settings.delivery
        self._pauses = Pauses(delivery.route_pause, clock, observer)
        self._hops = NextHops(settings, clock, random, observer)
        self.health = Health(_watches(settings), clock, observer)
        self._scheduler = Scheduler(delivery.concurrency, self._hops.limit, self._hops.hosts)
        self._rolls_up = _rolls_up(transports)
        self._limits = RateLimits(settings.rate_limits, settings.server.worker_count, clock)
        self._alarm: asyncio.TimerHandle | None = None
        self._crowd = _crowd(settings)
        self._active: set[tuple[str, int]] = set()
        self._messages = 0
        self._bytes = 0
        self._tasks: dict[Job, asyncio.Task[None]] = {}
        self._stopping = False
        self.on_room: Callable[[], None] = lambda: None
        self.on_left_out: Callable[[float], None] = lambda next_at: None
        self.on_crowded: Callable[[Place, float], None] = lambda place, next_at: None
        self.on_deferred: Callable[[float], None] = lambda next_at: None

    # --- what others call ----------------------------------------------------------------------------------

    def reconfigure(self, settings: Settings, transports: Mapping[str, Transport]) -> None:
        """Follow other settings from now on: what waits is planned anew, what is under way ends as it began."""
        self._settings = settings
        self._window, self._routes = settings.spool.window, settings.routes
        self._terms = Terms.of(settings, self._return_key)
        self._attempts.reconfigure(transports, self._terms)
        self._recorder.reconfigure(settings)
        self._questions.reconfigure(settings)
        self._whole.most = settings.spool.memory
        self._rolls_up = _rolls_up(transports)
        self._pauses.reconfigure(settings.delivery.route_pause)
        self._hops.reconfigure(settings)
        self.health.reconfigure(_watches(settings))
        self._scheduler.limit_to(settings.delivery.concurrency)
        self._limits.replace(settings.rate_limits)
        self._crowd = _crowd(settings)
        self._unschedule(lambda job: True)

    def share_limits(self, workers: int) -> None:
        """So many workers keep to the rate limits together."""
        self._limits.share(workers)

    async def settled(self) -> None:
        """Return when everything that is under way now has ended."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks.values()))

    @property
    def longest_wait(self) -> float:
        """Seconds beyond which nothing is put off."""
        delivery = self._settings.delivery
        return longest_wait(self._settings.retry_profiles, (delivery.route_pause, delivery.query_after, LONGEST * 2))

    @property
    def room(self) -> int:
        """How many more messages may be scheduled in memory."""
        return max(0, self._window - self._messages)

    @property
    def roomy(self) -> bool:
        """Room for so many that a look into the spool is worth it."""
        return self.room * 4 >= self._window

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
        if self._stopping or not (self.room or self._room_for_urgent(message)):
            return False
        due = [waiting for waiting in message.due if (message.id, waiting.index) not in self._active]
        if not due:
            return True
        content = message.content
        if content is not None and self._bytes + len(content) > self._settings.spool.memory:
            content = None
        in_flight = InFlight(message, content)
        for job in plan(in_flight, due, self._routes, self._limits.of, self._terms.sender_domains):
            place = job.place
            if self._scheduler.waiting(place) >= self._crowd:
                self.on_crowded(place, job.next_at)
                continue
            in_flight.jobs += 1
            for waiting in job.recipients:
                self._active.add((message.id, waiting.index))
            if self.healthy and self._scheduler.starts(job):
                self._start(job)
            else:
                self._scheduler.add(job)
        if in_flight.jobs:
            self._messages += 1
            self._bytes += len(content) if content is not None else 0
            self.pump()
        return True

    def _room_for_urgent(self, message: QueuedMessage) -> bool:
        window = self._window
        return (message.envelope.priority or 0) > 0 and self._messages < window + max(1, window // _URGENT_SHARE)

    def pump(self) -> None:
        """Start every job that may run now."""
        while not self._stopping and self.healthy and (job := self._scheduler.pop()) is not None:
            self._start(job)
        self._set_alarm()

    def _start(self, job: Job) -> None:
        task = asyncio.get_running_loop().create_task(self._run(job))
        self._tasks[job] = task

    def _set_alarm(self) -> None:
        """Come back when a rate limit has a token for what it holds back."""
        if self._stopping or self._scheduler.seconds == math.inf:
            return
        seconds = max(self._scheduler.seconds, _SHORTEST_SLEEP)
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

    def silent(self) -> dict[str, float]:
        """Providers that take mail and report on none of it, with the seconds until one message probes."""
        return self.health.silent()

    def resume(self, name: str) -> None:
        """Try a paused candidate or an open next hop again."""
        self._pauses.resume(name)
        self._hops.close(name)
        self.health.resume(name)

    async def stop(self, timeout: float) -> None:
        """Start nothing new, give what runs `timeout` seconds; the rest stays in the spool."""
        self._stopping = True
        if self._alarm is not None:
            self._alarm.cancel()
        if self._tasks:
            _, running = await asyncio.wait(tuple(self._tasks.values()), timeout=timeout)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    # --- one job -------------------------------------------------------------------------------------------

    async def _run(self, job: Job) -> None:
        if self._rolls_up is not None and not await self._finds_room(job, self._rolls_up):
            del self._tasks[job]
            self.pump()
            return
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
            await self._recorder.settle(job, dict.fromkeys(pending, self._after_a_bug(job)), self._questions.again(job))
        finally:
            del self._tasks[job]
            self._scheduler.release(job)
            self._finished(job)
            self.pump()
            self.on_room()

    def _after_a_bug(self, job: Job) -> Outcome:
        """Who is in doubt stays so."""
        return Deferred(INTERNAL) if job.doubt is None else InDoubt(INTERNAL)

    async def _finds_room(self, job: Job, rolls_up: RollsUp) -> bool:
        """False: the hosts of its domain, which only DNS knows, have no place left, and it waits for one."""
        if job.via[0] != "direct" or job.awaits or job.doubt is not None:
            return True
        try:
            self._hops.goes_to(job.queue, await rolls_up.site(job.destination))
        except Exception as error:
            self.observer.failure("direct", error, job.message.id)
        return self._scheduler.has_room(job)

    def _finished(self, job: Job) -> None:
        in_flight = job.in_flight
        for waiting in job.recipients:
            self._active.discard((job.message.id, waiting.index))
        in_flight.jobs -= 1
        if in_flight.due_again < math.inf:
            # Not before it is off the schedule: what is on it would be passed over.
            self.on_deferred(in_flight.due_again)
            in_flight.due_again = math.inf
        if not in_flight.jobs:
            self._messages -= 1
            if in_flight.content is not None:
                self._bytes -= len(in_flight.content)

    def _take_notice(self, notice: QueuedMessage) -> None:
        if not self.submit(notice):
            self.on_left_out(notice.received_at)

    async def _try_candidates(self, job: Job, pending: Pending) -> None:
        """Candidates in turn; who is settled leaves `pending`."""
        if job.doubt is not None:
            await self._settle_doubt(job, job.doubt, pending)
            return
        if job.awaits:
            await self._judge(job, pending)
            return
        envelope = job.message.envelope
        if envelope.deliver_by is not None and is_over(envelope, max(self._clock.now(), job.next_at)):
            await self._return(job, pending)
            return
        if await self._leaving_out.apply(job, pending):
            return
        paused, closed = self._pauses.left(), self._hops.waits(job.via, job.destination)
        usable = [name for name in job.via if name not in paused and name not in closed]
        waits_for_route = len(usable) < len(job.via)
        if len(usable) > 1:
            # A silent one may only have lost its callbacks: where there is no other, mail goes on. What is in doubt
            # because of it is no probe: it would arrive twice.
            resting = self.health.resting(usable, probe=not job.place.again)
            usable = [name for name in usable if name not in resting] or usable
        for position, candidate in enumerate(usable):
            last = position == len(usable) - 1
            await self._attempt(job, candidate, pending, last=last, waits_for_route=waits_for_route)
            if not pending:
                return
        waits = {name: seconds for name, seconds in closed.items() if name not in paused}
        candidate = min(waits, key=waits.__getitem__, default=job.via[0])
        # Nothing is dialled, but who ended, was held or put off since the spool was read has to be left alone too.
        attempt_id, _ = await self._begin(job, candidate, pending)
        if waits and pending:
            outcome = self._hops.put_off(next_hop(candidate, job.destination))
            tried = Tried(attempt_id, candidate, put_off=waits[candidate])
            await self._recorder.settle(job, dict.fromkeys(pending, outcome), tried)
        elif pending:
            await self._recorder.settle(job, dict.fromkeys(pending, Deferred(_PAUSED, Fault.ROUTE)), Tried(attempt_id))

    async def _return(self, job: Job, pending: Pending) -> None:
        """Its time is over."""
        attempt_id, _ = await self._begin(job, job.via[0], pending)
        if pending:
            outcome = Failed(too_late(job.message.envelope))
            await self._recorder.settle(job, dict.fromkeys(pending, outcome), Tried(attempt_id, late=True))

    async def _settle_doubt(self, job: Job, doubt: Doubt, pending: Pending) -> None:
        """These may have been sent already: nothing else is sent before that is settled."""
        if self._questions.repeats(doubt, len(pending)):
            await self._attempt(job, doubt.candidate, pending, last=True, waits_for_route=False)
            return
        attempt_id, _ = await self._begin(job, doubt.candidate, pending, asks=True)
        if pending:
            await self._ask(Tried(attempt_id), job, doubt, pending)

    async def _ask(self, attempt: Tried, job: Job, doubt: Doubt, pending: Pending) -> None:
        """What the policy says, which may be a question."""
        answered = await self._questions.ask(job, doubt, tuple(pending.values()))
        if any(isinstance(outcome, Sent) for outcome in answered.outcomes.values()):
            self.health.took(doubt.candidate, job.message.id)
        tried = Tried(
            attempt.attempt_id, doubt.candidate, attempt.report, put_off=0.0, judged=True, doubt=answered.doubt,
            ask_in=answered.ask_in, awaited=self.health.owes_report(doubt.candidate),
        )  # fmt: skip
        await self._recorder.settle(job, answered.outcomes, tried)

    async def _judge(self, job: Job, pending: Pending) -> None:
        """A candidate took these and owed a report: they were sent, are in doubt, or wait on."""
        attempt_id, _ = await self._begin(job, job.awaits, pending)
        found = self.health.judge(job.awaits, job.message.id)
        tried = Tried(attempt_id, job.awaits, awaited=None if isinstance(found, bool) else found, judged=True)
        outcomes: dict[int, Outcome] = {
            index: InDoubt(_UNREPORTED) if found is False else Sent(_TAKEN, waiting.remote_id)
            for index, waiting in pending.items()
        }
        if outcomes:
            await self._recorder.settle(job, outcomes, tried)

    async def _attempt(self, job: Job, candidate: str, pending: Pending, *, last: bool, waits_for_route: bool) -> None:
        """One candidate tries all of `pending`; whom the next one may have stays there."""
        octets = self._attempts.held_whole(job, candidate)
        if octets:
            # Before the attempt is on disk: who only waited for memory was not sent anything.
            await self._whole.take(octets)
        try:
            with self._hops.visit(next_hop(candidate, job.destination)) as visit:
                await self._attempt_there(visit, job, candidate, pending, last=last, waits_for_route=waits_for_route)
        finally:
            if octets:
                self._whole.give(octets)

    async def _attempt_there(
        self, visit: Visit, job: Job, candidate: str, pending: Pending, *, last: bool, waits_for_route: bool
    ) -> None:
        doubt = job.doubt
        attempt_id, began = await self._begin(job, candidate, pending, asks=doubt is not None)
        if not pending:
            return
        if doubt is not None and not self._questions.repeats(doubt, len(pending)):
            await self._ask(Tried(attempt_id), job, doubt, pending)
            return
        recipients = tuple(pending.values())
        faults.point("attempt-begun")
        report = await self._attempts.make(job, candidate, recipients)
        faults.point("answer-read")
        outcomes: list[Outcome] = []
        settled: dict[int, Outcome] = {}
        for waiting in recipients:
            outcome = report.outcomes[waiting.recipient.address]
            outcomes.append(outcome)
            # After the last one a refusal still waits for a candidate that rests; a deferral comes back anyway.
            if not goes_elsewhere(outcome) or (last and not (waits_for_route and isinstance(outcome, Failed))):
                settled[waiting.index] = outcome
        visit.outcomes = tuple(outcomes)
        self._pauses.watch(candidate, outcomes)
        if doubt is not None:
            # A refusal to repeat the call does not say what became of it.
            settled = {index: one for index, one in settled.items() if not (isinstance(one, Failed) and one.elsewhere)}
        for outcome in settled.values():
            if isinstance(outcome, Sent):
                self.health.took(candidate, job.message.id)
                break
        question, ask_in = self._questions.first(candidate, began if doubt is None else doubt.since)
        awaited = self.health.owes_report(candidate)
        tried = Tried(
            attempt_id, candidate, report, awaited=awaited, doubt=question, ask_in=ask_in,
            began=began, repeats=doubt,
        )  # fmt: skip
        await self._recorder.settle(job, settled, tried)
        for index in settled:
            del pending[index]
        if doubt is not None and pending:
            await self._ask(tried, job, doubt, pending)

    async def _begin(self, job: Job, candidate: str, pending: Pending, *, asks: bool = False) -> tuple[int, float]:
        """Put the attempt on disk; who does not wait any more leaves `pending`. Returns its id, and when it began."""
        # Never before the due time it answers, or a clock that was set back would look like a recipient put off.
        at = self._clock.now()
        for waiting in pending.values():
            at = max(at, waiting.next_at)
        start = AttemptStart(job.message.id, tuple(pending), candidate, job.destination, at, asks)
        begun = await self._spool.begin_attempt(start)
        if len(begun.recipients) < len(pending):
            # Ended, held or put off; or an operator gave it another way, and then it has to be brought for that.
            self.on_left_out(job.next_at)
            for index in pending.keys() - set(begun.recipients):
                del pending[index]
        return begun.id, at


def _watches(settings: Settings) -> dict[str, Watch]:
    return {
        f"provider:{name}": Watch(one.report_within, one.unreported == "in_doubt")
        for name, one in settings.provider.items()
        if one.report_within
    }


def _rolls_up(transports: Mapping[str, Transport]) -> RollsUp | None:
    direct = transports.get("direct")
    return direct if isinstance(direct, RollsUp) else None


def _crowd(settings: Settings) -> int:
    return max(settings.delivery.destination_concurrency, settings.spool.window // _CROWD_SHARE)
