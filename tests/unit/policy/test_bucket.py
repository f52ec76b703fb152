"""A token bucket keeps to its rate over any time, and to its burst at once."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from relay.policy.bucket import Bucket


@dataclass
class Time:
    seconds: float = 1000.0

    def now(self) -> float:
        raise AssertionError("a clock that can jump")

    def monotonic(self) -> float:
        return self.seconds


def taken_at_once(bucket: Bucket) -> int:
    count = 0
    while not bucket.wait():
        bucket.take()
        count += 1
    return count


@pytest.mark.parametrize(("burst", "at_once"), [(1, 1), (5, 5), (0.25, 1)])
def test_it_is_full_at_first_and_lets_its_burst_pass_at_once(burst, at_once):
    assert taken_at_once(Bucket("x", 10.0, burst, Time())) == at_once


def test_who_waits_as_long_as_told_gets_a_token_then_and_not_before():
    time = Time()
    bucket = Bucket("x", 4.0, 1, time)
    bucket.take()
    assert bucket.wait() == pytest.approx(0.25)
    time.seconds += 0.2
    assert bucket.wait() == pytest.approx(0.05)
    time.seconds += bucket.wait()
    assert bucket.wait() == 0.0


def test_after_a_long_silence_no_more_than_the_burst_passes():
    time = Time()
    bucket = Bucket("x", 10.0, 3, time)
    time.seconds += 86_400
    assert taken_at_once(bucket) == 3


def test_over_any_time_no_more_pass_than_rate_and_burst_allow_and_no_fewer_than_asked():
    dice, time = random.Random(4), Time()
    bucket = Bucket("x", 7.0, 5, time)
    passed = taken_at_once(bucket)
    for _ in range(5000):
        time.seconds += dice.random() * 0.3
        passed += taken_at_once(bucket)
    assert passed == pytest.approx(5 + 7.0 * (time.seconds - 1000.0), abs=2)
