"""Retry: after an attempt that did not end it, when to try again, or that it is over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from relay.settings import RetrySettings

SHORTEST_HINT: Final = 30.0
LONGEST_HINT: Final = 14_400.0


def longest_wait(profiles: Iterable[RetrySettings], pauses: Iterable[float]) -> float:
    """Seconds beyond which nothing is ever put off: what waits longer was put off by a clock that was wrong."""
    delays = (delay * (1 + profile.jitter) for profile in profiles for delay in profile.delays)
    return max(LONGEST_HINT, *pauses, *delays)


def bounded(profile: RetrySettings, received_at: float, expires_at: float | None) -> RetrySettings:
    """`profile`, ended at the latest when the message itself says so."""
    if expires_at is None:
        return profile
    age = max(1.0, expires_at - received_at)
    return profile.model_copy(update={"expire": min(profile.expire or age, age)})


def gives_up_at(profile: RetrySettings, received_at: float) -> float:
    """About when the last attempt is over."""
    whole = sum(profile.delays)
    return received_at + (min(profile.expire, whole) if profile.expire else whole)


def next_attempt_at(
    profile: RetrySettings,
    *,
    attempts: int,
    received_at: float,
    now: float,
    throw: float,
    hint: float | None = None,
) -> float | None:
    """Seconds since the epoch of the next attempt, None when the profile is exhausted.

    `attempts` counts those made, this one included. `throw`, between 0 and 1, places the jitter: who was put off
    together shares it and comes back together. `hint` is the peer's wish in seconds, clamped to 30 s - 4 h; it can
    lengthen a wait, never shorten it below its own value. A message always gets its first retry, whatever its age: a
    clock that jumps forward must not bounce a queue at one look.
    """
    if attempts > len(profile.delays):
        return None
    delay = profile.delays[attempts - 1] * (1 + profile.jitter * (2 * throw - 1))
    if hint is not None:
        delay = max(delay, min(max(hint, SHORTEST_HINT), LONGEST_HINT))
    if profile.expire and attempts > 1 and now + delay > received_at + profile.expire:
        return None
    return now + delay
