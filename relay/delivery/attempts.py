"""Attempts: one candidate tries one job. Prepares the bytes, asks the transport, gives an outcome for everybody.

Comes in: a job and those of its recipients that try now. Goes out: a DeliveryReport with every one of them. A bug in
a transport or in the signing is Deferred for whom it hit, and so is content that cannot be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, cast

from relay.delivery.job import InFlight, Job
from relay.delivery.long_content import Opened, assembled, open_long
from relay.delivery.notices import original
from relay.delivery.observer import Observer
from relay.delivery.terms import Terms
from relay.delivery.verp import no_use_to_go_on
from relay.mail.dialects import has_directives, read_directives, without_directives
from relay.mail.directives import NO_DIRECTIVES, Directives
from relay.mail.errors import DirectiveError, StoreError
from relay.mail.message import header_block, header_fields
from relay.mail.outcome import Deferred, Failed, Fault
from relay.mail.reply import printable, reply
from relay.mail.text_form import text_form
from relay.policy.deadline import seconds_left
from relay.policy.routing import takes_sender
from relay.ports import (
    LONG,
    Clock,
    DeliveryReport,
    DeliveryRequest,
    Doubt,
    Knowledge,
    LongContent,
    QueuedRecipient,
    SettlesDoubt,
    Signer,
    Spool,
    TakesLong,
    Transport,
)

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
        terms: Terms,
    ) -> None:
        self._terms = terms
        self._spool = spool
        self._transports = transports
        self._signer = signer
        self._clock = clock
        self._observer = observer

    def reconfigure(self, transports: Mapping[str, Transport], terms: Terms) -> None:
        """Other ways out from now on; what is under way ends on the old ones."""
        self._terms = terms
        self._transports = transports

    @property
    def candidates(self) -> tuple[str, ...]:
        """The ways out there are."""
        return tuple(self._transports)

    async def make(self, job: Job, candidate: str, recipients: tuple[QueuedRecipient, ...]) -> DeliveryReport:
        """Never raises but for cancellation."""
        try:
            content, request = await self._prepared(job, candidate, recipients)
        except StoreError as error:
            self._observer.store_failed(error)
            return DeliveryReport({waiting.recipient.address: Deferred(_UNREADABLE) for waiting in recipients})
        except Exception as error:
            self._observer.failure("delivery", error, job.message.id)
            return DeliveryReport({waiting.recipient.address: Deferred(INTERNAL) for waiting in recipients})
        started = self._clock.monotonic()
        self._observer.attempt_started(request, candidate)
        requests = [request]
        if self._terms.verp is not None:
            requests = self._terms.verp.requests(candidate, request, [waiting.index for waiting in recipients])
        try:
            report = await self._deliver(candidate, requests[0], content)
            if len(requests) > 1:
                report = await self._deliver_rest(candidate, report, requests[1:], content)
        finally:
            if isinstance(content, LongContent):
                content.rest.close()
        self._observer.attempt_ended(candidate, report, self._clock.monotonic() - started)
        return report

    def settles_doubt(self, candidate: str) -> bool:
        """Whether what is lost there can be asked about, or sent again without harm."""
        transport: object = self._transports.get(candidate)
        return isinstance(transport, SettlesDoubt) and transport.settles_doubt

    def repeatable_for(self, candidate: str) -> float:
        """Seconds for which the candidate carries a repeated call out once."""
        return repeatable_for(self._transports.get(candidate))

    async def inquire(self, job: Job, doubt: Doubt, recipients: tuple[QueuedRecipient, ...]) -> Knowledge | None:
        """What the candidate in doubt knows of these; None where it cannot be asked. Never raises but for
        cancellation."""
        transport: object = self._transports.get(doubt.candidate)
        if not isinstance(transport, SettlesDoubt) or not transport.settles_doubt:
            return None
        try:
            start, directives = self._without_directives(
                job.in_flight, doubt.candidate, await self._start_of(job.in_flight)
            )
            request = self._request(job, recipients, directives)
            return await transport.inquire(request, start, doubt.since)
        except StoreError as error:
            self._observer.store_failed(error)
        except Exception as error:
            self._observer.failure(doubt.candidate, error, job.message.id)
        return Knowledge({}, complete=False, words="could not be asked: internal error, see the log")

    def held_whole(self, job: Job, candidate: str) -> int:
        """Octets of the message where it is long and `candidate` needs all of it in memory; else 0."""
        message = job.message
        if message.size <= LONG or job.in_flight.content is not None:
            return 0
        return message.size if message.envelope.binary or not self._takes_long(candidate) else 0

    def _takes_long(self, candidate: str) -> bool:
        transport: object = self._transports.get(candidate)
        return isinstance(transport, TakesLong) and transport.takes_long

    async def original(self, in_flight: InFlight) -> bytes:
        """See `notices.original`."""
        if in_flight.content is not None:
            return in_flight.content
        return await original(self._spool, in_flight.message, self._terms.returned_size, self._observer)

    async def _prepared(
        self, job: Job, candidate: str, recipients: tuple[QueuedRecipient, ...]
    ) -> tuple[bytes | LongContent, DeliveryRequest]:
        """What the transport is given. Raises StoreError."""
        content, directives = await self._prepare(job.in_flight, candidate)
        request = self._request(job, recipients, directives)
        if isinstance(content, bytes) and job.message.envelope.binary:
            request = replace(request, text=self._as_text(job.in_flight, content))
        return content, request

    def _request(self, job: Job, recipients: tuple[QueuedRecipient, ...], directives: Directives) -> DeliveryRequest:
        message = job.message
        indexes = ".".join([str(waiting.index) for waiting in recipients])
        return DeliveryRequest(
            message_id=message.id,
            account=message.account,
            reverse_path=message.envelope.reverse_path,
            recipients=tuple([waiting.recipient for waiting in recipients]),
            destination=job.destination,
            envelope=message.envelope,
            attempt=max([waiting.attempts for waiting in recipients]) + 1,
            idempotency_key=f"{message.id}-{indexes}",
            directives=directives,
            by_seconds=seconds_left(message.envelope, self._clock.now()),
            signed=bool(job.in_flight.signature),
        )

    async def _prepare(self, in_flight: InFlight, candidate: str) -> tuple[bytes | LongContent, Directives]:
        """The bytes of this attempt: signed late, once for all jobs of the message in memory."""
        message, content = in_flight.message, in_flight.content
        if content is None and message.size > LONG and not message.envelope.binary and self._takes_long(candidate):
            opened = await open_long(self._spool, message.id)
            if isinstance(opened, Opened):
                return await self._prepare_long(in_flight, candidate, opened)
            content = opened
        if content is None:
            content = await self._spool.read_content(message.id)
        content, directives = self._without_directives(in_flight, candidate, content)
        if in_flight.signature is None:
            # Only what an authenticated account sent is ours to sign; mail let in by port 25 is not.
            in_flight.signature = self._signer.sign(content, message.envelope.sender_domain) if message.account else b""
        return in_flight.signature + content, directives

    async def _start_of(self, in_flight: InFlight) -> bytes:
        """All of a message that is not long, or its header and the empty line. Raises StoreError."""
        message, content = in_flight.message, in_flight.content
        if content is not None:
            return content
        if message.size <= LONG:
            return await self._spool.read_content(message.id)
        opened = await open_long(self._spool, message.id)
        if isinstance(opened, bytes):
            return opened
        opened.stored.close()
        return opened.head

    async def _prepare_long(
        self, in_flight: InFlight, candidate: str, opened: Opened
    ) -> tuple[LongContent, Directives]:
        """As `_prepare`, of a message that stays in its file."""
        try:
            head, directives = self._without_directives(in_flight, candidate, opened.head)
            return await assembled(opened, head, in_flight, self._signer), directives
        except BaseException:
            opened.stored.close()
            raise

    def _without_directives(self, in_flight: InFlight, candidate: str, content: bytes) -> tuple[bytes, Directives]:
        """`content`, which may be the header and the empty line alone, without the fields by which its author asks for
        something; and what he asks for, as a value.

        The fields go nowhere but to the smarthost whose dialect they are. A stranger asks for nothing, and could ask a
        vendor for a lot.
        """
        account = in_flight.message.account
        if (not account and candidate == "direct") or not has_directives(header := header_block(content)):
            return content, NO_DIRECTIVES
        directives = _asked_for(header) if account else NO_DIRECTIVES
        return without_directives(content, self._terms.dialects.get(candidate, "") if account else ""), directives

    def _as_text(self, in_flight: InFlight, content: bytes) -> bytes | None:
        """Signed by us as it will be sent; what its author signed stays as it is."""
        message = in_flight.message
        made = text_form(content[len(in_flight.signature or b"") :])
        if made is None:
            return None
        return (self._signer.sign(made, message.envelope.sender_domain) if message.account else b"") + made

    async def _deliver_rest(
        self,
        candidate: str,
        report: DeliveryReport,
        requests: Sequence[DeliveryRequest],
        content: bytes | LongContent,
    ) -> DeliveryReport:
        """One after the other, over one kept connection."""
        outcomes = dict(report.outcomes)
        for request in requests:
            lost = no_use_to_go_on(report)
            if lost is not None:
                outcomes.update((recipient.address, lost) for recipient in request.recipients)
                continue
            report = await self._deliver(candidate, request, content)
            outcomes.update(report.outcomes)
        return replace(report, outcomes=outcomes)

    async def _deliver(self, candidate: str, request: DeliveryRequest, content: bytes | LongContent) -> DeliveryReport:
        transport = self._transports.get(candidate)
        if transport is None:
            # The configuration was changed under a job with several candidates, or since an operator chose this one.
            lost = Deferred(_NO_SUCH_WAY, Fault.ROUTE)
            return DeliveryReport({recipient.address: lost for recipient in request.recipients})
        sender_domain = request.envelope.sender_domain
        if not takes_sender(candidate, sender_domain, self._terms.sender_domains):
            text = printable(f"{candidate} takes no mail from {sender_domain}: see its sender_domains")
            refused = Failed(reply(550, "5.7.1", text), elsewhere=True)
            return DeliveryReport({recipient.address: refused for recipient in request.recipients})
        try:
            # Only who takes long content is given it.
            report = await cast("TakesLong", transport).deliver(request, content)
        except StoreError as error:
            self._observer.store_failed(error)
            return DeliveryReport({recipient.address: Deferred(_UNREADABLE) for recipient in request.recipients})
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody stops us: the transport waited for something of its own that was cancelled.
            report = self._fault(candidate, error, request)
        except Exception as error:
            report = self._fault(candidate, error, request)
        missing = [recipient.address for recipient in request.recipients if recipient.address not in report.outcomes]
        if missing:
            report = replace(report, outcomes={**report.outcomes, **dict.fromkeys(missing, Deferred(INTERNAL))})
        # A host name may come from a peer, and goes into rows, logs and notices.
        host = printable(report.host, 255)
        return report if host == report.host else replace(report, host=host)

    def _fault(self, candidate: str, error: BaseException, request: DeliveryRequest) -> DeliveryReport:
        self._observer.failure(candidate, error, request.message_id)
        return DeliveryReport({})


def _asked_for(header: bytes) -> Directives:
    try:
        return read_directives(header_fields(header))
    except DirectiveError:
        # The gate refuses such mail; what came in before it did is sent as if it had asked for nothing.
        return NO_DIRECTIVES


def repeatable_for(transport: object) -> float:
    """Seconds for which the next hop carries a repeated call out once; 0: it does not."""
    return transport.repeatable_for if isinstance(transport, SettlesDoubt) else 0.0
