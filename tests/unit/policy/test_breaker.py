"""When a next hop is not dialled, and who finds out that it answers again."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from relay.policy.breaker import Breaker, Change


@dataclass
class Time:
    seconds: float = 1000.0

    def now(self) -> float:
        raise AssertionError("a clock that can jump")

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Dice:
    fallen: float = 0.5

    def random(self) -> float:
        return self.fallen

    def shuffle(self, x: list[str], /) -> None:
        raise AssertionError


def delivery(breaker: Breaker, *, fault: bool | None) -> Change:
    return breaker.end(probe=breaker.begin(), fault=fault)


def opened(time: Time, dice: Dice | None = None, faults: int = 3) -> Breaker:
    breaker = Breaker(faults, time, dice or Dice())
    for _ in range(faults):
        delivery(breaker, fault=True)
    return breaker


def test_it_opens_after_so_many_faults_in_a_row_and_a_success_between_begins_the_count_anew():
    breaker = Breaker(3, Time(), Dice())
    changes = [delivery(breaker, fault=fault) for fault in (True, True, False, True, True, True)]
    assert changes == [Change.NONE] * 5 + [Change.OPENED]
    assert breaker.left() == 30.0


def test_with_zero_it_never_opens():
    breaker = Breaker(0, Time(), Dice())
    assert {delivery(breaker, fault=True) for _ in range(100)} == {Change.NONE}
    assert breaker.left() == 0.0


def test_when_its_wait_is_over_one_probe_goes_and_the_others_wait_for_it():
    time = Time()
    breaker = opened(time)
    time.seconds += 29.0
    assert breaker.left() == 1.0
    time.seconds += 1.0
    assert breaker.left() == 0.0
    probe = breaker.begin()
    assert probe
    assert breaker.left() == 30.0
    assert breaker.end(probe=probe, fault=False) is Change.CLOSED
    assert (breaker.is_open, breaker.left()) == (False, 0.0)


def test_each_probe_that_fails_doubles_the_wait_up_to_ten_minutes():
    time = Time()
    breaker = opened(time)
    waits = []
    for _ in range(7):
        waits.append(breaker.left())
        time.seconds += breaker.left()
        assert delivery(breaker, fault=True) is Change.OPENED
    assert waits == [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0]
    time.seconds += 600.0
    delivery(breaker, fault=False)
    for _ in range(3):
        delivery(breaker, fault=True)
    assert breaker.left() == 30.0


def test_a_probe_that_never_dialled_leaves_the_next_one_to_it():
    time = Time()
    breaker = opened(time)
    time.seconds += 30.0
    assert delivery(breaker, fault=None) is Change.NONE
    assert (breaker.is_open, breaker.left()) == (True, 0.0)


@pytest.mark.parametrize(("fallen", "wait"), [(0.0, 25.5), (1.0, 34.5)])
def test_waits_vary_by_fifteen_per_cent(fallen, wait):
    assert opened(Time(), Dice(fallen)).left() == pytest.approx(wait)


def test_late_faults_of_deliveries_begun_before_it_opened_do_not_lengthen_the_wait():
    breaker = Breaker(3, Time(), Dice())
    probes = [breaker.begin() for _ in range(20)]
    changes = [breaker.end(probe=probe, fault=True) for probe in probes]
    assert changes.count(Change.OPENED) == 1
    assert breaker.left() == 30.0


def test_a_late_success_closes_it():
    breaker = Breaker(3, Time(), Dice())
    late = breaker.begin()
    for _ in range(3):
        delivery(breaker, fault=True)
    assert breaker.end(probe=late, fault=False) is Change.CLOSED
    assert breaker.left() == 0.0


def test_a_fault_of_a_second_probe_does_not_open_what_the_first_closed():
    time = Time()
    breaker = opened(time)
    time.seconds += 30.0
    first, second = breaker.begin(), breaker.begin()
    breaker.end(probe=first, fault=False)
    assert breaker.end(probe=second, fault=True) is Change.NONE


def test_how_long_nobody_came_to_probe_counts_from_the_end_of_its_wait():
    time = Time()
    breaker = opened(time)
    assert breaker.unasked() == 0.0
    time.seconds += 100.0
    assert breaker.unasked() == 70.0
    breaker.begin()
    assert breaker.unasked() == 0.0
