"""The way back: what comes in for a return path of ours finds the message it is about, in whichever worker that is.

In: the lanes of a worker and what they need. Out: the transport `returns`, and whether an address is a return path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from relay.delivery.returns import Returns
from relay.httpd.returns import ask_owner
from relay.intake.again import passed_on
from relay.lane import Lane
from relay.mail.event import Event
from relay.mail.reply import Reply, reply
from relay.mail.return_path import ReturnPaths
from relay.ports import (
    Clock,
    DeliveryRequest,
    NewMessage,
    Origin,
    ReturnedMail,
    Suppress,
    Transport,
    suppress_nothing,
)
from relay.settings import Settings
from relay.store.ids import spool_of
from relay.store.spool_files import spools
from relay.transports.returns import ReturnsTransport


class WayBack:
    """Of one worker. `lanes` may still grow when it is made."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        settings: Callable[[], Settings],
        key: bytes,
        clock: Clock,
        tell: Callable[[Event, bool], None],
        suppress: Suppress = suppress_nothing,
    ) -> None:
        """`settings` gives those in force, `key` signs return paths, `tell` hears what was reported."""
        self._lanes = lanes
        self._settings = settings
        self._key = key
        self._clock = clock
        self._tell = tell
        self._suppress = suppress

    def transports(self, settings: Settings) -> dict[str, Transport]:
        """Where `settings` want return paths."""
        if not settings.bounces.domain:
            return {}
        return {"returns": ReturnsTransport(self._paths(settings), self._take, self._pass_on, self._clock)}

    def is_return_path(self, settings: Settings) -> Callable[[str], bool]:
        if not settings.bounces.domain:
            return lambda address: False
        paths = self._paths(settings)
        return lambda address: paths.read(address) is not None

    def returns(self, lane: Lane) -> Returns:
        """What of one lane is returned."""
        return Returns(lane.spool, self._settings, self._tell, self._suppress)

    def _paths(self, settings: Settings) -> ReturnPaths:
        return ReturnPaths(settings.bounces.domain, self._key)

    async def _take(self, mail: ReturnedMail) -> Origin | Literal["gone", "early"]:
        number = spool_of(mail.message_id)
        own = next((lane for lane in self._lanes if lane.number == number), None)
        if own is not None:
            return await self.returns(own).take(mail)
        var = self._settings().server.var
        if number not in {paths.number for paths in spools(var / "spool")}:
            return "gone"
        return await ask_owner(var / "run", number, mail)

    async def _pass_on(self, origin: Origin, back: DeliveryRequest, content: bytes) -> Reply:
        """Durable when it returns; where the attempt's end is lost after it, it goes on a second time."""
        lane, settings = self._lanes[0], self._settings()
        new_id, received = lane.spool.new_id(), settings.limits.received
        made = passed_on(origin, back, content, new_id, settings.hostname, received, self._clock.now())
        if not isinstance(made, NewMessage):
            return made
        lane.take(await lane.spool.enqueue(made))
        return reply(250, "2.0.0", f"Read, and passed on as {new_id}")
