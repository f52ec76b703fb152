"""Content that stays on disk: what a message is while it goes out, where it is too long to be in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

LONG: Final = 1_048_576
"""Octets above which a message on its way out is left in its file."""
PIECE: Final = 262_144
"""Octets of it that are read at a time."""


class Stored(Protocol):
    """An open file with a message as it was spooled. Reading is done on a thread, and raises StoreError."""

    @property
    def size(self) -> int: ...

    async def read(self, start: int, octets: int) -> bytes:
        """So many octets, fewer at the end alone."""
        ...

    async def each_piece(self, start: int, look: Callable[[bytes], None]) -> None:
        """Show everything from octet `start` on, a piece at a time; `look` is called on the thread."""
        ...

    def close(self) -> None:
        """To be called once."""
        ...


@dataclass(frozen=True, slots=True)
class LongContent:
    """`head`, which begins with the whole header, and after it what `rest` holds from octet `skip` on.

    `header` is its header block. `ascii` and `ends_line`: whether all octets are ASCII, and the last two CRLF.
    """

    header: bytes
    head: bytes
    rest: Stored
    skip: int
    ascii: bool
    ends_line: bool

    def __len__(self) -> int:
        return len(self.head) + self.rest.size - self.skip

    def isascii(self) -> bool:
        return self.ascii

    async def piece(self, start: int) -> bytes:
        """What comes from octet `start` on, and nothing at the end. Raises StoreError."""
        if start < len(self.head):
            return self.head[start:]
        return await self.rest.read(start - len(self.head) + self.skip, PIECE)
