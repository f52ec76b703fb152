"""Telemetry: a fact told once becomes a line and a number."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from relay.mail.envelope import Envelope, Recipient
from relay.mail.event import Event, EventKind
from relay.mail.outcome import Deferred, Delivered, Failed, InDoubt, Sent
from relay.mail.reply import reply
from relay.mail.session import Login, Session, TlsFacts
from relay.ports import DeliveryReport, DeliveryRequest, QueuedMessage, SystemClock
from relay.telemetry.log import MailLog
from relay.telemetry.metrics import Metrics
from relay.telemetry.observer import Telemetry

SESSION = Session("192.0.2.1", 4711, "client.example", "ESMTPSA", "submission", login=Login("acme", "app"))
ENVELOPE = Envelope("a@b.example", (Recipient("c@d.example"), Recipient("e@f.example")))


class _Seen:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        log = MailLog(SystemClock(), format="json", level="debug", descriptor=self.descriptor)
        self.telemetry = Telemetry(log, Metrics(CollectorRegistry(), "1.0"))

    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def metric(self, line: str) -> float:
        for found in self.telemetry.metrics.exposition().decode().splitlines():
            if found.startswith(line + " "):
                return float(found.rpartition(" ")[2])
        raise AssertionError(f"no metric {line}")


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[_Seen]:
    seen = _Seen(tmp_path / "log")
    yield seen
    os.close(seen.descriptor)


def test_accepted_message_is_a_line_with_its_id_and_counted(seen: _Seen) -> None:
    """What was answered 250 shows id, envelope, account and size, and counts its recipients."""
    message = QueuedMessage("id-1", "acme", "app", ENVELOPE, 4096, 0.0, (), ())

    seen.telemetry.accepted(SESSION, message, 0.003)

    (line,) = seen.events()
    shown = {name: line[name] for name in ("event", "id", "from", "to", "recipients", "size", "account", "username")}
    assert shown == {
        "event": "queued",
        "id": "id-1",
        "from": "a@b.example",
        "to": "c@d.example",
        "recipients": 2,
        "size": 4096,
        "account": "acme",
        "username": "app",
    }
    assert seen.metric('relay_accepted_recipients_total{listener="submission"}') == 2


def test_sessions_tls_and_authentication_are_counted(seen: _Seen) -> None:
    """Connections go up and down; TLS versions and AUTH results have their own counters."""
    telemetry = seen.telemetry

    telemetry.session_opened(SESSION)
    telemetry.tls_started(SESSION, TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256))
    telemetry.authenticated(SESSION, None)
    telemetry.authenticated(SESSION, SESSION.login)
    telemetry.rejected(SESSION, reply(550, "5.7.1", "no"))
    assert seen.metric('relay_connections{listener="submission"}') == 1
    telemetry.session_closed(SESSION)

    assert seen.metric('relay_connections{listener="submission"}') == 0
    assert seen.metric('relay_tls_sessions_total{direction="in",version="TLSv1.3"}') == 1
    assert seen.metric('relay_auth_total{listener="submission",result="failed"}') == 1
    assert seen.metric('relay_rejected_total{listener="submission",reason="5.7.1"}') == 1


def test_an_attempt_counts_each_recipient_by_outcome(seen: _Seen) -> None:
    """Every kind of outcome has its word, and a session without TLS counts as `none`."""
    answer, trouble, refusal = reply(250, "2.0.0", "ok"), reply(451, "4.3.0", "later"), reply(550, "5.1.1", "no")
    outcomes = {
        "a": Delivered(answer),
        "b": Sent(answer),
        "c": Deferred(trouble),
        "d": Failed(refusal),
        "e": InDoubt(trouble),
    }
    request = DeliveryRequest("id-1", "acme", "a@b.example", ENVELOPE.recipients, "d.example", ENVELOPE, attempt=2)

    seen.telemetry.attempt_started(request, "direct")
    seen.telemetry.attempt_ended("direct", DeliveryReport(outcomes, host="mx.d.example"), 0.7)

    assert (seen.events()[0]["id"], seen.events()[0]["number"]) == ("id-1", 2)
    for word in ("delivered", "sent", "deferred", "failed", "in_doubt"):
        assert seen.metric(f'relay_deliveries_total{{outcome="{word}",transport="direct"}}') == 1
    assert seen.metric('relay_tls_sessions_total{direction="out",version="none"}') == 1


def test_pauses_notices_events_and_failures_reach_log_and_metrics(seen: _Seen) -> None:
    """The rarer facts each leave one line and move their metric."""
    telemetry = seen.telemetry

    telemetry.route_paused("provider:sendpost", 300.0, reply(450, "4.7.8", "key refused"))
    assert seen.metric('relay_route_paused{route="provider:sendpost"}') == 1
    telemetry.route_resumed("provider:sendpost")
    telemetry.next_hop_opened("direct:b.example", 30.0, reply(451, "4.4.1", "Connection refused"))
    assert seen.metric('relay_next_hop_open{next_hop="direct:b.example"}') == 1
    telemetry.next_hop_closed("direct:b.example")
    assert seen.metric('relay_next_hop_open{next_hop="direct:b.example"}') == 0
    telemetry.notice_queued("id-1", "id-2", "a@b.example")
    telemetry.notice_withheld("id-1", "a@b.example")
    assert seen.metric("relay_notices_withheld_total") == 1
    telemetry.event(Event(0.0, EventKind.BOUNCED, "id-1", "c@d.example", "550 5.1.1 no"))
    telemetry.bug(RuntimeError("broken"))

    assert [line["event"] for line in seen.events()] == [
        "route_paused",
        "route_resumed",
        "next_hop_opened",
        "next_hop_closed",
        "notice_sent",
        "notice_withheld",
        "bounced",
        "failure",
    ]
    assert seen.metric('relay_route_paused{route="provider:sendpost"}') == 0
    assert seen.metric('relay_finished_recipients_total{state="bounced"}') == 1
    assert seen.metric("relay_failures_total") == 1
