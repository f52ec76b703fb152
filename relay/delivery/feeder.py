"""Feeder: brings what is due from the spool to the engine.

A cursor walks along the due times, so that a queue of millions costs one indexed question a look. It stays a little
behind the clock, for a row may be committed after the time it carries; what is scheduled already is passed over.
What the engine had no room for is fetched when there is some; a crowded place has a cursor of its own. While there is
more than finds room, urgent mail is brought first. Every ten minutes another cursor begins a full look, for what no
other rule would find; it takes its time, for most of what it meets may wait for one crowded place.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Final

from relay.delivery.engine import Engine
from relay.delivery.job import Place
from relay.mail.errors import StoreError
from relay.ports import Clock, QueuedMessage, Spool

_OVERLAP: Final = 5.0
_LONGEST_SLEEP: Final = 30.0
_AFTER_AN_ERROR: Final = 1.0
_FULL_LOOK_SECONDS: Final = 600.0
_FULL_LOOK_READ: Final = 200
_FULL_LOOK_REST: Final = 49  # times as long as a read and its planning took
_LARGEST_READ: Final = 2000
_PLANNED_AT_A_TIME: Final = 50
_PAUSE_BETWEEN_READS: Final = 0.01
_TICK: Final = 0.000_002
_SLACK: Final = 3600.0  # a clock is corrected by less than that now and then


class Feeder:
    """One a worker; `run` is its task."""

    def __init__(self, spool: Spool, engine: Engine, clock: Clock) -> None:
        self._spool = spool
        self._engine = engine
        self._clock = clock
        self._cursor = 0.0
        self._next_full_look = clock.monotonic()
        self._full_look = math.inf  # how far it has come; inf: none is under way
        self._full_look_at = 0.0
        self._looked_at = 0.0
        self._wake = asyncio.Event()
        self._wake_at = 0.0
        self._left_out = math.inf
        self._crowded: dict[Place, float] = {}
        engine.on_room = self._room
        engine.on_deferred = self.due_at
        engine.on_left_out = self.left_out
        engine.on_crowded = self.crowded

    def due_at(self, when: float) -> None:
        """Something becomes due at `when` (seconds since the epoch): be awake by then.

        It may be behind the cursor: the clock jumped ahead while it was written, or its message was still under way.
        """
        if when <= self._looked_at:
            self.left_out(when)
        if when < self._wake_at:
            self._wake_at = when
            self._wake.set()

    def left_out(self, next_at: float) -> None:
        """The engine had no room for something due at `next_at`: come back for it when there is some."""
        self._left_out = min(self._left_out, next_at)

    def crowded(self, place: Place, next_at: float) -> None:
        """A place has more than its share in memory: come back for it when it has less."""
        self._crowded[place] = min(self._crowded.get(place, math.inf), next_at)

    def look(self) -> None:
        """Look from the beginning: the operator changed due times."""
        self._left_out = 0.0
        self._wake_at = 0.0
        self._wake.set()

    def _room(self) -> None:
        """A job ended."""
        if self._engine.roomy and (self._left_out < math.inf or any(map(self._engine.has_place, self._crowded))):
            self._wake_at = 0.0
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled. An error ends one look, never the feeding."""
        while True:
            self._wake.clear()
            try:
                await self._feed()
            except StoreError as error:
                self._engine.observer.store_failed(error)
                self._wake_at = self._clock.now() + _AFTER_AN_ERROR
            except Exception as error:
                self._engine.observer.failure("feeder", error)
                self._wake_at = self._clock.now() + _AFTER_AN_ERROR
            seconds = max(0.0, min(self._wake_at - self._clock.now(), _LONGEST_SLEEP))
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _feed(self) -> None:
        now = self._looked_at = self._clock.now()
        self._wake_at = now + _LONGEST_SLEEP
        jumped_back = now < self._cursor
        if jumped_back or (self._full_look == math.inf and self._clock.monotonic() >= self._next_full_look):
            self._next_full_look = self._clock.monotonic() + _FULL_LOOK_SECONDS
            self._full_look = 0.0 if self._cursor and not jumped_back else math.inf
            self._cursor = 0.0 if jumped_back else self._cursor
            # Put off by a clock that was far ahead then: nobody is to wait until it is that late again.
            await self._spool.pull_in(now + self._engine.longest_wait + _SLACK)
        self._cursor = max(0.0, min(self._cursor, self._left_out - _TICK))
        if self._left_out < math.inf or not self._cursor:
            for message in await self._spool.urgent(now, _LARGEST_READ):
                if not self._engine.submit(message):
                    break
        if not self._engine.room:
            self._left_out = self._cursor
            return
        self._left_out = math.inf
        for place in tuple(filter(self._engine.has_place, self._crowded)):
            await self._refill(place, now)
        await self._advance(now)
        if self._full_look < math.inf:
            await self._look_on(now)

    async def _refill(self, place: Place, now: float) -> None:
        """Bring what waits for one place, until it is crowded again."""
        cursor = self._crowded.pop(place) - _TICK
        complete = False
        try:
            while not complete and place not in self._crowded:
                messages = await self._spool.due(cursor, now, _LARGEST_READ)
                if not await self._submit(messages):
                    return
                complete = _recipients(messages) < _LARGEST_READ
                cursor = _last(messages, cursor)
        finally:
            if not complete:
                self.crowded(place, cursor + _TICK)

    async def _advance(self, now: float) -> None:
        """The next stretch of due times."""
        messages = await self._spool.due(self._cursor, now, _LARGEST_READ)
        if not await self._submit(messages):
            return
        if _recipients(messages) >= _LARGEST_READ:
            self._cursor = _last(messages, self._cursor)
            self._wake_at = now + _PAUSE_BETWEEN_READS
            return
        self._cursor = max(self._cursor, now - _OVERLAP)
        upcoming = await self._spool.next_due_at(now)
        if upcoming is not None:
            self._wake_at = min(self._wake_at, upcoming)

    async def _look_on(self, now: float) -> None:
        """The next stretch of the full look, once it has rested."""
        began = self._clock.monotonic()
        rest = self._full_look_at - began
        if rest <= 0:
            messages = await self._spool.due(self._full_look, now, _FULL_LOOK_READ)
            if not await self._submit(messages):
                return
            if _recipients(messages) < _FULL_LOOK_READ:
                self._full_look = math.inf
                return
            self._full_look = _last(messages, self._full_look)
            ended = self._clock.monotonic()
            rest = max(_PAUSE_BETWEEN_READS, (ended - began) * _FULL_LOOK_REST)
            self._full_look_at = ended + rest
        self._wake_at = min(self._wake_at, now + rest)

    async def _submit(self, messages: Sequence[QueuedMessage]) -> bool:
        """False when the memory is full; the first message that found no room is remembered."""
        for number, message in enumerate(messages, 1):
            if not self._engine.submit(message):
                self.left_out(min(waiting.next_at for waiting in message.due))
                return False
            if number % _PLANNED_AT_A_TIME == 0:
                await asyncio.sleep(0)
        return True


def _recipients(messages: Sequence[QueuedMessage]) -> int:
    return sum(len(message.due) for message in messages)


def _last(messages: Sequence[QueuedMessage], start: float) -> float:
    """The latest due time of a read that began at `start`; all that is due up to it has been read."""
    return max((waiting.next_at for message in messages for waiting in message.due), default=start)
