"""Tally: counts of all workers, in one piece of memory."""

from __future__ import annotations

import os

from relay.smtpd.tally import Tally


class Clock:
    """Stands until it is moved."""

    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> float:
        return self.seconds


def test_what_workers_count_is_summed_over_them() -> None:
    tally = Tally(3, Clock())
    workers = [tally.for_worker(index) for index in range(3)]
    for number, worker in enumerate(workers):
        worker.add(("failed", "192.0.2.1"), number + 1, 60)
    assert [worker.total(("failed", "192.0.2.1")) for worker in workers] == [6, 6, 6]
    assert workers[0].total(("failed", "192.0.2.2")) == 0


def test_a_forked_process_sees_what_the_other_counts_and_the_other_way_round() -> None:
    tally = Tally(2, Clock())
    here = tally.for_worker(0)
    here.add(("k",), 5, 60)
    pid = os.fork()
    if pid == 0:
        there = tally.for_worker(1)
        there.add(("k",), 2, 60)
        os._exit(there.total(("k",)))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert here.total(("k",)) == 7


def test_a_key_is_forgotten_when_its_time_is_over_and_begins_anew() -> None:
    clock = Clock()
    counts = Tally(1, clock).for_worker(0)
    counts.add(("k",), 3, 10)
    clock.seconds += 9
    assert counts.total(("k",)) == 3
    clock.seconds += 2
    assert counts.total(("k",)) == 0
    counts.add(("k",), 1, 10)
    assert counts.total(("k",)) == 1


def test_a_worker_that_starts_again_forgets_its_own_part_alone() -> None:
    tally = Tally(2, Clock())
    tally.for_worker(0).set(("open", "192.0.2.1"), 4, 60)
    other = tally.for_worker(1)
    other.set(("open", "192.0.2.1"), 2, 60)
    assert tally.for_worker(0).total(("open", "192.0.2.1")) == 2


def test_a_full_memory_forgets_what_would_have_expired_first_and_never_grows() -> None:
    clock = Clock()
    counts = Tally(1, clock, slots=64).for_worker(0)
    counts.add(("dear",), 7, 1_000_000)
    for number in range(5000):
        counts.add((f"k{number}",), 1, 60)
    assert counts.total(("dear",)) == 7
    assert counts.total(("k4999",)) == 1


def test_a_count_neither_overflows_nor_goes_below_zero() -> None:
    counts = Tally(1, Clock()).for_worker(0)
    counts.set(("k",), 2**40, 60)
    assert counts.total(("k",)) == 2**32 - 1
    counts.set(("k",), -3, 60)
    assert counts.total(("k",)) == 0
