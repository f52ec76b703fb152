"""Feeder: brings what is due from the spool to the engine.

A cursor walks along the due times, so that a queue of millions costs one indexed question a look. It stays a little
behind the clock, for a row may be committed after the time it carries; what is scheduled already is passed over.
"""

from __future__ import annotations

import asyncio
from typing import Final

from relay.delivery.engine import Engine
from relay.mail.errors import StoreError
from relay.ports import Clock, Spool

_OVERLAP: Final = 5.0
_LONGEST_SLEEP: Final = 30.0
_FULL_LOOK_SECONDS: Final = 600.0
_LARGEST_READ: Final = 2000
_PAUSE_BETWEEN_READS: Final = 0.01
_TICK: Final = 0.000_002


class Feeder:
    """One a worker; `run` is its task."""

    def __init__(self, spool: Spool, engine: Engine, clock: Clock) -> None:
        self._spool = spool
        self._engine = engine
        self._clock = clock
        self._cursor = 0.0
        self._next_full_look = clock.monotonic() + _FULL_LOOK_SECONDS
        self._wake = asyncio.Event()
        self._wake_at = 0.0
        self._behind = False
        engine.on_room = self._room
        engine.on_deferred = self.due_at
        engine.on_left_out = self.left_out

    def due_at(self, when: float) -> None:
        """Something becomes due at `when` (seconds since the epoch): be awake by then."""
        if when < self._wake_at:
            self._wake_at = when
            self._wake.set()

    def left_out(self, next_at: float) -> None:
        """The engine had no room for something due at `next_at`: come back for it when there is some."""
        self._cursor = min(self._cursor, next_at - _TICK)
        self._behind = True

    def look(self) -> None:
        """Look from the beginning: the operator changed due times."""
        self._cursor = 0.0
        self._wake_at = 0.0
        self._wake.set()

    def _room(self) -> None:
        if self._behind and self._engine.roomy:
            self._wake_at = 0.0
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._feed()
            except StoreError:
                self._wake_at = self._clock.now() + 1.0
            seconds = max(0.0, min(self._wake_at - self._clock.now(), _LONGEST_SLEEP))
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _feed(self) -> None:
        now = self._clock.now()
        if now < self._cursor or self._clock.monotonic() >= self._next_full_look:
            # The clock jumped back, or it is time to look for what no other rule would find.
            self._cursor = 0.0
            self._next_full_look = self._clock.monotonic() + _FULL_LOOK_SECONDS
        limit = min(self._engine.room, _LARGEST_READ)
        self._wake_at = now + _LONGEST_SLEEP
        if limit == 0:
            self._behind = True
            return
        self._behind = False
        messages = await self._spool.due(self._cursor, now, limit)
        for message in messages:
            oldest = min(waiting.next_at for waiting in message.due)
            if not self._engine.submit(message):
                self.left_out(oldest)
                return
            self._cursor = max(self._cursor, min(oldest, now) - _TICK)
        if sum(len(message.due) for message in messages) >= limit:
            self._wake_at = now + _PAUSE_BETWEEN_READS
            return
        self._cursor = max(self._cursor, now - _OVERLAP)
        upcoming = await self._spool.next_due_at(now)
        if upcoming is not None:
            self._wake_at = min(self._wake_at, upcoming)
