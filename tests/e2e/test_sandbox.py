"""The sandbox as a new user meets it: init, serve, a client, and the inbox."""

from __future__ import annotations

import json

import dkim
import pytest
from http_stub import states, until
from sandbox_server import Server, free_offset, relay

from relay.signing.keys import KeyStore
from relay.signing.records import records_for

MESSAGE = "From: {sender}\r\nTo: anna@shop.example\r\nSubject: Hello\r\n\r\nHello\r\n.dot\r\n"


def send(server: Server, *recipients: str, port: int = 1587) -> dict[str, tuple[int, bytes]]:
    sender = server.facts["username"]
    with server.client(port) as client:
        return client.sendmail(sender, list(recipients), MESSAGE.format(sender=sender))


@pytest.mark.parametrize("port", [1025, 1587, 2525, 1465])
def test_a_message_sent_arrives_signed_with_its_bytes_unchanged(running: Server, port: int) -> None:
    send(running, "anna@shop.example", port=port)
    (entry,) = running.arrived("anna@shop.example")
    raw = running.raw(entry)
    facts = running.facts
    assert raw.endswith(MESSAGE.format(sender=facts["username"]).encode())
    assert entry["mail_from"] == facts["username"]
    assert entry["rcpt_to"] == ["anna@shop.example"]
    assert entry["tls"].startswith("TLSv1.")
    keys = KeyStore(running.var / "keys").keys(facts["domain"])
    zone = {r.name: r.value for r in records_for(facts["domain"], keys, "mx.sandbox.example", "rp") if r.type == "TXT"}

    def txt(name: bytes, timeout: int = 5) -> bytes:
        return zone[name.decode().rstrip(".")].encode()

    assert dkim.verify(raw, dnsfunc=txt)
    assert not dkim.verify(raw.replace(b"\r\nHello", b"\r\nHallo"), dnsfunc=txt)
    verified = relay("--config", running.config, "inbox", "verify", str(entry["id"]))
    assert verified.stdout.count("  holds\n") == 2


def test_bcc_recipients_get_the_message_and_are_named_nowhere(running: Server) -> None:
    send(running, "anna@shop.example", "hidden@other.example")
    for recipient in ("anna@shop.example", "hidden@other.example"):
        (entry,) = running.arrived(recipient)
        assert b"hidden" not in running.raw(entry)


def test_a_refused_recipient_comes_back_to_the_sender_as_a_dsn(running: Server) -> None:
    send(running, "anna@shop.example", "550@shop.example")
    running.arrived("anna@shop.example")
    (entry,) = running.arrived(running.facts["username"])
    raw = running.raw(entry)
    assert entry["mail_from"] is None
    assert b"report-type=delivery-status" in raw
    assert b"Final-Recipient: rfc822; 550@shop.example\r\nAction: failed\r\nStatus: 5.1.1" in raw
    assert b"anna@shop.example\r\nAction" not in raw


def test_a_temporary_refusal_is_tried_again_and_delivered(running: Server) -> None:
    send(running, "greylist@shop.example")
    (entry,) = running.arrived("greylist@shop.example")
    assert entry["rcpt_to"] == ["greylist@shop.example"]


def test_a_second_init_and_start_keep_credentials_and_mail(server: Server) -> None:
    server.start()
    before = server.facts
    send(server, "anna@shop.example")
    server.arrived("anna@shop.example")
    assert server.stop() == 0
    assert relay("init", "--sandbox", "--var", server.var, "--port-offset", str(server.offset)).returncode == 0
    server.start()
    assert server.facts == before
    assert len(server.inbox("anna@shop.example")) == 1
    send(server, "berta@shop.example")
    server.arrived("berta@shop.example")


def test_the_shift_of_its_ports_is_kept_until_another_is_told(server: Server) -> None:
    """`relay init` wrote it down, and so does each start; what asks the server finds it there."""
    assert server.facts["port_offset"] == server.offset
    server.start(shifted=False)
    done = relay("--config", server.config, "send", "anna@shop.example")
    assert done.returncode == 0, done.stderr
    server.arrived("anna@shop.example")
    done = relay("--config", server.config, "top", "--once", "--json")
    assert json.loads(done.stdout)["rates"] is not None
    assert server.stop() == 0

    server.offset = free_offset(besides=server.offset)
    server.start()
    assert server.facts["port_offset"] == server.offset
    assert server.stop() == 0
    server.start(shifted=False)


def test_the_facts_file_is_for_its_owner_alone_and_names_every_port(running: Server) -> None:
    path = running.var / "sandbox.json"
    assert path.stat().st_mode & 0o777 == 0o600
    offset = running.offset
    ports = {"25": 1025 + offset, "587": 1587 + offset, "2525": 2525 + offset, "465": 1465 + offset}
    assert running.facts["smtp_ports"] == ports
    assert running.facts["http_url"] == f"http://127.0.0.1:{8025 + offset}"
    for name in ("host", "username", "password", "api_key", "ca_file", "domain"):
        assert running.facts[name]


def test_secrets_are_in_no_log_line_and_on_no_command_line(running: Server) -> None:
    send(running, "anna@shop.example")
    running.arrived("anna@shop.example")
    facts = running.facts
    lines = [line for line in running.log.splitlines() if line.startswith("{")]
    assert any('"queued"' in line for line in lines)
    for secret in (facts["password"], facts["api_key"], "Hello"):
        assert not [line for line in lines if secret in line]


def test_metrics_count_what_happened(running: Server) -> None:
    send(running, "anna@shop.example")
    running.arrived("anna@shop.example")
    until(lambda: states(running) == {"anna@shop.example": "delivered"}, running)
    text = running.get("/metrics").decode()
    assert 'relay_accepted_total{listener="submission"} 1.0' in text
    assert 'relay_deliveries_total{outcome="delivered",transport="direct"} 1.0' in text
    assert "relay_final_dot_seconds_bucket" in text
