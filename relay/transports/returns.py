"""Returns: the way out of what comes back to a return path. It is read, and goes on to the sender of that message.

In: a request whose recipients are return paths. Out: an outcome for each; Delivered once what it reports is on disk
and the mail itself is queued for its sender, or nobody asked for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal

from relay.mail.errors import OperatorError, StoreError
from relay.mail.outcome import Deferred, Delivered, Failed, Outcome
from relay.mail.reply import Reply, printable, reply
from relay.mail.return_path import ReturnPaths
from relay.mail.returned import read_report
from relay.ports import Clock, DeliveryReport, DeliveryRequest, Origin, ReturnedMail

_READ: Final = 1_048_576  # a report stands before the message it returns
_UNKNOWN: Final = Failed(reply(550, "5.1.1", "No such return path"))
_GONE: Final = Failed(reply(550, "5.1.1", "The message this is about is not known any more"))
_EARLY: Final = Deferred(reply(451, "4.3.0", "The message this is about is still being delivered"), retry_after=10.0)
_UNWANTED: Final = Delivered(reply(250, "2.0.0", "Read; nobody asked to be told"))

Take = Callable[[ReturnedMail], Awaitable[Origin | Literal["gone", "early"]]]
PassOn = Callable[[Origin, DeliveryRequest, bytes], Awaitable[Reply]]


class ReturnsTransport:
    """The transport called `returns`."""

    def __init__(self, paths: ReturnPaths, take: Take, pass_on: PassOn, clock: Clock) -> None:
        """`take` writes down what was reported; `pass_on` queues the mail for its sender, or says why it may not.

        Both raise StoreError, `take` OperatorError too, where it has to be tried again.
        """
        self._paths = paths
        self._take = take
        self._pass_on = pass_on
        self._clock = clock

    async def deliver(self, request: DeliveryRequest, content: bytes) -> DeliveryReport:
        """See ports.Transport."""
        outcomes = {one.address: await self._one(one.address, request, content) for one in request.recipients}
        return DeliveryReport(outcomes, host="returns")

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _one(self, address: str, request: DeliveryRequest, content: bytes) -> Outcome:
        path = self._paths.read(address)
        if path is None:
            return _UNKNOWN
        mail = ReturnedMail(
            path.message_id,
            path.index,
            f"returned {request.message_id}",
            self._clock.now(),
            read_report(content[:_READ]),
            patient=request.attempt == 1,
        )
        try:
            origin = await self._take(mail)
            if not isinstance(origin, Origin):
                return _EARLY if origin == "early" else _GONE
            answer = await self._pass_on(origin, request, content) if origin.sender else None
        except (OperatorError, StoreError) as error:
            return Deferred(reply(451, "4.3.0", printable(str(error))))
        if answer is None:
            return _UNWANTED
        return Delivered(answer) if answer.positive else Failed(answer)
