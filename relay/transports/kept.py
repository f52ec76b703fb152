"""KeptDocuments: documents of vendors, fetched once and kept a day, such as the certificates that sign callbacks.

In: a URL that a provider has found to be the vendor's own. Out: the document. Few are kept, one at a time is fetched,
and what could not be had is not asked for again for a while, so that posts from outside make no flood. Raises OSError.
"""

from __future__ import annotations

import asyncio
from typing import Final

from relay.ports import Clock, Fetcher

KEEP: Final = 86_400.0
PAUSE: Final = 15.0
MOST: Final = 16


class KeptDocuments:
    """Of one worker."""

    def __init__(self, fetcher: Fetcher, clock: Clock) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._lock = asyncio.Lock()
        self._kept: dict[str, tuple[float, bytes | OSError]] = {}

    async def get(self, url: str) -> bytes:
        """The document, or the failure of a moment ago."""
        async with self._lock:
            until, found = self._kept.get(url, (0.0, b""))
            if self._clock.monotonic() >= until:
                found = await self._fetched(url)
        if isinstance(found, OSError):
            raise OSError(str(found)) from found
        return found

    async def visit(self, url: str) -> None:
        """Ask once for what is not to be kept."""
        await self._fetcher.get(url)

    async def _fetched(self, url: str) -> bytes | OSError:
        found: bytes | OSError
        try:
            found, life = await self._fetcher.get(url), KEEP
        except OSError as error:
            found, life = error, PAUSE
        self._kept.pop(url, None)
        while len(self._kept) >= MOST:
            self._kept.pop(next(iter(self._kept)))
        self._kept[url] = (self._clock.monotonic() + life, found)
        return found
