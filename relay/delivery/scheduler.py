"""Scheduler: which job goes next. Round robin over next hops, each with a limit of its own; no I/O.

Comes in: jobs, and `limit`, which says how many may run to a next hop just now. Goes out: the job that starts next.
A slow or huge destination holds its own queue only: it never delays another.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator

from relay.delivery.job import Job, Place
from relay.delivery.line import Line


class Scheduler:
    """Jobs waiting in memory. `add`, then `pop` until None, and `release` each job popped.

    Then `wake` after `seconds`, when rate limits hold any back; such a job holds no place.
    """

    def __init__(self, concurrency: int, limit: Callable[[str], int]) -> None:
        """`limit` gives 1 at least; it is asked anew when a job of that next hop comes, starts or ends."""
        self._concurrency = concurrency
        self._limit = limit
        self._waiting: dict[str, Line] = {}
        self._active: dict[str, int] = {}
        self._running = 0
        # Queues that have a job and room for it, in turn.
        self._ready: OrderedDict[str, None] = OrderedDict()
        # Queues in which rate limits hold back every job.
        self._held: set[str] = set()
        self.seconds = math.inf

    def limit_to(self, concurrency: int) -> None:
        """So many jobs may run together from now on."""
        self._concurrency = concurrency

    def add(self, job: Job) -> None:
        self._waiting.setdefault(job.queue, Line()).add(job)
        self._refresh(job.queue)

    def pop(self) -> Job | None:
        """The next job, or None when nothing may start now."""
        while self._ready and self._running < self._concurrency:
            queue, _ = self._ready.popitem(last=False)
            found = self._waiting[queue].pop()
            if isinstance(found, float):
                self._held.add(queue)
                self.seconds = min(self.seconds, found)
                continue
            self._running += 1
            self._active[queue] = self._active.get(queue, 0) + 1
            self._refresh(queue)
            return found
        return None

    def wake(self) -> None:
        """`seconds` are over: ask the rate limits again."""
        held, self._held, self.seconds = self._held, set(), math.inf
        for queue in held:
            self._refresh(queue)

    def release(self, job: Job) -> None:
        """The job is over; its place at the next hop is free."""
        queue = job.queue
        self._running -= 1
        self._active[queue] -= 1
        if not self._active[queue]:
            del self._active[queue]
        self._refresh(queue)

    def remove(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Take waiting jobs out; those that run are not touched."""
        removed = []
        for queue in tuple(self._waiting):
            removed += self._waiting[queue].remove(unwanted)
            self._refresh(queue)
        return removed

    def waiting(self, place: Place) -> int:
        """Jobs that wait for a next hop, of one account, new or again."""
        line = self._waiting.get(place.queue)
        return line.waiting(place) if line else 0

    @property
    def running(self) -> int:
        return self._running

    def queues(self) -> Iterator[tuple[str, int, int]]:
        """Next hop, jobs waiting, jobs running."""
        for queue in self._waiting.keys() | self._active.keys():
            yield queue, len(self._waiting.get(queue, ())), self._active.get(queue, 0)

    def _refresh(self, queue: str) -> None:
        waiting = self._waiting.get(queue)
        if not waiting:
            self._waiting.pop(queue, None)
            self._ready.pop(queue, None)
        elif self._active.get(queue, 0) < self._limit(queue):
            self._ready.setdefault(queue)
        else:
            self._ready.pop(queue, None)
