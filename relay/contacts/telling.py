"""Telling: brings what waits in one spool to one marketing platform, and writes down what came of it.

In: contacts that are due. Out: calls, rows. The rate is kept inside the turn, so it holds for all who take turns. A
platform that is down or refuses the key pauses the whole of it, and uses up no attempt of anybody; a contact that it
does not take is tried by its retry profile and then given up, with the reason. A row goes only after the platform's
answer, so that a crash in between tells once more, which does no harm there. Never raises for an answer; StoreError is
told to the observer, and tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from relay.mail.errors import StoreError
from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Outcome
from relay.mail.reply import Reply
from relay.policy.bucket import Bucket
from relay.policy.retry import next_attempt_at
from relay.ports import Clock, Contact, ContactDirectory, ContactOutbox, Random, Told, Turn
from relay.settings import RetrySettings

LOOK_SECONDS: Final = 1.0
"""Until a spool in which nothing was due is looked at again."""
STORE_PAUSE: Final = 30.0
"""After an answer that could not be written down: the same people would be told again and again."""
LONGEST_PAUSE: Final = 900.0
LONGEST_TURN: Final = 10.0
AT_A_TIME: Final = 64
AT_ONCE: Final = 8
_LONGEST_PORTION: Final = 2.0
"""Seconds those told together may wait for the rate: their answers are written down together."""
_TO_OTHERS: Final = 0.25
"""Seconds left between two turns, longer than who waits for one takes to ask again."""
_UNWELL_AFTER: Final = 3
"""Contacts put off one after the other from which it is not the contacts."""
_COUNT_SECONDS: Final = 5.0
_COUNTING_SHARE: Final = 0.02
"""Of the reader's time: a count of millions takes a while, in which the reader brings nothing."""


class Observer(Protocol):
    def contact_told(self, name: str) -> None: ...

    def contact_given_up(self, name: str, address: str, answer: Reply) -> None: ...

    def contacts_paused(self, name: str, seconds: float, answer: Reply) -> None: ...

    def contacts_resumed(self, name: str) -> None: ...

    def contacts_waiting(self, name: str, spool: int, waiting: int) -> None: ...

    def store_failed(self, error: StoreError) -> None: ...


