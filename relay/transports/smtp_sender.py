"""One delivery over SMTP: endpoints in order, a session from the pool or a fresh one, transactions, outcomes.

In: a DeliveryRequest and its final bytes. Out: a DeliveryReport with an outcome for every recipient.
Never raises for a result. Used by the MX and the smarthost transport, which say where to go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.mail.address import to_ascii_domain
from relay.mail.envelope import Recipient
from relay.mail.errors import AddressSyntaxError
from relay.mail.outcome import Deferred, Failed, Fault, Outcome
from relay.mail.reply import Reply, reply
from relay.policy.hints import retry_after
from relay.ports import DeliveryReport, DeliveryRequest
from relay.transports.pool import Pool
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


class SmtpSender:
    """Delivers over sessions of `dialer`, kept in `pool`. `final_hop`: the peer is the recipients' own MX."""

    def __init__(self, dialer: Dialer, pool: Pool, *, final_hop: bool) -> None:
        self._dialer = dialer
        self._pool = pool
        self._final_hop = final_hop

    async def close(self) -> None:
        await self._pool.close()

    async def send(
        self, endpoints: Sequence[Endpoint], request: DeliveryRequest, content: bytes
    ) -> tuple[DeliveryReport, list[Endpoint]]:
        """The report, and the endpoints that refused a session before one was found."""
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
            report = await self._deliver(session, request, content, reused=False)
            assert report is not None
            return report, list(endpoints[: len(refusals)])
        outcome = _no_session(refusals)
        host = str(endpoints[len(refusals) - 1]) if refusals else ""
        report = DeliveryReport({r.address: outcome for r in request.recipients}, host=host)
        return report, list(endpoints[: len(refusals)])

    async def _deliver(
        self, connection: SmtpConnection, request: DeliveryRequest, content: bytes, *, reused: bool
    ) -> DeliveryReport | None:
        """None when a reused connection turns out to be dead; no recipient was touched then."""
        delivery = _Delivery(connection, request, content, final_hop=self._final_hop)
        try:
            alive = await delivery.run()
        except BaseException:
            connection.end(_INTERRUPTED)
            raise
        self._pool.give(connection)
        if reused and not alive:
            return None
        return DeliveryReport(
            delivery.outcomes, host=connection.label, tls=connection.tls, dsn=connection.capabilities.dsn
        )


def _no_session(refusals: Sequence[Refusal]) -> Outcome:
    """What it means that no endpoint gave a session.

    A greeting of 4xx or 5xx only speaks for one host (Postfix reads it so too, and it is how blocklists and overload
    show), hence Deferred; but where every host says 521, none of them takes mail, ever (RFC 7504 §3.1).
    """
    if not refusals:
        return Deferred(reply(451, "4.4.4", "Next hop has no address to connect to"), Fault.HOST)
    last = refusals[-1]
    if all(refusal.reply.code == 521 for refusal in refusals):
        return Failed(last.reply)
    return Deferred(last.reply, last.fault, retry_after(last.reply.text))


class _Delivery:
    """One message over one connection, in as many transactions as its recipients need."""

    __slots__ = ("_connection", "_content", "_final_hop", "_request", "_utf8", "outcomes")

    def __init__(
        self, connection: SmtpConnection, request: DeliveryRequest, content: bytes, *, final_hop: bool
    ) -> None:
        self._connection = connection
        self._request = request
        self._content = content
        self._final_hop = final_hop
        self._utf8 = needs_utf8(request, content)
        self.outcomes: dict[str, Outcome] = {}

    async def run(self) -> bool:
        """Fill `outcomes` for every recipient. False when the peer answered nothing at all."""
        waiting = self._screen(self._request.recipients)
        answered = not waiting
        while waiting:
            batch, waiting = waiting[:RECIPIENTS_PER_TRANSACTION], waiting[RECIPIENTS_PER_TRANSACTION:]
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
        askable = []
        for recipient in recipients:
            refused = None if recipient.address.isascii() else self._not_ascii(recipient.address)
            if refused is None:
                askable.append(recipient)
            else:
                self._refuse([recipient], refused)
        return askable

    def _refuse(self, recipients: Sequence[Recipient], refusal: Reply) -> list[Recipient]:
        outcome = Failed(refusal, elsewhere=not self._final_hop)
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
