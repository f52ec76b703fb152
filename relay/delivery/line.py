"""Line: the jobs that wait for one next hop, and which of them goes next. No I/O, no clock.

New mail goes before what is tried again, but one start in ten is for the latter where both wait, so that a stream of
new mail does not keep it back for ever. Among each, accounts take turns: a single message of one does not wait behind
the bulk of another.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from relay.delivery.job import Job

_ONE_IN: Final = 10


class Line:
    """Jobs of one next hop."""

    __slots__ = ("_again", "_new", "_starts")

    def __init__(self) -> None:
        self._new = _Turns()
        self._again = _Turns()
        self._starts = 0

    def __len__(self) -> int:
        return self._new.jobs + self._again.jobs

    def add(self, job: Job) -> None:
        self._turns(again=job.again).add(job)

    def pop(self) -> Job:
        """The next job; there has to be one."""
        self._starts += 1
        turn = [self._new, self._again]
        if self._starts % _ONE_IN == 0:
            turn.reverse()
        return next(turns for turns in turn if turns.jobs).pop()

    def remove(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Take jobs out."""
        return self._new.remove(unwanted) + self._again.remove(unwanted)

    def waiting(self, account: str, *, again: bool) -> int:
        """Jobs of one account."""
        return self._turns(again=again).waiting(account)

    def _turns(self, *, again: bool) -> _Turns:
        return self._again if again else self._new


class _Turns:
    """Jobs by account, the one whose turn it is first."""

    __slots__ = ("_accounts", "jobs")

    def __init__(self) -> None:
        self._accounts: OrderedDict[str, deque[Job]] = OrderedDict()
        self.jobs = 0

    def add(self, job: Job) -> None:
        self._accounts.setdefault(job.message.account, deque()).append(job)
        self.jobs += 1

    def pop(self) -> Job:
        account, jobs = self._accounts.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            self._accounts[account] = jobs
        self.jobs -= 1
        return job

    def remove(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        removed = []
        for account, jobs in tuple(self._accounts.items()):
            gone = [job for job in jobs if unwanted(job)]
            if not gone:
                continue
            removed += gone
            kept = deque(job for job in jobs if not unwanted(job))
            if kept:
                self._accounts[account] = kept
            else:
                del self._accounts[account]
        self.jobs -= len(removed)
        return removed

    def waiting(self, account: str) -> int:
        return len(self._accounts.get(account, ()))