class Telling:
    """Of one `[contacts.NAME]` and one spool."""

    def __init__(
        self,
        name: str,
        spool: int,
        outbox: ContactOutbox,
        directory: ContactDirectory,
        profile: RetrySettings,
        rate: float,
        turn: Turn,
        clock: Clock,
        random: Random,
        observer: Observer,
    ) -> None:
        """`rate`: contacts a second. `turn`: who holds it is the only one that talks to the platform."""
        self.name = name
        self._spool = spool
        self._outbox = outbox
        self._directory = directory
        self._profile = profile
        self._turn = turn
        self._clock = clock
        self._random = random
        self._observer = observer
        self._bucket = Bucket(name, rate, 1.0, clock)
        self._at_once = min(AT_ONCE, max(1, int(rate * _LONGEST_PORTION)))
        self._faults = 0
        self._put_off_in_a_row = 0
        self._paused_until = 0.0
        self._count_at = clock.monotonic()
        self._leaving = False
        self.busy = False

    def leave(self) -> None:
        """Begin nothing new: what is `busy` ends by itself, and somebody else may have the turn then."""
        self._leaving = True

    def again(self) -> None:
        """The operator has mended something: a pause ends now."""
        self._paused_until = min(self._paused_until, self._clock.monotonic())

    async def run(self) -> None:
        """Until it is cancelled, or has left."""
        while not self._leaving:
            try:
                wait = await self.step()
            except StoreError as error:
                self._observer.store_failed(error)
                wait = STORE_PAUSE
            await asyncio.sleep(wait)

    async def step(self) -> float:
        """Tell some; returns seconds until there may be more. Raises StoreError."""
        await self._count()
        rest = self._paused_until - self._clock.monotonic()
        if rest > 0:
            return min(rest, LOOK_SECONDS)
        if not await self._due(1):
            return LOOK_SECONDS
        async with self._turn():
            # Read anew: the turn may have been long in coming, and who had it may have told or erased them.
            await self._use_turn(await self._due(AT_A_TIME))
        return _TO_OTHERS

    async def _due(self, most: int) -> list[Contact]:
        return await self._outbox.contacts_due(self.name, self._clock.now(), most)

    async def _use_turn(self, due: Sequence[Contact]) -> None:
        ends_at = self._clock.monotonic() + LONGEST_TURN
        for some in _portions(due, 1 if self._faults else self._at_once):
            if self._paused_until > self._clock.monotonic() or self._clock.monotonic() >= ends_at:
                break
            self.busy = True
            try:
                await self._tell(some)
            finally:
                self.busy = False
            if self._leaving:
                break
            # Before the turn ends, for the next one to have it knows nothing of what was told.
            await asyncio.sleep(self._bucket.wait())

    async def _tell(self, some: Sequence[Contact]) -> None:
        outcomes = await asyncio.gather(*(self._tell_one(one) for one in some))
        told = [self._told(one, outcome) for one, outcome in zip(some, outcomes, strict=True)]
        await self._outbox.contacts_told(told)

    async def _tell_one(self, contact: Contact) -> Outcome:
        wait = self._bucket.wait()
        self._bucket.take()
        if wait > 0:
            await asyncio.sleep(wait)
        return await self._directory.tell(contact)

    # --- what came of it -----------------------------------------------------------------------------------------

    def _told(self, contact: Contact, outcome: Outcome) -> Told:
        if isinstance(outcome, Failed):
            self._well()  # it answers, and says no to this one
            return self._given_up(contact, outcome.reply)
        if not isinstance(outcome, Deferred | InDoubt):
            self._well()
            self._observer.contact_told(self.name)
            return Told(contact, done=True)
        hint = outcome.retry_after if isinstance(outcome, Deferred) else None
        words = str(outcome.reply)
        self._put_off_in_a_row += 1
        of_itself = isinstance(outcome, Deferred) and outcome.fault is not Fault.MESSAGE
        if of_itself or self._put_off_in_a_row >= _UNWELL_AFTER:
            wait = self._pause(hint, outcome.reply)
            return Told(contact, done=False, due_at=self._clock.now() + wait, attempts=contact.attempts, words=words)
        attempts = contact.attempts + 1
        due_at = self._next(contact, attempts, hint)
        if due_at is None:
            return self._given_up(contact, outcome.reply)
        return Told(contact, done=False, due_at=due_at, attempts=attempts, words=words)

    def _next(self, contact: Contact, attempts: int, hint: float | None) -> float | None:
        """Its age is that of its own attempts: what waited for the platform is no older for it."""
        now = self._clock.now()
        return next_attempt_at(
            self._profile,
            attempts=attempts,
            received_at=now - sum(self._profile.delays[: attempts - 1]),
            now=now,
            throw=self._random.random(),
            hint=hint,
        )

    def _given_up(self, contact: Contact, answer: Reply) -> Told:
        self._observer.contact_given_up(self.name, contact.address, answer)
        return Told(contact, done=False, attempts=contact.attempts + 1, words=str(answer))

    def _pause(self, hint: float | None, answer: Reply) -> float:
        """Seconds. Those that were under way together pause once."""
        now = self._clock.monotonic()
        if self._paused_until > now:
            return self._paused_until - now
        delays = self._profile.delays
        wait = min(delays[min(self._faults, len(delays) - 1)] if delays else LONGEST_PAUSE, LONGEST_PAUSE)
        wait = max(wait * (1 + self._profile.jitter * (2 * self._random.random() - 1)), hint or 0.0)
        self._faults += 1
        self._paused_until = now + wait
        if not self._leaving:
            self._observer.contacts_paused(self.name, wait, answer)
        return wait

    def _well(self) -> None:
        self._put_off_in_a_row = 0
        if self._faults and self._paused_until <= self._clock.monotonic():
            self._faults = 0
            self._observer.contacts_resumed(self.name)

    async def _count(self) -> None:
        began = self._clock.monotonic()
        if began < self._count_at:
            return
        waiting = await self._outbox.contacts_waiting(self.name)
        ended = self._clock.monotonic()
        self._count_at = ended + max(_COUNT_SECONDS, (ended - began) / _COUNTING_SHARE)
        self._observer.contacts_waiting(self.name, self._spool, waiting)


def _portions(contacts: Sequence[Contact], most: int) -> list[Sequence[Contact]]:
    return [contacts[start : start + most] for start in range(0, len(contacts), most)]
