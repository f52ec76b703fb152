"""Attempts: one candidate tries one job. Prepares the bytes, asks the transport, gives an outcome for everybody.

Comes in: a job and those of its recipients that try now. Goes out: a DeliveryReport with every one of them. A bug in
a transport or in the signing is Deferred for whom it hit, and so is content that cannot be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from relay.delivery.job import InFlight, Job
from relay.delivery.observer import Observer
from relay.mail.dialects import has_directives, read_directives, without_directives
from relay.mail.directives import NO_DIRECTIVES, Directives
from relay.mail.errors import DirectiveError, StoreError
from relay.mail.message import header_block, header_fields
from relay.mail.outcome import Deferred, Fault
from relay.mail.reply import printable, reply
from relay.ports import Clock, DeliveryReport, DeliveryRequest, QueuedRecipient, Signer, Spool, Transport

INTERNAL: Final = reply(451, "4.3.0", "Internal error while delivering")
_NO_SUCH_WAY: Final = reply(451, "4.3.5", "This way out is not configured any more; see `relay queue reroute`")
_UNREADABLE: Final = reply(451, "4.3.0", "The stored message cannot be read; see the log")


class Attempts:
    """The transports of one worker and what they need."""

    def __init__(
        self,
        spool: Spool,
        transports: Mapping[str, Transport],
        signer: Signer,
        clock: Clock,
        observer: Observer,
        dialects: Mapping[str, str],
    ) -> None:
        """`dialects`: candidates that understand the header fields of a vendor, and whose."""
        self._spool = spool
        self._transports = transports
        self._signer = signer
        self._clock = clock
        self._observer = observer
        self._dialects = dialects

    def reconfigure(self, transports: Mapping[str, Transport], dialects: Mapping[str, str]) -> None:
        """Other ways out from now on; what is under way ends on the old ones."""
        self._transports = transports
        self._dialects = dialects

    @property
    def candidates(self) -> tuple[str, ...]:
        """The ways out there are."""
        return tuple(self._transports)

    async def make(self, job: Job, candidate: str, recipients: tuple[QueuedRecipient, ...]) -> DeliveryReport:
        """Never raises but for cancellation."""
        message = job.message
        try:
            content, directives = await self._prepare(job.in_flight, candidate)
        except StoreError as error:
            self._observer.store_failed(error)
            return DeliveryReport({waiting.recipient.address: Deferred(_UNREADABLE) for waiting in recipients})
        except Exception as error:
            self._observer.failure("delivery", error, message.id)
            return DeliveryReport({waiting.recipient.address: Deferred(INTERNAL) for waiting in recipients})
        indexes = ".".join(str(waiting.index) for waiting in recipients)
        request = DeliveryRequest(
            message_id=message.id,
            account=message.account,
            reverse_path=message.envelope.reverse_path,
            recipients=tuple(waiting.recipient for waiting in recipients),
            destination=job.destination,
            envelope=message.envelope,
            attempt=max(waiting.attempts for waiting in recipients) + 1,
            idempotency_key=f"{message.id}-{indexes}",
            directives=directives,
        )
        started = self._clock.monotonic()
        self._observer.attempt_started(request, candidate)
        report = await self._deliver(candidate, request, content)
        self._observer.attempt_ended(candidate, report, self._clock.monotonic() - started)
        return report

    async def original(self, in_flight: InFlight) -> bytes:
        """The message as it was accepted, for a notice about it; nothing where it cannot be read."""
        try:
            return await self._content(in_flight)
        except StoreError as error:
            self._observer.store_failed(error)
            return b""

    async def _prepare(self, in_flight: InFlight, candidate: str) -> tuple[bytes, Directives]:
        """The bytes of this attempt: signed late, once for all jobs of the message in memory.

        What its author asked for in header fields goes to the transport as a value; the fields go nowhere but to the
        smarthost whose dialect they are. A stranger asks for nothing, and could ask a vendor for a lot.
        """
        message = in_flight.message
        content = await self._content(in_flight)
        directives = NO_DIRECTIVES
        if (message.account or candidate != "direct") and has_directives(header := header_block(content)):
            directives = _asked_for(header) if message.account else NO_DIRECTIVES
            content = without_directives(content, keep=self._dialects.get(candidate, "") if message.account else "")
        if in_flight.signature is None:
            # Only what an authenticated account sent is ours to sign; mail let in by port 25 is not.
            in_flight.signature = self._signer.sign(content, message.envelope.sender_domain) if message.account else b""
        return in_flight.signature + content, directives

    async def _content(self, in_flight: InFlight) -> bytes:
        if in_flight.content is not None:
            return in_flight.content
        return await self._spool.read_content(in_flight.message.id)

    async def _deliver(self, candidate: str, request: DeliveryRequest, content: bytes) -> DeliveryReport:
        transport = self._transports.get(candidate)
        if transport is None:
            # The configuration was changed under a job with several candidates, or since an operator chose this one.
            lost = Deferred(_NO_SUCH_WAY, Fault.ROUTE)
            return DeliveryReport({recipient.address: lost for recipient in request.recipients})
        try:
            report = await transport.deliver(request, content)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody stops us: the transport waited for something of its own that was cancelled.
            report = self._fault(candidate, error, request)
        except Exception as error:
            report = self._fault(candidate, error, request)
        missing = [recipient.address for recipient in request.recipients if recipient.address not in report.outcomes]
        outcomes = {**report.outcomes, **dict.fromkeys(missing, Deferred(INTERNAL))}
        # A host name may come from a peer, and goes into rows, logs and notices.
        return DeliveryReport(outcomes, printable(report.host, 255), report.tls, report.dsn)

    def _fault(self, candidate: str, error: BaseException, request: DeliveryRequest) -> DeliveryReport:
        self._observer.failure(candidate, error, request.message_id)
        return DeliveryReport({})


def _asked_for(header: bytes) -> Directives:
    try:
        return read_directives(header_fields(header))
    except DirectiveError:
        # The gate refuses such mail; what came in before it did is sent as if it had asked for nothing.
        return NO_DIRECTIVES
