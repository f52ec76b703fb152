"""Window: how many deliveries may run to one next hop at a time, learnt from what became of earlier ones.

Additive increase, multiplicative decrease, with the start of TCP (RFC 5681 §3.1): a new next hop gets one place more
for every success, so that a healthy one has them all after some twenty messages; after a fault one more for every
full window of successes. Pure: no clock, no I/O.
"""

from __future__ import annotations

from typing import Final

FIRST: Final = 2


class Window:
    """Comes in: how deliveries ended. Goes out: `size`, from 1 to `most`."""

    __slots__ = ("_excused", "_most", "_successes", "_threshold", "size")

    def __init__(self, most: int) -> None:
        self._most = most
        self._threshold = most
        self._successes = 0
        self._excused = 0
        self.size = min(FIRST, most)

    def limit_to(self, most: int) -> None:
        """Another upper limit from now on."""
        self._most = most
        self._threshold = max(self._threshold, most)
        self.size = min(self.size, most)

    def success(self) -> None:
        """A delivery ended well."""
        self._excused = max(0, self._excused - 1)
        if self.size >= self._most:
            return
        self._successes += 1
        if self.size < self._threshold or self._successes >= self.size:
            self.size += 1
            self._successes = 0

    def fault(self, others: int) -> None:
        """The host gave no session; `others` run to it still. What they meet is the same event and halves once."""
        self._successes = 0
        if self._excused:
            self._excused -= 1
            return
        self.size = self._threshold = max(1, self.size // 2)
        self._excused = others
