"""Message ids: 64 bits that grow with time and tell which spool they live in; 16 hex digits outside.

Layout: 44 bits milliseconds since the epoch, 8 bits spool number, 12 bits sequence.
"""

from __future__ import annotations

import re
from typing import Final

from relay.ports import Clock

_SPOOL_BITS = 8
_SEQUENCE_BITS = 12
SPOOLS = 1 << _SPOOL_BITS
ID_BITS_BELOW_TIME = _SPOOL_BITS + _SEQUENCE_BITS
_ID: Final = re.compile(r"[0-7][0-9a-f]{15}\Z")


class IdSource:
    """Unique ids of one spool, also over a clock that jumps back: every id is above `floor` and the one before."""

    def __init__(self, spool: int, clock: Clock, floor: int = 0) -> None:
        if not 0 <= spool < SPOOLS:
            raise ValueError(f"spool number {spool} is not in 0..{SPOOLS - 1}")
        self._spool = spool
        self._clock = clock
        self._millisecond = floor >> ID_BITS_BELOW_TIME
        self._sequence = (1 << _SEQUENCE_BITS) - 1 if floor else -1

    def next(self) -> int:
        now = int(self._clock.now() * 1000)
        if now > self._millisecond:
            self._millisecond, self._sequence = now, -1
        self._sequence += 1
        if self._sequence >> _SEQUENCE_BITS:
            self._millisecond, self._sequence = self._millisecond + 1, 0
        return ((self._millisecond << _SPOOL_BITS) | self._spool) << _SEQUENCE_BITS | self._sequence


def to_text(number: int) -> str:
    return f"{number:016x}"


def to_number(text: str) -> int:
    """Raises ValueError for anything but 16 lower-case hex digits of a number that a database takes."""
    if not _ID.match(text):
        raise ValueError(f"not a message id: {text!r}")
    return int(text, 16)


def spool_of(text: str) -> int:
    """The number of the spool a message id belongs to. Raises ValueError."""
    return to_number(text) >> _SEQUENCE_BITS & (SPOOLS - 1)
