"""Breaker: whether a next hop that gives no session is worth dialling.

`closed` after a success; `open` after `faults` faults in a row; when its wait is over one probe decides: a success
closes it, a fault opens it for twice as long, from 30 seconds to 10 minutes. Pure but for the injected clock and dice.
Source: M. Nygard, Release It!, "Circuit Breaker".
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from relay.ports import Clock, Random

SHORTEST: Final = 30.0
LONGEST: Final = 600.0
JITTER: Final = 0.15  # either way, so that workers and next hops that died together do not probe together


class Change(Enum):
    """What an end did to a breaker; OPENED also when a probe failed."""

    NONE = auto()
    OPENED = auto()
    CLOSED = auto()


class Breaker:
    """Of one next hop. `begin` and `end` go around each delivery that dials it."""

    __slots__ = ("_clock", "_faults", "_probes", "_random", "_row", "_until", "_wait")

    def __init__(self, faults: int, clock: Clock, random: Random) -> None:
        """`faults` in a row open it; 0: it never opens."""
        self._faults = faults
        self._clock = clock
        self._random = random
        self._row = 0
        self._wait = 0.0  # the last one; 0: it is closed
        self._until = 0.0
        self._probes = 0

    def open_after(self, faults: int) -> None:
        """So many faults in a row from now on; 0: it never opens."""
        self._faults = faults

    @property
    def is_open(self) -> bool:
        return self._wait > 0.0

    def left(self) -> float:
        """Seconds until a delivery may dial; 0: now. While a probe is out, the shortest wait."""
        if not self.is_open:
            return 0.0
        return SHORTEST if self._probes else max(0.0, self._until - self._clock.monotonic())

    def unasked(self) -> float:
        """Seconds since its wait was over and nobody came to probe."""
        return 0.0 if self._probes else max(0.0, self._clock.monotonic() - self._until)

    def begin(self) -> bool:
        """A delivery dials; returns whether it is a probe, which `end` wants to know."""
        if self.is_open:
            self._probes += 1
        return self.is_open

    def end(self, *, probe: bool, fault: bool | None) -> Change:
        """What it met; `fault` is None when it did not come to dialling. Returns what that changed."""
        if probe:
            self._probes = max(0, self._probes - 1)
        if fault is None:
            return Change.NONE
        if not fault:
            return self.close()
        self._row += 1
        if probe if self.is_open else 0 < self._faults <= self._row:
            return self._open()
        return Change.NONE

    def close(self) -> Change:
        """It answers, or shall be tried as if it did."""
        change = Change.CLOSED if self.is_open else Change.NONE
        self._row = 0
        self._wait = 0.0
        self._probes = 0
        return change

    def _open(self) -> Change:
        self._wait = min(max(SHORTEST, self._wait * 2), LONGEST)
        wait = self._wait * (1 + JITTER * (2 * self._random.random() - 1))
        self._until = self._clock.monotonic() + wait
        return Change.OPENED
