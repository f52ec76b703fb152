"""Whole: how many octets of long messages are in memory at one time, for ways out that need all of a message at once.

In: octets. Out: a place for them, once there is one. What finds none waits its turn; one message always has a place.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Whole:
    """Of one worker; `most` octets."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, octets: int) -> None:
        """Wait for a place. `give` has to follow, unless this is cancelled."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((octets, turn))
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(octets)
            self._let_in()
            raise

    def give(self, octets: int) -> None:
        self._held -= octets
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            octets, turn = self._waiting[0]
            if not turn.cancelled():
                if self._held and self._held + octets > self.most:
                    return
                self._held += octets
                turn.set_result(None)
            self._waiting.popleft()
