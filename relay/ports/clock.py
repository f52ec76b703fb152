"""Time and randomness as data."""

from __future__ import annotations

import random
import time
from typing import Protocol


class Clock(Protocol):
    """Time as data, so that tests own it."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump."""
        ...


class SystemClock:
    """The real clock."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class Random(Protocol):
    """Randomness as data; `random.Random` fits."""

    def random(self) -> float: ...

    def shuffle(self, x: list[str], /) -> None: ...


def system_random() -> random.Random:
    return random.Random()
