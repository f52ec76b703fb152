"""Tiers: what waits at several priorities, and which of them is served next. No I/O.

The highest first. One turn in ten is for one below it, each of those in its turn, so that a stream of urgent mail does
not keep the rest back for ever. Source: RFC 6710 §5.1 (the higher before the lower).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

ONE_IN: Final = 10


class Tiers:
    """The priorities at which something waits. `served` follows each turn that was taken."""

    __slots__ = ("_descending", "_turns")

    def __init__(self) -> None:
        self._descending: list[int] = []
        self._turns = 0

    def __len__(self) -> int:
        return len(self._descending)

    @property
    def highest(self) -> int:
        return self._descending[0]

    def add(self, priority: int) -> None:
        self._descending.append(priority)
        self._descending.sort(reverse=True)

    def remove(self, priority: int) -> None:
        self._descending.remove(priority)

    def order(self) -> Iterator[int]:
        """Whom to ask, one after the other, until one has something that may go."""
        if len(self._descending) == 1:
            return iter((self._descending[0],))
        return self._several()

    def _several(self) -> Iterator[int]:
        first, below = self._descending[0], self._descending[1:]
        turn, tenth = divmod(self._turns, ONE_IN)
        if tenth == ONE_IN - 1 and below:
            favoured = below[turn % len(below)]
            yield favoured
            below.remove(favoured)
        yield first
        yield from below

    def served(self) -> None:
        self._turns += 1
