"""Provider news: what providers report of mail they took, called back or asked for, in one worker.

In: settings; the lanes whose spools may know the messages. Out: the routes that providers call, the polling of those
that cannot call, and `take`, which other workers ask. What is known is on disk when it is said.
Raises SettingsError, with key and fix, where a provider's reports cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from relay.delivery.reports import Reports
from relay.httpd.hooks import as_json, hooks_router
from relay.httpd.peers import ask_all
from relay.lane import Lane
from relay.polling import Ask, Polling
from relay.ports import Clock, MayTell, Report, Resolver, Suppress
from relay.settings import Settings
from relay.store.cursors import Cursors
from relay.store.spool_files import spools
from relay.telemetry.observer import Telemetry
from relay.transports.build import Door, Polled, build_doors, build_polls
from relay.transports.fetch import GuardedFetcher
from relay.transports.kept import KeptDocuments


@dataclass(frozen=True, slots=True)
class Told:
    """Who may call, and who is asked, by name."""

    callbacks: dict[str, Door]
    polls: dict[str, Polled]


class ProviderNews:
    """One worker's. `prepare` may fail and changes nothing; `use` does not fail. `lanes` may still grow."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        settings: Callable[[], Settings],
        clock: Clock,
        resolver: Resolver,
        seen: Telemetry,
        suppress: Suppress,
        may_tell: MayTell,
    ) -> None:
        """`settings` gives those in force; `suppress` hears of every recipient that was reported on.

        `may_tell` bounds how many notices one address gets.
        """
        self._lanes = lanes
        self._settings = settings
        self._clock = clock
        self._resolver = resolver
        self._seen = seen
        self._suppress = suppress
        self._may_tell = may_tell
        self._told = Told({}, {})

    def prepare(self, settings: Settings) -> Told:
        """Raises SettingsError."""
        return Told(build_doors(settings), build_polls(settings))

    def use(self, told: Told) -> None:
        self._told = told

    def router(self) -> APIRouter:
        """What providers call."""
        fetcher = GuardedFetcher("provider.ca_file", None, self._resolver, allow_private=False)
        documents = KeptDocuments(fetcher, self._clock)
        return hooks_router(
            lambda: self._told.callbacks, self.take, self._ask_others, self._clock, self._seen, documents
        )

    def polling(self, ask: Ask) -> Polling:
        """For one worker of a server: it asks for all."""
        cursors = Cursors(self._settings().server.var)
        return Polling(lambda: self._told.polls, ask, self.take, self._ask_others, cursors, self._clock, self._seen)

    async def take(self, reports: Sequence[Report]) -> list[bool]:
        """Whether a spool of this worker knows the messages."""
        known = [False] * len(reports)
        for lane in self._lanes:
            known = [one or other for one, other in zip(known, await self._of(lane).take(reports), strict=True)]
        return known

    async def _ask_others(self, reports: Sequence[Report]) -> list[bool]:
        """Whether another worker knows the messages."""
        var = self._settings().server.var
        others = {paths.number for paths in spools(var / "spool")} - {lane.number for lane in self._lanes}
        answers = await ask_all(var / "run", others, "/admin/reports", as_json(reports))
        return [any(answer["known"][place] for answer in answers) for place in range(len(reports))]

    def _of(self, lane: Lane) -> Reports:
        return Reports(
            lane.spool,
            self._settings,
            self._clock,
            self._seen.news,
            self._seen,
            lane.feeder.look,
            lane.engine.health.reported,
            self._suppress,
            self._may_tell,
        )
