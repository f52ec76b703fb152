"""Output: puts finished log lines on a file descriptor without ever making the event loop wait for its reader.

In: one line of at most `LONGEST_LINE` octets. Before each write the descriptor is asked whether it takes one; a full
pipe (a stopped `docker logs`, a paused terminal) costs what was to be written, which is counted and reported by the
next line that gets through. Lines are written whole and at most PIPE_BUF octets at a time, so lines of several workers
on one pipe never mix. While a loop runs, the lines of one of its turns go together.
Never raises: a log that cannot be written must not stop mail.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import Final

# POSIX PIPE_BUF on Linux: a pipe that polls writable takes this much at once.
LONGEST_LINE: Final = 4096


class Output:
    """One descriptor."""

    __slots__ = ("_defer", "_descriptor", "_held", "_lost", "_lost_line", "_poll", "_size", "_thread")

    def __init__(self, descriptor: int, lost_line: Callable[[int], bytes]) -> None:
        """`lost_line(count)` renders the line that reports `count` lost lines."""
        self._descriptor = descriptor
        self._lost = 0
        self._lost_line = lost_line
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        self._poll = poll.poll
        self._defer: Callable[[Callable[[], None]], object] | None = None
        self._thread = 0
        self._held: list[bytes] = []
        self._size = 0

    def gather(self, defer: Callable[[Callable[[], None]], object]) -> None:
        """From now on hold lines of this thread until `defer` (a loop's `call_soon`) calls back."""
        self._defer, self._thread = defer, threading.get_ident()

    def scatter(self) -> None:
        """Write each line at once again: no loop runs any more."""
        self._defer = None
        self._flush()

    def write(self, line: bytes) -> None:
        """Write one line, its LF included, or count it as lost."""
        if self._defer is None or threading.get_ident() != self._thread:
            self._put(line, 1)
            return
        if not self._held:
            self._defer(self._flush)
        elif self._size + len(line) > LONGEST_LINE:
            self._flush()
        self._held.append(line)
        self._size += len(line)

    def _flush(self) -> None:
        lines, self._held, self._size = self._held, [], 0
        if lines:
            self._put(b"".join(lines), len(lines))

    def _put(self, data: bytes, lines: int) -> None:
        try:
            if self._lost and self._writable():
                lost, self._lost = self._lost, 0
                os.write(self._descriptor, self._lost_line(lost))
            if self._writable():
                os.write(self._descriptor, data)
                return
        except OSError:
            pass  # the reader is gone or the disk is full
        self._lost += lines

    def _writable(self) -> bool:
        return bool(self._poll(0))
