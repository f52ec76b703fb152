"""Chores: what one worker does every so often, beside mail.

In: the parts of a worker. Out: coroutines without an end, each for a task of its own. What goes wrong is told and tried
again at the next turn: nothing that an operator has to fix is raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from relay.lane import Lane
from relay.mail.errors import OperatorError, StoreError
from relay.ports import Clock
from relay.settings import Settings
from relay.signing.keys import KeyStore
from relay.smtpd.tls_certificates import Certificates
from relay.store.disk import Disk
from relay.store.registry import Registry
from relay.telemetry.observer import Telemetry

_HOUSEKEEPING_SECONDS: Final = 1.0
_QUEUE_GAUGE_SECONDS: Final = 5.0
_COUNTING_SHARE: Final = 0.02
_PRUNED_AT_A_TIME: Final = 200
_TIDY_SECONDS: Final = 0.2
_TIDY_PAUSE: Final = 60.0
_TIDY_REST: Final = 4  # times as long as it took


async def housekeeping(
    registry: Registry, keys: KeyStore, disk: Disk, lanes: Sequence[Lane], workers: Callable[[], int], seen: Telemetry
) -> None:
    """What others changed: credentials and keys; how full the disk is; how many `workers` share the rate limits."""
    while True:
        await asyncio.sleep(_HOUSEKEEPING_SECONDS)
        try:
            registry.refresh()
            keys.reload()
            disk.look()
            for lane in lanes:
                lane.engine.share_limits(workers())
        except (OperatorError, OSError) as error:
            seen.log.warn("housekeeping_failed", error=error)


async def follow_certificates(
    certificates: Certificates, settings: Callable[[], Settings], seen: Telemetry, *, remind: bool
) -> None:
    """Files that were renewed are served; the one worker that is to `remind` says what expires."""
    while True:
        try:
            certificates.look()
            if remind:
                certificates.remind()
        except Exception as error:
            seen.failure("certificates", error)
        await asyncio.sleep(settings().tls.check_interval)


async def tidy(lanes: Sequence[Lane], settings: Callable[[], Settings], clock: Clock, seen: Telemetry) -> None:
    """Forget what is finished and old, a stretch at a time so that mail never waits for it."""
    pace, taken = Pace(), 0
    while True:
        began, now, spool = clock.monotonic(), clock.now(), settings().spool
        try:
            gone = [await lane.spool.prune(now - spool.history, _PRUNED_AT_A_TIME) for lane in lanes]
            gone += [
                await lane.spool.bury(now - spool.dead_letters, spool.dead_letters_size, _PRUNED_AT_A_TIME)
                for lane in lanes
            ]
        except StoreError as error:
            seen.store_failed(error)
            gone = []
        before, taken = taken, sum(lane.spool.taken for lane in lanes)
        more, took = _PRUNED_AT_A_TIME in gone, clock.monotonic() - began
        await asyncio.sleep(pace.rest(sum(gone), taken - before, took, more=more))


class Pace:
    """How long to rest between stretches of tidying.

    It takes a fifth of the time at most, which under load is less work, for a stretch waits for commits then. But as
    long as less was forgotten than came in, it does not rest: else what is stored would grow as long as mail comes.
    """

    def __init__(self) -> None:
        self._owed = 0
        self._pause = _TIDY_SECONDS

    def rest(self, forgotten: int, came_in: int, took: float, *, more: bool) -> float:
        """Seconds. `forgotten` and `came_in` are messages since the last rest began; `more`: there is more to do."""
        if not more:
            self._owed = 0
            pause, self._pause = self._pause, min(self._pause * 2, _TIDY_PAUSE)
            return max(pause, took * _TIDY_REST)
        self._pause = _TIDY_SECONDS
        self._owed = max(0, self._owed + came_in - forgotten)
        return 0.0 if self._owed else took * _TIDY_REST


async def gauges(lanes: Sequence[Lane], clock: Clock, seen: Telemetry) -> None:
    """The queue, counted for the metrics."""
    while True:
        began = clock.monotonic()
        try:
            counts = [await lane.spool.counts() for lane in lanes]
        except StoreError as error:
            seen.store_failed(error)
        else:
            oldest = min((count.oldest for count in counts if count.oldest is not None), default=None)
            seen.metrics.queue(
                sum(count.messages for count in counts),
                {state: sum(count.recipients[state] for count in counts) for state in counts[0].recipients},
                clock.now() - oldest if oldest is not None else 0.0,
            )
        await asyncio.sleep(pause_after(clock.monotonic() - began))


def pause_after(seconds: float) -> float:
    """Until the queue is counted again: a count of millions takes a while, in which the reader brings nothing."""
    return max(_QUEUE_GAUGE_SECONDS, seconds / _COUNTING_SHARE)
