"""One delivery over SMTP: endpoints in order, a session from the pool or a fresh one, transactions, outcomes.

In: a DeliveryRequest and its final bytes. Out: a DeliveryReport with an outcome for every recipient.
Never raises for a result; StoreError where the content cannot be read and nobody has an outcome yet.
Used by the MX and the smarthost transport, which say where to go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from relay.mail.address import to_ascii_domain
from relay.mail.envelope import Recipient
from relay.mail.errors import AddressSyntaxError, StoreError
from relay.mail.outcome import Deferred, Failed, Fault, Outcome
from relay.mail.reply import Reply, reply
from relay.policy.hints import retry_after
from relay.ports import DeliveryReport, DeliveryRequest, LongContent
from relay.transports.pool import Pool
from relay.transports.promises import NO_REQUIRETLS, as_text, unkept
from relay.transports.smtp_client import Endpoint, SmtpConnection
from relay.transports.smtp_commands import (
    has_ascii_local_part,
    needs_utf8,
)
from relay.transports.smtp_dialogue import at_once
from relay.transports.smtp_session import Dialer, Refusal
from relay.transports.smtp_transaction import Transaction

ADDRESSES_PER_ATTEMPT: Final = 5
# RFC 5321 §4.5.3.1.8: every server takes at least this many.
RECIPIENTS_PER_TRANSACTION: Final = 100

_NO_SMTPUTF8: Final = reply(550, "5.6.7", "Message needs SMTPUTF8, which the next hop does not offer")
_BAD_ADDRESS: Final = reply(553, "5.1.3", "Address cannot be written as the next hop needs it")
_INTERRUPTED: Final = reply(451, "4.3.0", "Delivery was interrupted")
_UNREADABLE: Final = Deferred(reply(451, "4.3.0", "The stored message could not be read to its end again"))


class SmtpSender:
    """Delivers over sessions of `dialer`, kept in `pool`. `final_hop`: the peer is the recipients' own MX."""

    def __init__(
        self,
        dialer: Dialer,
        pool: Pool,
        *,
        final_hop: bool,
        recipients: int = RECIPIENTS_PER_TRANSACTION,
        verified: bool = False,
    ) -> None:
        """`recipients`: how many the peer is known to take a transaction. `verified`: its certificate is checked."""
        self._verified = verified
        self._recipients = recipients
        self._dialer = dialer
        self._pool = pool
        self._final_hop = final_hop

    async def close(self) -> None:
        await self._pool.close()

    async def send(
        self, endpoints: Sequence[Endpoint], request: DeliveryRequest, content: bytes | LongContent
    ) -> tuple[DeliveryReport, list[Endpoint]]:
        """The report, and the endpoints that refused a session before one was found."""
        report, refused = await self._send(endpoints, request, content)
        while len(report.outcomes) < len(request.recipients):
            # The limits of that session are reached (RFC 9422); the rest goes over another.
            outcomes = report.outcomes
            left = tuple(one for one in request.recipients if one.address not in outcomes)
            try:
                report, refused = await self._send(endpoints, replace(request, recipients=left), content)
            except StoreError:
                more: Mapping[str, Outcome] = dict.fromkeys((one.address for one in left), _UNREADABLE)
            else:
                more = report.outcomes
            report = replace(report, outcomes={**outcomes, **more})
        return report, refused

    async def _send(
        self, endpoints: Sequence[Endpoint], request: DeliveryRequest, content: bytes | LongContent
    ) -> tuple[DeliveryReport, list[Endpoint]]:
        """As `send`, for as many recipients as one session may have."""
        kept = self._pool.take(endpoints)
        if kept is not None:
            report = await self._deliver(kept, request, content, reused=True)
            if report is not None:
                return report, []
            # It had died in the pool: nothing was handed over, so this try does not count.
        refusals: list[Refusal] = []
        for endpoint in endpoints[:ADDRESSES_PER_ATTEMPT]:
            session = await self._dialer.open(endpoint)
            if isinstance(session, Refusal):
                refusals.append(session)
                if session.fault is Fault.ROUTE:
                    break
                continue
            if request.envelope.requiretls and not session.capabilities.requiretls:
                refusals.append(Refusal(NO_REQUIRETLS, insecure=True))
                session.quit()
                continue
            report = await self._deliver(session, request, content, reused=False)
            assert report is not None
            return report, list(endpoints[: len(refusals)])
        outcome = _no_session(refusals)
        host = str(endpoints[len(refusals) - 1]) if refusals else ""
        report = DeliveryReport({r.address: outcome for r in request.recipients}, host=host)
        return report, list(endpoints[: len(refusals)])

    async def _deliver(
        self, connection: SmtpConnection, request: DeliveryRequest, content: bytes | LongContent, *, reused: bool
    ) -> DeliveryReport | None:
        """None when a reused connection turns out to be dead; no recipient was touched then."""
        delivery = _Delivery(connection, request, content, self._recipients, final_hop=self._final_hop)
        delivery.verified = connection.tls is not None and (self._verified or connection.endpoint.tls == "verify")
        try:
            alive = await delivery.run()
        except BaseException as error:
            connection.end(_INTERRUPTED)
            if not (isinstance(error, StoreError) and delivery.outcomes):
                raise
            # Before the terminator: nobody of this transaction has it, and who had an earlier one keeps its outcome.
            alive = True
            for recipient in request.recipients:
                delivery.outcomes.setdefault(recipient.address, _UNREADABLE)
        if delivery.exhausted:
            connection.quit()
        else:
            self._pool.give(connection)
        if reused and not alive:
            return None
        return DeliveryReport(
            delivery.outcomes,
            host=connection.label,
            tls=connection.tls,
            dsn=connection.capabilities.dsn,
            by=connection.capabilities.deliver_by is not None,
        )


