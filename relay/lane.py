"""Lane: one spool with the engine and the feeder that empty it. A worker has one of its own, and adopted ones."""

from __future__ import annotations

from relay import faults
from relay.delivery.attempts import repeatable_for
from relay.delivery.engine import Engine
from relay.delivery.feeder import Feeder
from relay.ports import (
    MayTell,
    QueuedMessage,
    Signer,
    Suppressed,
    SystemClock,
    Transport,
    nobody_suppressed,
    system_random,
    tells_all,
)
from relay.settings import Settings
from relay.store.spool import SqliteSpool
from relay.telemetry.observer import Telemetry


class Lane:
    """One spool with the engine and the feeder that empty it."""

    def __init__(
        self,
        settings: Settings,
        number: int,
        transports: dict[str, Transport],
        signer: Signer,
        telemetry: Telemetry,
        return_key: bytes,
        suppressed: Suppressed = nobody_suppressed,
        may_tell: MayTell = tells_all,
    ) -> None:
        clock = SystemClock()
        self.number = number
        self.spool = SqliteSpool.open(
            settings.server.var / "spool",
            number,
            clock,
            file_threshold=settings.spool.file_threshold,
            in_doubt=settings.delivery.in_doubt,
            repeats=[name for name, transport in transports.items() if repeatable_for(transport)],
            observe=lambda writes, seconds: telemetry.metrics.commit(seconds, writes),
        )
        faults.point("lane-opened")
        if self.spool.recovered:
            telemetry.log.note("spool_recovered", spool=number, attempts=self.spool.recovered)
        random = system_random()
        self.engine = Engine(
            settings, self.spool, transports, signer, clock, random, telemetry, telemetry, return_key, suppressed,
            may_tell,
        )  # fmt: skip
        self.feeder = Feeder(self.spool, self.engine, clock)

    def take(self, message: QueuedMessage) -> None:
        """Deliver what was just committed; what finds no room, or is to wait, stays in the spool until then."""
        if message.since > message.received_at:
            self.feeder.due_at(message.since)
        elif not self.engine.submit(message):
            self.feeder.left_out(message.received_at)
