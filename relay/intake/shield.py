"""Shield: a message that a client sends again because our 250 was lost on its way is known, in whichever worker.

In: what makes a message the same: login, envelope, content. Out: the id it was stored under. One anonymous shared
mapping, made before the workers are forked; each worker writes only its own region and reads all. Two workers that take
the same message in the same microsecond store it twice. What is forgotten for want of room, or read while another
worker writes it, is taken as new.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from hashlib import blake2b
from typing import Final

from relay.mail.envelope import Envelope
from relay.ports import Clock, LongMessage

PENDING: Final = 0
SLOTS: Final = 65_536  # messages a worker remembers
_WAYS: Final = 4
_ENTRY: Final = struct.Struct("<16sQQ")  # digest, message id or PENDING, when it expires (monotonic milliseconds)
_CHECK: Final = struct.Struct("<I")  # CRC of the entry before it: a reader sees a half-written one for what it is
_STEP: Final = _ENTRY.size + _CHECK.size
_LONGEST_COMMIT: Final = 60.0
_SET: Final = _WAYS * _STEP


def digest_of(username: str, envelope: Envelope, content: bytes | LongMessage) -> bytes:
    """16 octets, the same for the same login, sender, recipients in any order, and content."""
    names = (username, envelope.reverse_path or "", *sorted(one.address for one in envelope.recipients))
    of_content = content.digest if isinstance(content, LongMessage) else blake2b(content).digest()
    return blake2b("\0".join(names).encode("utf-8", "surrogatepass") + of_content, digest_size=16).digest()


class Memory:
    """What all workers remember."""

    def __init__(self, workers: int, slots: int = SLOTS) -> None:
        """`slots` messages a worker."""
        self.sets = max(1, slots // _WAYS)
        self.workers = workers
        self.octets = mmap.mmap(-1, workers * self.sets * _SET)


class Shield:
    """One worker's view."""

    def __init__(self, memory: Memory, worker: int, clock: Clock, window: float) -> None:
        """`window` in seconds; 0 remembers nothing. What an earlier process of that number left is kept."""
        self._memory = memory
        self._clock = clock
        self._region = worker * memory.sets * _SET
        self.window = window

    def begin(self, digest: bytes) -> int | None:
        """The id it is stored under, PENDING while another session stores it, or None: then it is pending now."""
        first = int.from_bytes(digest[:4], "little") % self._memory.sets * _SET
        now, octets = self._now(), self._memory.octets
        for worker in range(self._memory.workers):
            start = worker * self._memory.sets * _SET + first
            for slot in range(start, start + _SET, _STEP):
                found, number, expires = _ENTRY.unpack_from(octets, slot)
                if found == digest and expires > now and _is_whole(octets, slot):
                    return int(number)
        self._put(digest, PENDING, _LONGEST_COMMIT)
        return None

    def stored(self, digest: bytes, number: int, age: float = 0.0) -> None:
        """It is on disk, since `age` seconds."""
        if age < self.window:
            self._put(digest, number, self.window - age)

    def failed(self, digest: bytes) -> None:
        """It was not stored after all."""
        self._put(digest, PENDING, 0.0)

    def _put(self, digest: bytes, number: int, seconds: float) -> None:
        octets = self._memory.octets
        start = self._region + int.from_bytes(digest[:4], "little") % self._memory.sets * _SET
        victim, soonest = start, 2**64
        for slot in range(start, start + _SET, _STEP):
            found, _, expires = _ENTRY.unpack_from(octets, slot)
            if found == digest:
                victim = slot
                break
            if expires < soonest:
                victim, soonest = slot, expires
        entry = _ENTRY.pack(digest, number, self._now() + int(seconds * 1000))
        octets[victim : victim + _STEP] = entry + _CHECK.pack(zlib.crc32(entry))

    def _now(self) -> int:
        return int(self._clock.monotonic() * 1000)


def _is_whole(octets: mmap.mmap, slot: int) -> bool:
    entry = octets[slot : slot + _STEP]
    return entry[_ENTRY.size :] == _CHECK.pack(zlib.crc32(entry[: _ENTRY.size]))
