"""Scheduler: which job goes next. Round robin over next hops, each with a limit of its own, those with the most urgent
mail first; no I/O.

Comes in: jobs, and `limit`, which says how many may run to a next hop just now. Goes out: the job that starts next.
A slow or huge destination holds its own queue only: it never delays another. Queues whose mail goes to the same hosts
share their places and take turns for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from relay.delivery.job import Job, Place
from relay.delivery.line import Line
from relay.delivery.ready import Ready


class Scheduler:
    """Jobs waiting in memory. `add`, then `pop` until None, and `release` each job popped.

    Then `wake` after `seconds`, when rate limits hold any back; such a job holds no place.
    """

    def __init__(
        self, concurrency: int, limit: Callable[[str], int], hosts: Callable[[str], str] = lambda queue: queue
    ) -> None:
        """`limit` gives 1 at least; it is asked anew when a job of that next hop comes, starts or ends.

        `hosts` says under which name the places of a queue are counted.
        """
        self._concurrency = concurrency
        self._limit = limit
        self._hosts = hosts
        self._waiting: dict[str, Line] = {}
        self._active: dict[str, int] = {}
        # Places taken by name of the hosts, and the name under which each running job took its own.
        self._taken: dict[str, int] = {}
        self._under: dict[int, str] = {}
        # Queues for which there is no room, by name of the hosts they wait for; and the other way round. What is empty
        # stays as long as something runs to those hosts.
        self._full: dict[str, Ready] = {}
        self._waits_for: dict[str, str] = {}
        self._running = 0
        # Queues that have a job and room for it, in turn.
        self._ready = Ready()
        # Queues in which rate limits hold back every job.
        self._held: set[str] = set()
        self.seconds = math.inf

    def limit_to(self, concurrency: int) -> None:
        """So many jobs may run together from now on."""
        self._concurrency = concurrency

    def add(self, job: Job) -> None:
        line = self._waiting.get(job.queue)
        if line is None:
            line = self._waiting[job.queue] = Line()
        line.add(job)
        self._refresh(job.queue)

    def starts(self, job: Job) -> bool:
        """Whether it may run at once, for nobody waits for what it needs; else `add` it. As after `pop` if it does."""
        queue, hosts = job.queue, self._hosts(job.queue)
        if self._ready or queue in self._waiting or self._full.get(hosts) or job.limits:
            return False
        if self._running >= self._concurrency or self._is_full(hosts):
            return False
        self._start(job, hosts)
        return True

    def pop(self) -> Job | None:
        """The next job, or None when nothing may start now."""
        while self._ready and self._running < self._concurrency:
            queue = self._ready.pop()
            hosts = self._hosts(queue)
            if self._is_full(hosts):
                self._wait(queue, hosts)
                continue
            found = self._waiting[queue].pop()
            if isinstance(found, float):
                self._held.add(queue)
                self.seconds = min(self.seconds, found)
                continue
            self._start(found, hosts)
            self._refresh(queue)
            return found
        return None

    def _start(self, job: Job, hosts: str) -> None:
        self._running += 1
        self._active[job.queue] = self._active.get(job.queue, 0) + 1
        self._take(job, hosts)

    def has_room(self, job: Job) -> bool:
        """Count a running job under the hosts its queue is now known to go to; False: none is left, it waits again."""
        hosts, before = self._hosts(job.queue), self._under[id(job)]
        if hosts == before:
            return True
        if self._is_full(hosts):
            self.release(job)
            self.add(job)
            return False
        self._leave(job)
        self._take(job, hosts)
        return True

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
        self._leave(job)
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
        line = self._waiting.get(queue)
        if line is None:
            return
        hosts = self._hosts(queue)
        if not line.jobs:
            del self._waiting[queue]
            self._ready.drop(queue)
            self._wait_no_more(queue)
        elif self._is_full(hosts):
            self._ready.drop(queue)
            self._wait(queue, hosts)
        else:
            self._wait_no_more(queue)
            self._ready.put(queue, line.highest)

    # --- places --------------------------------------------------------------------------------------------

    def _is_full(self, hosts: str) -> bool:
        return self._taken.get(hosts, 0) >= self._limit(hosts)

    def _take(self, job: Job, hosts: str) -> None:
        self._under[id(job)] = hosts
        self._taken[hosts] = self._taken.get(hosts, 0) + 1

    def _leave(self, job: Job) -> None:
        """Whoever waited longest for these hosts may look again, those with the most urgent mail first."""
        hosts = self._under.pop(id(job))
        self._taken[hosts] -= 1
        taken = self._taken[hosts]
        if not taken:
            del self._taken[hosts]
        full = self._full.get(hosts)
        if full:
            places = self._limit(hosts) - taken
            while places > 0 and full:
                queue = full.pop()
                self._waits_for.pop(queue)
                self._ready.put(queue, self._waiting[queue].highest)
                places -= 1
        self._drop_unused(hosts)

    def _wait(self, queue: str, hosts: str) -> None:
        if self._waits_for.get(queue) != hosts:
            self._wait_no_more(queue)
            self._waits_for[queue] = hosts
        full = self._full.get(hosts)
        if full is None:
            full = self._full[hosts] = Ready()
        full.put(queue, self._waiting[queue].highest)

    def _wait_no_more(self, queue: str) -> None:
        hosts = self._waits_for.pop(queue, None)
        if hosts is not None:
            self._full[hosts].drop(queue)
            self._drop_unused(hosts)

    def _drop_unused(self, hosts: str) -> None:
        if hosts not in self._taken and not self._full.get(hosts, True):
            del self._full[hosts]
