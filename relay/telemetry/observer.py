"""Telemetry: the one listener the doors, the gate and the engine tell their facts; each becomes a line and a number.

In: facts as values of `relay.mail` and `relay.ports`. Out: calls on `MailLog` and `Metrics`. Fits the observers that
smtpd and intake ask for, and `EventSink`. Never raises: a fact that cannot be shown must not stop mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.mail.certificate import Certificate
from relay.mail.errors import StoreError
from relay.mail.event import Event
from relay.mail.outcome import Deferred, Delivered, Failed, InDoubt, Outcome, Sent
from relay.mail.reply import Reply
from relay.mail.session import Login, Session, TlsFacts
from relay.ports import DeliveryReport, DeliveryRequest, QueuedMessage
from relay.telemetry.log import MailLog
from relay.telemetry.metrics import Metrics, Result

_RESULTS: Final[dict[type[Outcome], Result]] = {
    Delivered: "delivered",
    Sent: "sent",
    Deferred: "deferred",
    Failed: "failed",
    InDoubt: "in_doubt",
}


class Telemetry:
    """Log and metrics of one worker."""

    def __init__(self, log: MailLog, metrics: Metrics) -> None:
        self.log = log
        self.metrics = metrics

    # --- smtpd ---------------------------------------------------------------------------------------------

    def session_opened(self, session: Session) -> None:
        self.metrics.session_opened(session.listener)
        self.log.connected(session.peer, session.listener)

    def session_closed(self, session: Session) -> None:
        self.metrics.session_closed(session.listener)
        if session.tls is None:
            self.metrics.tls_session("in", None)
        self.log.disconnected(session.peer, session.listener)

    def tls_started(self, session: Session, facts: TlsFacts) -> None:
        self.metrics.tls_session("in", facts.version)

    def rejected(self, session: Session, answer: Reply) -> None:
        self.metrics.rejected(session.listener, answer)
        username = session.login.username if session.login else None
        self.log.rejected(session.peer, session.listener, str(answer), helo=session.helo or None, username=username)

    def authenticated(self, session: Session, login: Login | None) -> None:
        self.metrics.authenticated(session.listener, success=login is not None)
        if login is None:
            self.log.auth_failed(session.peer, session.listener, session.helo)
        else:
            self.log.authenticated(session.peer, session.listener, login.username)

    def tolerated(self, session: Session, what: str) -> None:
        self.metrics.tolerated(session.listener, what)

    def proxy_header_refused(self, peer: str, words: str) -> None:
        self.log.warn("proxy_header_refused", peer=peer, reason=words)

    def recognised(self, session: Session, login: Login) -> None:
        """A client that needs no password is there."""
        self.metrics.recognised(session.listener, login.username)
        self.log.recognised(session.peer, session.listener, login.username)

    def client_named(self, session: Session, proxy: str) -> None:
        login = session.login
        self.log.note(
            "client_named",
            peer=session.peer,
            listener=session.listener,
            proxy=proxy,
            helo=session.helo or None,
            username=login.username if login else None,
        )

    def bug(self, error: BaseException) -> None:
        self.failure("smtpd", error)

    def certificate_loaded(self, certificate: Certificate, days_left: int) -> None:
        names, issuer = ", ".join(certificate.names), certificate.issuer
        self.log.note("certificate_loaded", file=certificate.file, names=names, issuer=issuer, days_left=days_left)

    def certificate_refused(self, file: str, reason: str) -> None:
        self.log.warn("certificate_refused", file=file, reason=reason)

    def certificate_expires(self, certificate: Certificate, days_left: int) -> None:
        names = ", ".join(certificate.names)
        self.log.warn("certificate_expires", file=certificate.file, names=names, days_left=days_left)

    def certificates_served(self, certificates: Sequence[Certificate]) -> None:
        self.metrics.certificates({one.file: one.expires for one in certificates})

    # --- intake --------------------------------------------------------------------------------------------

    def accepted(self, session: Session, message: QueuedMessage, seconds: float) -> None:
        envelope = message.envelope
        recipients = len(envelope.recipients)
        self.metrics.accepted(session.listener, recipients, message.size, seconds)
        self.log.queued(
            message.id,
            envelope.reverse_path,
            recipients,
            message.size,
            to=envelope.recipients[0].address,
            peer=session.peer,
            listener=session.listener,
            protocol=session.protocol,
            account=message.account or None,
            username=message.username or None,
            seconds=seconds,
        )

    def repeated(self, session: Session, message_id: str) -> None:
        """A client sent again what is stored."""
        self.metrics.repeated(session.listener)
        username = session.login.username if session.login else None
        self.log.note("repeated", id=message_id, peer=session.peer, listener=session.listener, username=username)

    def store_failed(self, error: StoreError) -> None:
        self.metrics.store_failed()
        self.log.failure("store", error)

    # --- delivery ------------------------------------------------------------------------------------------

    def attempt_started(self, request: DeliveryRequest, transport: str) -> None:
        self.log.attempt(request.message_id, transport, request.destination, len(request.recipients), request.attempt)

    def attempt_ended(self, transport: str, report: DeliveryReport, seconds: float) -> None:
        """`seconds` is the whole attempt. A report that names a host came from a session, with TLS or without."""
        outcomes: dict[Result, int] = {}
        for outcome in report.outcomes.values():
            result = _RESULTS[type(outcome)]
            outcomes[result] = outcomes.get(result, 0) + 1
        self.metrics.delivery(transport, seconds, outcomes)
        if report.host:
            self.metrics.tls_session("out", report.tls.version if report.tls else None)

    def notice_queued(self, message_id: str, notice_id: str, recipient: str) -> None:
        self.metrics.notice()
        self.log.notice_sent(message_id, notice_id, recipient)

    def notice_withheld(self, message_id: str, recipient: str) -> None:
        self.metrics.notice_withheld()
        self.log.notice_withheld(message_id, recipient)

    def route_paused(self, route: str, seconds: float, answer: Reply) -> None:
        self.metrics.route_paused(route, paused=True)
        self.log.route_paused(route, seconds, str(answer))

    def route_resumed(self, route: str) -> None:
        self.metrics.route_paused(route, paused=False)
        self.log.route_resumed(route)

    def next_hop_opened(self, next_hop: str, seconds: float, answer: Reply) -> None:
        self.metrics.next_hop_open(next_hop, is_open=True)
        self.log.next_hop_opened(next_hop, seconds, str(answer))

    def next_hop_closed(self, next_hop: str) -> None:
        self.metrics.next_hop_open(next_hop, is_open=False)
        self.log.next_hop_closed(next_hop)

    def asked(self, candidate: str, *, has: int, none: int, unsure: int) -> None:
        """What it knew of so many recipients in doubt."""
        self.metrics.asked(candidate, {"has": has, "has_none": none, "unsure": unsure})

    def provider_silent(self, candidate: str, seconds: float) -> None:
        """It takes mail and reports on none of it."""
        self.metrics.provider_silent(candidate, silent=True)
        self.log.warn("provider_silent", provider=candidate, seconds=seconds)

    def provider_heard(self, candidate: str) -> None:
        self.metrics.provider_silent(candidate, silent=False)
        self.log.note("provider_heard", provider=candidate)

    def event(self, event: Event) -> None:
        """ports.EventSink."""
        self.metrics.event(event)
        self.log.event(event)

    def news(self, event: Event, ended: bool = False) -> None:
        """What a provider told later of a recipient that had ended here, or that this has `ended`."""
        self.metrics.news(event.kind.value)
        if ended:
            self.metrics.event(event)
        self.log.event(event)

    def callback_refused(self, provider: str, words: str, *, forged: bool) -> None:
        self.metrics.callback(provider, "forged" if forged else "refused")
        self.log.warn("callback_refused", provider=provider, reason=words, forged=forged)

    def callback_taken(self, provider: str, known: int, strange: int, words: tuple[str, ...]) -> None:
        """`strange`: events of messages nobody here knows; `words`: event names nobody knows."""
        self.metrics.callback(provider, "taken")
        if strange or words:
            self.log.note(
                "callback_taken",
                provider=provider,
                events=known,
                unknown_messages=strange,
                unknown_words=" ".join(words),
            )

    def polled(self, provider: str, known: int, words: tuple[str, ...]) -> None:
        """A provider was asked for news; `words`: event names nobody knows."""
        self.metrics.poll(provider, "taken")
        if words:
            self.log.note("polled", provider=provider, events=known, unknown_words=" ".join(words))

    def poll_failed(self, provider: str, reason: str, pause: float) -> None:
        self.metrics.poll(provider, "failed")
        self.log.warn("poll_failed", provider=provider, reason=reason, seconds=round(pause))

    def suppressed(self, account: str, recipient: str, reason: str) -> None:
        """A client named a recipient that is on its account's suppression list."""
        self.metrics.suppressed(reason)
        self.log.note("suppressed", account=account, to=recipient, reason=reason)

    # --- contacts ------------------------------------------------------------------------------------------

    def contact_told(self, name: str) -> None:
        self.metrics.contact(name, "told")

    def contact_given_up(self, name: str, address: str, answer: Reply) -> None:
        """A marketing platform does not take it."""
        self.metrics.contact(name, "given_up")
        self.log.warn("contact_given_up", contacts=name, contact=address, reply=str(answer))

    def contacts_paused(self, name: str, seconds: float, answer: Reply) -> None:
        self.metrics.contacts_paused(name, paused=True)
        self.log.warn("contacts_paused", contacts=name, seconds=round(seconds), reply=str(answer))

    def contacts_resumed(self, name: str) -> None:
        self.metrics.contacts_paused(name, paused=False)
        self.log.note("contacts_resumed", contacts=name)

    def contacts_left(self, name: str) -> None:
        """Nobody tells this platform any more, or somebody else begins to: the gauges begin anew."""
        self.metrics.contacts_left(name)

    def contacts_waiting(self, name: str, spool: int, waiting: int) -> None:
        self.metrics.contacts_waiting(name, spool, waiting)

    # --- everywhere ----------------------------------------------------------------------------------------

    def failure(self, where: str, error: BaseException, message_id: str | None = None) -> None:
        """Something of ours is broken: a bug, or what a bug looks like."""
        self.metrics.failure()
        self.log.failure(where, error, message_id)

    def http_request(self, interface: str, method: str, path: str, status: int, seconds: float) -> None:
        self.metrics.http_request(interface, status)
        self.log.http_request(method, path, status, seconds)
