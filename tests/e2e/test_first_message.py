"""The first message of a new server: from a client to the inbox, and nothing of it is left behind."""

from __future__ import annotations

import json

from http_stub import states, until
from sandbox_server import Server, relay

TEXT = "From: {sender}\r\nTo: anna@shop.example\r\nSubject: First\r\n\r\nHello\r\n"


def test_the_first_message_arrives_once_and_leaves_an_empty_queue(running: Server) -> None:
    """Its end is in the log by the id the client was told."""
    sender = running.facts["username"]
    with running.client() as client:
        client.mail(sender)
        client.rcpt("anna@shop.example")
        code, words = client.data(TEXT.format(sender=sender))
    assert (code, words[:19]) == (250, b"2.0.0 Ok: queued as")

    (entry,) = running.arrived("anna@shop.example")
    assert running.raw(entry).endswith(b"\r\n\r\nHello\r\n")
    message_id = words.decode().rpartition(" ")[2]
    until(lambda: states(running) == {"anna@shop.example": "delivered"}, running)
    events = [json.loads(line) for line in running.log.splitlines() if line.startswith("{")]
    ended = [each for each in events if each.get("id") == message_id and each["event"] == "delivered"]
    assert [each["to"] for each in ended] == ["anna@shop.example"]
    listed = relay("--config", running.config, "queue", "list", "--json")
    assert listed.returncode == 0
    assert message_id not in listed.stdout
