"""Line: the jobs that wait for one next hop, and which of them goes next. No I/O.

The highest priority first (tiers.py). Within one, new mail goes before what is tried again, but one start in ten is
for the latter where both wait, so that a stream of new mail does not keep it back for ever. Among each, accounts take
turns: a single message of one does not wait behind the bulk of another. What a rate limit holds back lets others by.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from relay.delivery.job import Job, Place
from relay.delivery.tiers import Tiers

_ONE_IN: Final = 10


class Line:
    """Jobs of one next hop."""

    __slots__ = ("_equals", "_tiers", "jobs")

    def __init__(self) -> None:
        self._equals: dict[int, _Equals] = {}
        self._tiers = Tiers()
        self.jobs = 0

    def __len__(self) -> int:
        return self.jobs

    @property
    def highest(self) -> int:
        """The highest priority that waits; there has to be a job."""
        return self._tiers.highest

    def add(self, job: Job) -> None:
        priority = job.place.priority
        equals = self._equals.get(priority)
        if equals is None:
            equals = self._equals[priority] = _Equals()
            self._tiers.add(priority)
        equals.add(job)
        self.jobs += 1

    def pop(self) -> Job | float:
        """The next job, or the seconds until a rate limit lets one go; there has to be one."""
        seconds = math.inf
        for priority in self._tiers.order():
            equals = self._equals[priority]
            found = equals.pop()
            if isinstance(found, Job):
                self._tiers.served()
                self.jobs -= 1
                if not len(equals):
                    self._drop(priority)
                return found
            seconds = min(seconds, found)
        return seconds

    def remove(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Take jobs out."""
        removed = []
        for priority, equals in tuple(self._equals.items()):
            removed += equals.remove(unwanted)
            if not len(equals):
                self._drop(priority)
        self.jobs -= len(removed)
        return removed

    def waiting(self, place: Place) -> int:
        """Jobs of one place."""
        equals = self._equals.get(place.priority)
        return equals.waiting(place) if equals else 0

    def _drop(self, priority: int) -> None:
        del self._equals[priority]
        self._tiers.remove(priority)


class _Equals:
    """Jobs of one priority: new ones, and those tried again."""

    __slots__ = ("_again", "_new", "_starts")

    def __init__(self) -> None:
        self._new = _Turns()
        self._again = _Turns()
        self._starts = 0

    def __len__(self) -> int:
        return self._new.jobs + self._again.jobs

    def add(self, job: Job) -> None:
        self._turns(again=job.place.again).add(job)

    def pop(self) -> Job | float:
        turn = [self._new, self._again]
        if self._starts % _ONE_IN == _ONE_IN - 1:
            turn.reverse()
        seconds = math.inf
        for turns in turn:
            found = turns.pop()
            if isinstance(found, Job):
                self._starts += 1
                return found
            seconds = min(seconds, found)
        return seconds

    def remove(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        return self._new.remove(unwanted) + self._again.remove(unwanted)

    def waiting(self, place: Place) -> int:
        return self._turns(again=place.again).waiting(place)

    def _turns(self, *, again: bool) -> _Turns:
        return self._again if again else self._new


class _Turns:
    """Jobs by place, the one whose turn it is first."""

    __slots__ = ("_places", "jobs")

    def __init__(self) -> None:
        self._places: OrderedDict[Place, deque[Job]] = OrderedDict()
        self.jobs = 0

    def add(self, job: Job) -> None:
        self._places.setdefault(job.place, deque()).append(job)
        self.jobs += 1

    def pop(self) -> Job | float:
        """A job with a token from each of its limits, or the seconds until there is one."""
        seconds = math.inf
        for place in self._places:
            wait = max(bucket.wait() for bucket in place.limits) if place.limits else 0.0
            if not wait:
                return self._take(place)
            seconds = min(seconds, wait)
        return seconds

    def _take(self, place: Place) -> Job:
        jobs = self._places.pop(place)
        job = jobs.popleft()
        if jobs:
            self._places[place] = jobs
        self.jobs -= 1
        for bucket in place.limits:
            bucket.take()
        return job

    def remove(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        removed = []
        for place, jobs in tuple(self._places.items()):
            gone = [job for job in jobs if unwanted(job)]
            if not gone:
                continue
            removed += gone
            kept = deque(job for job in jobs if not unwanted(job))
            if kept:
                self._places[place] = kept
            else:
                del self._places[place]
        self.jobs -= len(removed)
        return removed

    def waiting(self, place: Place) -> int:
        return len(self._places.get(place, ()))
