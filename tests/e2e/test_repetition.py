"""A client that sends a message again because it never heard the 250: one copy, in any worker, over a restart."""

from __future__ import annotations

import json
import re
import smtplib

import pytest
from sandbox_server import Server

BIG = "x" * 70 + "\r\n"


def send(server: Server, message: str, *recipients: str) -> str:
    with server.client() as client:
        client.mail(server.facts["username"])
        for recipient in recipients:
            client.rcpt(recipient)
        code, text = client.data(message.encode())
    assert code == 250, text
    return text.decode()


@pytest.mark.parametrize("lines", [1, 30_000], ids=["small", "2 MB"])
def test_a_repetition_is_stored_once(server: Server, lines: int) -> None:
    server.configure("workers = 1", "workers = 2")
    server.start()
    sender = server.facts["username"]
    message = f"From: {sender}\r\nMessage-ID: <1@app.example>\r\nSubject: x\r\n\r\n" + BIG * lines
    first = send(server, message, "anna@shop.example", "bob@shop.example")
    found = re.fullmatch(r"2.0.0 Ok: queued as (\w+)", first)
    assert found, first
    answers = [send(server, message, "bob@shop.example", "anna@shop.example") for _ in range(12)]
    assert set(answers) == {f"2.0.0 Ok: duplicate of {found[1]}"}
    assert server.stop() == 0
    server.start()
    assert send(server, message, "anna@shop.example", "bob@shop.example") in answers
    assert "queued as" in send(server, message.replace("<1@", "<2@"), "anna@shop.example")
    server.arrived("anna@shop.example", 2)
    assert len(server.inbox("bob@shop.example")) == 1
    log = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    assert [line["id"] for line in log if line["event"] == "repeated"] == [found[1]] * 13
    assert 'relay_repeated_total{listener="submission"} 1.0' in server.get("/metrics").decode()


def test_without_a_message_id_of_its_own_a_client_may_send_the_same_twice(server: Server) -> None:
    server.start()
    sender = server.facts["username"]
    with server.client() as client:
        assert isinstance(client, smtplib.SMTP)
        for _ in range(2):
            client.sendmail(sender, ["anna@shop.example"], f"From: {sender}\r\n\r\nx\r\n")
    server.arrived("anna@shop.example", 2)
