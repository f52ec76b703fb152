"""Platforms: the marketing platforms of one worker, between settings, spools and the engine that tells them.

In: settings. Out: for each `[contacts.NAME]` and spool a task that tells. Without any, nothing runs and no event is
noted. Raises SettingsError, with key and fix, where a platform cannot be used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from relay.contacts.telling import Telling
from relay.lane import Lane
from relay.ports import Clock, Resolver, Watch, system_random
from relay.settings import Settings
from relay.store.turns import FileTurn
from relay.telemetry.observer import Telemetry
from relay.transports.contacts import build_contacts
from relay.transports.contacts.client import HttpContacts

_PATIENCE: Final = 5.0
"""Seconds a call may take to end before it is cut short."""


class Platforms:
    """One worker's. `prepare` may fail and changes nothing; `use` does not fail."""

    def __init__(self, folder: Path, lanes: Sequence[Lane], clock: Clock, resolver: Resolver, seen: Telemetry) -> None:
        """`folder`: where the locks stand by which workers take turns."""
        self._folder = folder
        self._lanes = lanes
        self._clock = clock
        self._resolver = resolver
        self._seen = seen
        self._directories: dict[str, HttpContacts] = {}
        self._told: list[tuple[Telling, asyncio.Task[None]]] = []
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._directories)

    def prepare(self, settings: Settings) -> dict[str, HttpContacts]:
        """Raises SettingsError."""
        return build_contacts(settings.contacts, self._clock, self._resolver)

    def use(self, settings: Settings, directories: dict[str, HttpContacts]) -> None:
        """What is under way ends first, for it holds the turn."""
        self._leave()
        self._directories = directories
        watches = [Watch(name, frozenset(one.events), one.accounts) for name, one in settings.contacts.items()]
        for lane in self._lanes:
            lane.spool.watch(watches)
            for name in directories:
                telling = self._telling(settings, name, lane)
                self._told.append((telling, asyncio.create_task(self._run(telling))))

    def again(self, name: str) -> None:
        """An operator has mended something: who pauses asks now."""
        for telling, _ in self._told:
            if telling.name == name:
                telling.again()

    async def close(self) -> None:
        self._leave()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    def _telling(self, settings: Settings, name: str, lane: Lane) -> Telling:
        one = settings.contacts[name]
        return Telling(
            name,
            lane.number,
            lane.spool,
            self._directories[name],
            settings.retry_profile(one.retry),
            one.per_second,
            FileTurn(self._folder / f"contacts-{name}.lock"),
            self._clock,
            system_random(),
            self._seen,
        )

    async def _run(self, telling: Telling) -> None:
        while True:
            try:
                return await telling.run()
            except Exception as error:
                self._seen.failure("contacts", error)
                await asyncio.sleep(1.0)

    def _leave(self) -> None:
        for name in self._directories:
            self._seen.contacts_left(name)
        for telling, _ in self._told:
            telling.leave()
        task = asyncio.create_task(_ended(self._told, list(self._directories.values())))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        self._told, self._directories = [], {}


async def _ended(told: Sequence[tuple[Telling, asyncio.Task[None]]], directories: Sequence[HttpContacts]) -> None:
    """What is cut short is told again: its row stands yet."""
    for telling, task in told:
        if not telling.busy:
            task.cancel()
    tasks = [task for _, task in told]
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=_PATIENCE)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for directory in directories:
        await directory.close()
