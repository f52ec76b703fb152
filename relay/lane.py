"""Lane: one spool with the engine and the feeder that empty it. A worker has one of its own, and adopted ones."""

from __future__ import annotations

from relay import faults
from relay.delivery.engine import Engine
from relay.delivery.feeder import Feeder
from relay.ports import QueuedMessage, Signer, SystemClock, Transport, system_random
from relay.settings import Settings
from relay.store.spool import SqliteSpool
from relay.telemetry.observer import Telemetry


class Lane:
    """One spool with the engine and the feeder that empty it."""

    def __init__(
        self, settings: Settings, number: int, transports: dict[str, Transport], signer: Signer, telemetry: Telemetry
    ) -> None:
        clock = SystemClock()
        self.number = number
        self.spool = SqliteSpool.open(
            settings.server.var / "spool",
            number,
            clock,
            file_threshold=settings.spool.file_threshold,
            hold_doubt=settings.delivery.in_doubt == "hold",
            observe=lambda writes, seconds: telemetry.metrics.commit(seconds, writes),
        )
        faults.point("lane-opened")
        if self.spool.recovered:
            telemetry.log.note("spool_recovered", spool=number, attempts=self.spool.recovered)
        random = system_random()
        self.engine = Engine(settings, self.spool, transports, signer, clock, random, telemetry, telemetry)
        self.feeder = Feeder(self.spool, self.engine, clock)

    def take(self, message: QueuedMessage) -> None:
        """Deliver what was just committed; what finds no room stays in the spool until there is some."""
        if not self.engine.submit(message):
            self.feeder.left_out(message.received_at)
