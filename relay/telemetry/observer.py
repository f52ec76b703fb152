"""Telemetry: the one listener the doors, the gate and the engine tell their facts; each becomes a line and a number.

In: facts as values of `relay.mail` and `relay.ports`. Out: calls on `MailLog` and `Metrics`. Fits the observers that
smtpd and intake ask for, and `EventSink`. Never raises: a fact that cannot be shown must not stop mail.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

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

    def bug(self, error: BaseException) -> None:
        self.failure("smtpd", error)

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

    def store_failed(self, error: StoreError) -> None:
        self.metrics.store_failed()
        self.log.failure("store", error)

    # --- delivery ------------------------------------------------------------------------------------------

    def attempt_started(self, request: DeliveryRequest, transport: str) -> None:
        self.log.attempt(request.message_id, transport, request.destination, len(request.recipients), request.attempt)

    def attempt_ended(self, transport: str, report: DeliveryReport, seconds: float) -> None:
        """`seconds` is the whole attempt. A report that names a host came from a session, with TLS or without."""
        outcomes = Counter(_RESULTS[type(outcome)] for outcome in report.outcomes.values())
        self.metrics.delivery(transport, seconds, outcomes)
        if report.host:
            self.metrics.tls_session("out", report.tls.version if report.tls else None)

    def notice_queued(self, message_id: str, notice_id: str, recipient: str) -> None:
        self.metrics.notice()
        self.log.notice_sent(message_id, notice_id, recipient)

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

    def event(self, event: Event) -> None:
        """ports.EventSink."""
        self.metrics.event(event)
        self.log.event(event)

    # --- everywhere ----------------------------------------------------------------------------------------

    def failure(self, where: str, error: BaseException, message_id: str | None = None) -> None:
        """Something of ours is broken: a bug, or what a bug looks like."""
        self.metrics.failure()
        self.log.failure(where, error, message_id)

    def http_request(self, interface: str, method: str, path: str, status: int, seconds: float) -> None:
        self.metrics.http_request(interface, status)
        self.log.http_request(method, path, status, seconds)
