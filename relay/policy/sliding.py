"""Sliding: how often something happened in the last so many seconds, and whether it may happen once more.

In: counters that others may share, a clock, what is counted. Out: a number. Memory is the counters' alone; nothing here
is durable.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from relay.ports import Clock
from relay.settings import per_second


class Counts(Protocol):
    """Sums over all workers."""

    def set(self, key: tuple[str, ...], count: int, seconds: float) -> None: ...

    def add(self, key: tuple[str, ...], count: int, seconds: float) -> None: ...

    def total(self, key: tuple[str, ...]) -> int: ...


class Allowance(NamedTuple):
    """So many in so many seconds."""

    most: float
    seconds: float


def allowance(rate: str) -> Allowance | None:
    """`300/hour` as 300 in 3600 seconds; None for an empty one, which is no limit."""
    if not rate:
        return None
    count = int(rate.partition("/")[0])
    return Allowance(count, count / per_second(rate))


class Sliding:
    """Counting in a sliding window."""

    def __init__(self, counts: Counts, clock: Clock) -> None:
        self._counts = counts
        self._clock = clock

    def count(self, kind: str, who: str, seconds: float) -> None:
        """It happened once more."""
        window = int(self._clock.monotonic() // seconds)
        self._counts.add((kind, who, str(window)), 1, 2 * seconds)

    def sum(self, kind: str, who: str, seconds: float) -> float:
        """How many in the last `seconds`, the window before counted by the share of it that is still inside."""
        window, inside = divmod(self._clock.monotonic(), seconds)
        before = self._counts.total((kind, who, str(int(window) - 1)))
        return self._counts.total((kind, who, str(int(window)))) + before * (1 - inside / seconds)

    def left(self, kind: str, who: str, allowed: Allowance) -> float:
        """How many may still happen now; counts this one where there is room for it."""
        left = allowed.most - self.sum(kind, who, allowed.seconds)
        if left > 0:
            self.count(kind, who, allowed.seconds)
        return left
