"""Tally: who did how much lately, counted over all workers of one server.

In: a key (any words) and a number. Out: the sum over the workers. One anonymous shared mapping, made before the workers
are forked; each worker writes only its own column of a slot, so nothing is locked. Two workers that claim a slot in
the same microsecond can count a client a little wrong until the slot expires: good enough for a limit, never for money.
"""

from __future__ import annotations

import mmap
import os
import struct
from hashlib import blake2b
from typing import Final

from relay.ports import Clock

_WAYS: Final = 8  # slots a key may live in
_HEAD: Final = struct.Struct("<QQ")  # key, when it expires (monotonic milliseconds)
_COUNT: Final = struct.Struct("<I")
_LARGEST: Final = 2**32 - 1


class Tally:
    """Counters of one server; `for_worker` gives a worker its view after the fork."""

    def __init__(self, workers: int, clock: Clock, slots: int = 32_768) -> None:
        """`slots` keys are known at a time; beyond, those that expire first are forgotten."""
        self._workers = workers
        self._clock = clock
        self._sets = max(1, slots // _WAYS)
        self._width = _HEAD.size + _COUNT.size * workers
        self._memory = mmap.mmap(-1, self._sets * _WAYS * self._width)
        # Without a secret a peer could choose addresses that push others out.
        self._secret = os.urandom(16)

    def for_worker(self, index: int) -> WorkerTally:
        """The view of worker `index`; what an earlier process of that number left is forgotten."""
        column = _HEAD.size + _COUNT.size * index
        for slot in range(0, len(self._memory), self._width):
            _COUNT.pack_into(self._memory, slot + column, 0)
        return WorkerTally(self, index)

    def find(self, key: tuple[str, ...]) -> int | None:
        """The slot of `key`, None when nobody counts it."""
        number, first = self._place(key)
        now = self._now()
        for slot in self._ways(first):
            if _HEAD.unpack_from(self._memory, slot)[0] == number:
                return slot if _HEAD.unpack_from(self._memory, slot)[1] > now else None
        return None

    def claim(self, key: tuple[str, ...], seconds: float) -> int:
        """The slot of `key`, made anew where there is none; known for `seconds` from now at least."""
        number, first = self._place(key)
        now = self._now()
        until = now + int(seconds * 1000)
        victim, soonest = first, _HEAD.unpack_from(self._memory, first)[1]
        for slot in self._ways(first):
            owner, expires = _HEAD.unpack_from(self._memory, slot)
            if owner == number:
                if expires <= now:
                    self._empty(slot)
                _HEAD.pack_into(self._memory, slot, number, max(until, expires))
                return slot
            if expires < soonest:
                victim, soonest = slot, expires
        self._empty(victim)
        _HEAD.pack_into(self._memory, victim, number, until)
        return victim

    def sum(self, slot: int) -> int:
        return sum(struct.unpack_from(f"<{self._workers}I", self._memory, slot + _HEAD.size))

    def get(self, slot: int, index: int) -> int:
        return int(_COUNT.unpack_from(self._memory, slot + _HEAD.size + _COUNT.size * index)[0])

    def put(self, slot: int, index: int, count: int) -> None:
        _COUNT.pack_into(self._memory, slot + _HEAD.size + _COUNT.size * index, min(max(count, 0), _LARGEST))

    def _empty(self, slot: int) -> None:
        self._memory[slot : slot + self._width] = bytes(self._width)

    def _place(self, key: tuple[str, ...]) -> tuple[int, int]:
        digest = blake2b("\0".join(key).encode("utf-8", "replace"), digest_size=16, key=self._secret).digest()
        number, place = struct.unpack("<QQ", digest)
        return number or 1, place % self._sets * _WAYS * self._width

    def _ways(self, first: int) -> range:
        return range(first, first + _WAYS * self._width, self._width)

    def _now(self) -> int:
        return int(self._clock.monotonic() * 1000)


class WorkerTally:
    """What one worker counts, and the sums over all of them."""

    def __init__(self, tally: Tally, index: int) -> None:
        self._tally = tally
        self._index = index

    def set(self, key: tuple[str, ...], count: int, seconds: float) -> None:
        """This worker's part is `count`, for `seconds` from now at least."""
        self._tally.put(self._tally.claim(key, seconds), self._index, count)

    def add(self, key: tuple[str, ...], count: int, seconds: float) -> None:
        """`count` more, kept for `seconds` at least."""
        slot = self._tally.claim(key, seconds)
        self._tally.put(slot, self._index, self._tally.get(slot, self._index) + count)

    def total(self, key: tuple[str, ...]) -> int:
        """The sum over all workers."""
        slot = self._tally.find(key)
        return 0 if slot is None else self._tally.sum(slot)