def _no_session(refusals: Sequence[Refusal]) -> Outcome:
    """What it means that no endpoint gave a session.

    A greeting of 4xx or 5xx only speaks for one host (Postfix reads it so too, and it is how blocklists and overload
    show), hence Deferred; but where every host says 521, none of them takes mail, ever (RFC 7504 §3.1).
    """
    if not refusals:
        return Deferred(reply(451, "4.4.4", "Next hop has no address to connect to"), Fault.HOST)
    last = refusals[-1]
    if all(refusal.insecure for refusal in refusals):
        text = last.reply.text if last.reply.permanent else f"Message requires verified TLS: {last.reply.text}"
        return Failed(reply(550, "5.7.30", text), elsewhere=True)
    last = next(refusal for refusal in reversed(refusals) if not refusal.insecure)
    if all(refusal.reply.code == 521 for refusal in refusals):
        return Failed(last.reply)
    return Deferred(last.reply, last.fault, retry_after(last.reply.text))


class _Delivery:
    """One message over one connection, in as many transactions as its recipients need."""

    __slots__ = (
        "_connection",
        "_content",
        "_final_hop",
        "_most",
        "_request",
        "_utf8",
        "exhausted",
        "outcomes",
        "verified",
    )

    def __init__(
        self,
        connection: SmtpConnection,
        request: DeliveryRequest,
        content: bytes | LongContent,
        most: int,
        *,
        final_hop: bool,
    ) -> None:
        """`most`: recipients a transaction."""
        self._connection = connection
        # What has our signature and goes further than this peer could not be made lines there (RFC 6376 §5.3).
        keeps = connection.capabilities.binary and (final_hop or not request.signed)
        if request.envelope.binary and not keeps and request.text is not None:
            content, request = request.text, as_text(request)
        self._most = min(most, connection.capabilities.rcpts or most)
        self.exhausted = False
        self._request = request
        self._content = content
        self._final_hop = final_hop
        self.verified = False
        self._utf8 = needs_utf8(request, content)
        self.outcomes: dict[str, Outcome] = {}

    async def run(self) -> bool:
        """Fill `outcomes`, for every recipient unless the session is `exhausted` before.

        False when the peer answered nothing at all.
        """
        waiting = self._screen(self._request.recipients)
        answered = not waiting
        while waiting:
            batch, waiting = self._batch(waiting)
            if not batch:
                self.exhausted = True
                for recipient in waiting:
                    self.outcomes.pop(recipient.address, None)  # 452 before, of a transaction that was too large
                return True
            transaction = Transaction(self._connection, self._request, batch, self._content, final_hop=self._final_hop)
            verdict = await transaction.run(utf8=self._utf8)
            answered = answered or verdict.answered
            self.outcomes.update(verdict.outcomes)
            if verdict.refused is not None or self._connection.trouble is not None:
                outcome = verdict.refused or Deferred(self._connection.trouble or _INTERRUPTED)
                self.outcomes.update((r.address, outcome) for r in waiting)
                self._hasten(verdict.overflow)
                break
            if verdict.overflow and self._connection.needs_rset:
                self._hasten(verdict.overflow)
            else:
                waiting = verdict.overflow + waiting
        return answered

    def _batch(self, waiting: list[Recipient]) -> tuple[list[Recipient], list[Recipient]]:
        """Recipients of the next transaction, nobody where the session may have none (RFC 9422 §4); and the others."""
        connection = self._connection
        offer = connection.capabilities
        if 0 < offer.mails <= connection.messages:
            return [], waiting
        if not offer.rcpt_domains:
            return waiting[: self._most], waiting[self._most :]
        batch: list[Recipient] = []
        others: list[Recipient] = []
        for recipient in waiting:
            domain = recipient.domain.lower()
            if len(connection.domains) < offer.rcpt_domains:
                connection.domains.add(domain)
            (batch if domain in connection.domains and len(batch) < self._most else others).append(recipient)
        return batch, others

    def _hasten(self, overflow: list[Recipient]) -> None:
        for recipient in overflow:
            self.outcomes[recipient.address] = at_once(self.outcomes[recipient.address])

    def _screen(self, recipients: Sequence[Recipient]) -> list[Recipient]:
        """The recipients this peer can be asked for; the others get their outcome here, without a word to it."""
        offer = self._connection.capabilities
        if offer.size and len(self._content) > offer.size:
            refusal = reply(552, "5.3.4", f"Message is larger than the {offer.size} octets the next hop takes")
            return self._refuse(recipients, refusal)
        if self._utf8 and not offer.smtputf8:
            return self._refuse(recipients, _NO_SMTPUTF8)
        missing = unkept(self._request, offer, verified=self.verified)
        if missing is not None:
            return self._refuse(recipients, missing, elsewhere=True)
        askable = []
        for recipient in recipients:
            refused = None if recipient.address.isascii() else self._not_ascii(recipient.address)
            if refused is None:
                askable.append(recipient)
            else:
                self._refuse([recipient], refused)
        return askable

    def _refuse(self, recipients: Sequence[Recipient], refusal: Reply, *, elsewhere: bool = False) -> list[Recipient]:
        outcome = Failed(refusal, elsewhere=elsewhere or not self._final_hop)
        self.outcomes.update((r.address, outcome) for r in recipients)
        return []

    def _not_ascii(self, address: str) -> Reply | None:
        """Why `address` cannot be put to this peer, if so; a local part in UTF-8 puts the whole under SMTPUTF8."""
        if not has_ascii_local_part(address):
            if not self._connection.capabilities.smtputf8:
                return _NO_SMTPUTF8
            self._utf8 = True
            return None
        try:
            to_ascii_domain(address.rpartition("@")[2])
        except AddressSyntaxError:
            return _BAD_ADDRESS
        return None
