"""Turns: one worker of a server at a time, by a lock on a file that the kernel gives back whatever ends its holder.

In: a file below `<var>/run`. Out: an async context manager. Waiting asks again and again, for a lock that is waited for
would hold up the loop. Raises StoreError where the file cannot be used.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from relay.mail.errors import StoreError

_ASK_AGAIN: Final = 0.2


class FileTurn:
    """Made anywhere; every holding opens the file anew, so that two parts of one process exclude each other too."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot use the lock ({error.strerror}); check owner and mode") from error
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await asyncio.sleep(_ASK_AGAIN)
                except OSError as error:
                    raise StoreError(f"{self._path}: cannot be locked ({error.strerror}); check the disk") from error
            yield
        finally:
            os.close(descriptor)
