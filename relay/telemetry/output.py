"""Output: puts finished log lines on a file descriptor without ever making the event loop wait for its reader.

In: one line of at most `LONGEST_LINE` octets. Before each write the descriptor is asked whether it takes one; a full
pipe (a stopped `docker logs`, a paused terminal) costs that line, which is counted and reported by the next line that
gets through. A line is one write of at most PIPE_BUF octets, so lines of several workers on one pipe never mix.
Never raises: a log that cannot be written must not stop mail.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Final

# POSIX PIPE_BUF on Linux: a pipe that polls writable takes this much at once.
LONGEST_LINE: Final = 4096


class Output:
    """One descriptor."""

    __slots__ = ("_descriptor", "_lost", "_lost_line", "_poll")

    def __init__(self, descriptor: int, lost_line: Callable[[int], bytes]) -> None:
        """`lost_line(count)` renders the line that reports `count` lost lines."""
        self._descriptor = descriptor
        self._lost = 0
        self._lost_line = lost_line
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        self._poll = poll.poll

    def write(self, line: bytes) -> None:
        """Write one line, its LF included, or count it as lost."""
        try:
            if self._lost and self._writable():
                lost, self._lost = self._lost, 0
                os.write(self._descriptor, self._lost_line(lost))
            if self._writable():
                os.write(self._descriptor, line)
                return
        except OSError:
            pass  # the reader is gone or the disk is full
        self._lost += 1

    def _writable(self) -> bool:
        return bool(self._poll(0))
