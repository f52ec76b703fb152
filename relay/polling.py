"""Polling: asks providers for news where they cannot call back, and hands on what they tell as callbacks are.

In: the providers that are to be asked and how often; a way to ask. Out: reports, on disk in whichever worker knows the
message; then the cursor, on disk too. So news is read at least once, and the same event counts once. A provider that
does not answer is asked less and less often. Of the first worker alone. Raises nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from relay.httpd.hooks import Take, reports_of, strange_words
from relay.mail.errors import OperatorError
from relay.mail.outcome import Deferred, Outcome
from relay.ports import Clock
from relay.transports.build import Polled
from relay.transports.providers.base import CallbackError, HttpRequest, HttpResponse, Page
from relay.transports.providers.polls import begun_again, under_way

TICK: Final = 1.0
MOST_PAGES: Final = 20
"""Pages read at a time; the rest the next time."""
AT_A_TIME: Final = 500
"""Reports in one commit."""
LONGEST_PAUSE: Final = 3600.0
_FORGOTTEN: Final = (400, 404, 410, 422)
"""Statuses with which a vendor says that it does not know the page any more."""

Ask = Callable[[str, HttpRequest], Awaitable[HttpResponse | Outcome]]


class Observer(Protocol):
    """Hears of polls; must not raise."""

    def polled(self, provider: str, known: int, words: tuple[str, ...]) -> None: ...

    def poll_failed(self, provider: str, reason: str, pause: float) -> None: ...


class Cursors(Protocol):
    """Blocking. Raises StoreError."""

    def read(self, provider: str) -> str: ...

    def keep(self, provider: str, text: str) -> None: ...


@dataclass(slots=True)
class _Turn:
    """When a provider is asked next (monotonic), and how often it failed in a row."""

    at: float = 0.0
    failures: int = 0
    task: asyncio.Task[None] | None = None


class _PollError(Exception):
    """Words for the log, and how long the vendor wants to be left alone."""

    def __init__(self, text: str, pause: float = 0.0) -> None:
        super().__init__(text)
        self.pause = pause


class Polling:
    """Of one worker. `run` until it is cancelled."""

    def __init__(
        self,
        providers: Callable[[], Mapping[str, Polled]],
        ask: Ask,
        own: Take,
        others: Take,
        cursors: Cursors,
        clock: Clock,
        observer: Observer,
    ) -> None:
        """`providers` are those in force; `own` and `others` take reports as they do of callbacks."""
        self._providers = providers
        self._ask = ask
        self._own = own
        self._others = others
        self._cursors = cursors
        self._clock = clock
        self._observer = observer
        self._turns: dict[str, _Turn] = {}

    async def run(self) -> None:
        try:
            while True:
                self.look()
                await asyncio.sleep(TICK)
        finally:
            tasks = [turn.task for turn in self._turns.values() if turn.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def look(self) -> None:
        """Begin what is due; a provider is asked one question at a time."""
        providers = self._providers()
        for name in self._turns.keys() - providers.keys():
            turn = self._turns[name]
            if turn.task is None or turn.task.done():
                del self._turns[name]
        for name, polled in providers.items():
            turn = self._turns.setdefault(name, _Turn())
            if (turn.task is None or turn.task.done()) and self._clock.monotonic() >= turn.at:
                turn.task = asyncio.create_task(self._turn(name, polled, turn))

    async def _turn(self, name: str, polled: Polled, turn: _Turn) -> None:
        try:
            await self.poll(name, polled)
        except _PollError as failure:
            self._put_off(name, polled, turn, str(failure), failure.pause)
        except (OperatorError, CallbackError, OSError) as error:
            self._put_off(name, polled, turn, str(error), 0.0)
        except Exception as error:
            self._put_off(name, polled, turn, f"internal error: {type(error).__name__}: {error}", 0.0)
        else:
            turn.failures = 0
            turn.at = self._clock.monotonic() + polled.every

    def _put_off(self, name: str, polled: Polled, turn: _Turn, reason: str, pause: float) -> None:
        doubled: float = polled.every * 2 ** min(turn.failures, 12)
        wait = max(min(doubled, max(LONGEST_PAUSE, polled.every)), pause)
        turn.failures += 1
        turn.at = self._clock.monotonic() + wait
        self._observer.poll_failed(name, reason, wait)

    async def poll(self, name: str, polled: Polled) -> None:
        """What is new, up to so many pages. Raises _PollError, CallbackError, OperatorError."""
        cursor = await asyncio.to_thread(self._cursors.read, name)
        known, words = 0, set[str]()
        for _ in range(MOST_PAGES):
            now = self._clock.now()
            page = await self._page(name, polled, cursor, now)
            known += await self._taken(name, page)
            words |= set(strange_words(page.events))
            if page.cursor != cursor:
                await asyncio.to_thread(self._cursors.keep, name, page.cursor)
            cursor = page.cursor
            if not page.more:
                break
        self._observer.polled(name, known, tuple(sorted(words)))

    async def _page(self, name: str, polled: Polled, cursor: str, now: float) -> Page:
        answer = await self._ask(name, polled.provider.poll(cursor, now))
        if not isinstance(answer, HttpResponse):
            raise _PollError(answer.reply.text, (isinstance(answer, Deferred) and answer.retry_after) or 0.0)
        if answer.status == 200:
            return polled.provider.page(answer, cursor, now)
        if answer.status in _FORGOTTEN and under_way(cursor, now):
            return Page((), begun_again(cursor, now), more=False)
        hint = "; check that the key may read events" if answer.status in (401, 403) else ""
        raise _PollError(f"{polled.provider.title} answered HTTP {answer.status}{hint}", answer.retry_after or 0.0)

    async def _taken(self, name: str, page: Page) -> int:
        """How many events were of messages somebody here knows."""
        reports, found = reports_of(name, page.events), 0
        for start in range(0, len(reports), AT_A_TIME):
            some = reports[start : start + AT_A_TIME]
            known = await self._own(some)
            left = [report for report, here in zip(some, known, strict=True) if not here]
            found += sum(known) + (sum(await self._others(left)) if left else 0)
        return found
