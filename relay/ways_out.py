"""Ways out: the transports of one worker, and their change while mail is under way.

In: settings. Out: a Transport for each name that a route may give; a provider's answer, for who asks it for news.
Raises SettingsError, with key and fix, where a way out cannot be made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from relay.dns.mx import MxResolver
from relay.lane import Lane
from relay.mail.outcome import Outcome
from relay.ports import Clock, Resolver, Transport, system_random
from relay.settings import Settings
from relay.transports.build import build_transports
from relay.transports.capture import CaptureTransport
from relay.transports.http import ProviderTransport
from relay.transports.providers.base import HttpRequest, HttpResponse
from relay.way_back import WayBack


class WaysOut:
    """One worker's. `prepare` may fail and changes nothing; `use` does not fail. `lanes` may still grow."""

    def __init__(
        self, folder: Path, lanes: Sequence[Lane], way_back: WayBack, clock: Clock, resolver: Resolver
    ) -> None:
        """`folder`: where the transport `capture` puts what it is given."""
        self._folder = folder
        self._lanes = lanes
        self._way_back = way_back
        self._clock = clock
        self._resolver = resolver
        self._retired: list[Transport] = []
        self.sandbox_mx = ""
        self.transports: dict[str, Transport] = {}

    def prepare(self, settings: Settings) -> dict[str, Transport]:
        """With `sandbox_mx` set, that is the MX of all domains. Raises SettingsError."""
        delivery = settings.delivery
        if self.sandbox_mx:
            delivery = delivery.model_copy(update={"mx_override": self.sandbox_mx})
        mx = MxResolver(self._resolver, system_random(), ipv6=delivery.ipv6)
        transports = build_transports(settings, delivery, mx, self._clock, self._resolver)
        return {**transports, **self._way_back.transports(settings), "capture": CaptureTransport(self._folder)}

    def use(self, transports: dict[str, Transport]) -> tuple[Transport, ...]:
        """From now on; the old ones, which `retire` closes."""
        old, self.transports = tuple(self.transports.values()), transports
        self._retired += old
        return old

    async def retire(self, transports: Sequence[Transport]) -> None:
        """Close ways out that nothing new takes, once what is under way has ended."""
        await asyncio.gather(*(lane.engine.settled() for lane in self._lanes))
        for transport in transports:
            await transport.close()
            self._retired.remove(transport)

    async def ask(self, name: str, call: HttpRequest) -> HttpResponse | Outcome:
        """A provider, on the connections by which it is given mail."""
        transport = self.transports[f"provider:{name}"]
        assert isinstance(transport, ProviderTransport)
        return await transport.ask(call)

    async def close(self) -> None:
        for transport in (*self.transports.values(), *self._retired):
            await transport.close()
