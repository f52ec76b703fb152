"""When to try again: six attempts by default, waits that vary within bounds, peers' wishes within reason."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.retry import LONGEST_HINT, SHORTEST_HINT, next_attempt_at
from relay.settings import RetrySettings, Settings

START = 1_800_000_000.0
PROFILES = [Settings().retry_profile(name) for name in ("sendarix", "mta", "otp")]


def wait(profile: RetrySettings, attempts: int, *, number: float = 0.5, age: float = 0.0, hint: float | None = None):
    now = START + age
    at = next_attempt_at(profile, attempts=attempts, received_at=START, now=now, throw=number, hint=hint)
    return None if at is None else at - now


def test_the_default_profile_makes_six_attempts():
    profile = Settings().retry_profile(Settings().delivery.retry)
    assert [wait(profile, attempts) for attempts in range(1, 7)] == [30, 300, 1800, 7200, 18_000, None]


def test_every_profile_ends():
    for profile in PROFILES:
        age, attempts = 0.0, 1
        while (delay := wait(profile, attempts, age=age)) is not None:
            age, attempts = age + delay, attempts + 1
        assert attempts <= len(profile.delays) + 1
        assert not profile.expire or age <= profile.expire


@given(st.sampled_from(PROFILES), st.integers(1, 5), st.floats(0, 1, exclude_max=True))
def test_a_wait_varies_by_the_jitter_and_no_more(profile, attempts, number):
    delay = wait(profile, attempts, number=number)
    assert delay is not None
    base = profile.delays[attempts - 1]
    assert base * (1 - profile.jitter) - 1e-6 <= delay <= base * (1 + profile.jitter) + 1e-6


def test_jitter_goes_both_ways():
    profile, dice = PROFILES[0], random.Random(1)
    waits = [wait(profile, 1, number=dice.random()) for _ in range(200)]
    assert min(waits) < 27
    assert max(waits) > 33


@pytest.mark.parametrize(
    ("hint", "expected"),
    [(0, 30), (10, 30), (29, 30), (31, 31), (3600, 3600), (20_000, LONGEST_HINT), (math.inf, LONGEST_HINT), (-5, 30)],
)
def test_a_peers_wish_lengthens_a_wait_within_bounds(hint, expected):
    assert wait(PROFILES[0], 1, hint=hint) == expected


@pytest.mark.parametrize("hint", [1.0, 60.0, 299.0, math.nan])
def test_a_peers_wish_never_shortens_a_wait(hint):
    assert wait(PROFILES[0], 2, hint=hint) == 300


@given(st.one_of(st.none(), st.floats(allow_nan=True)), st.integers(1, 5), st.floats(0, 1, exclude_max=True))
def test_no_wish_makes_a_wait_that_is_no_time(hint, attempts, number):
    delay = wait(PROFILES[0], attempts, number=number, hint=hint)
    assert delay is not None
    assert SHORTEST_HINT * 0.85 - 1e-6 <= delay <= 18_000 * 1.15 + 1e-6


def test_a_wish_gives_no_attempt_beyond_the_profile():
    assert wait(PROFILES[0], 6, hint=60) is None


def test_what_would_come_after_its_expiry_does_not_come():
    profile = RetrySettings(delays=(100, 100, 100), jitter=0, expire=250)
    assert wait(profile, 2, age=150) == 100
    assert wait(profile, 2, age=151) is None
    assert wait(profile, 2, age=0, hint=300) is None


def test_a_first_retry_is_granted_whatever_the_age():
    """A clock that jumps forward must not bounce a whole queue at one look."""
    profile = RetrySettings(delays=(100, 100), jitter=0, expire=250)
    assert wait(profile, 1, age=1e9) == 100
