"""Lost answers with delivery.in_doubt = "query", end to end: one mail where the provider has it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from http_stub import Stub, until
from sandbox_server import Server

CONFIG = """
[delivery]
in_doubt = "query"
query_after = 1
query_trust = 2
query_times = 4

[[route]]
name = "bridge"
match.recipient_domain = ["shop.example"]
via = ["provider:mj"]

[provider.mj]
kind = "mailjet"
api_key_file = "{var}/mj.key"
base_url = "http://127.0.0.1:{port}/v3.1"
allow_private = true
timeout = 5
"""
SEND, LIST = "/v3.1/send", "/v3/REST/message"
TO = "ann@shop.example"


class Vendor:
    """Mailjet: takes mail and keeps silent the first time until `over`, and lists what `keeps` says."""

    def __init__(self, server: Server, stub: Stub, over: threading.Event, *, keeps: bool) -> None:
        self.stub, self.over, self.keeps = stub, over, keeps
        self.taken: list[str] = []
        self.status = 200
        stub.by_path[SEND] = self.take
        stub.by_path[LIST] = self.list
        (server.var / "mj.key").write_text("key:secret-0123456789")
        text = server.config.read_text()
        server.config.write_text(merged(text, CONFIG.format(var=server.var, port=stub.port)))

    def take(self, body: Any) -> tuple[int, dict[str, str], Any]:
        self.taken.append(body["Messages"][0]["CustomID"])
        if len(self.taken) == 1:
            self.over.wait(300)
        return 200, {}, {"Messages": [{"Status": "success", "To": [{"MessageID": 70 + len(self.taken)}]}]}

    def list(self, body: Any) -> tuple[int, dict[str, str], Any]:
        listed = [{"ID": 71, "ContactAlt": TO, "CustomID": one} for one in self.taken[:1]] if self.keeps else []
        return self.status, {}, {"Count": len(listed), "Data": listed}

    @property
    def asked(self) -> int:
        return sum(path.startswith(LIST) for path, _, _ in self.stub.requests)


@pytest.fixture
def over(stub: Stub) -> Iterator[threading.Event]:
    """Of the test, and so of the vendor's silence."""
    event = threading.Event()
    yield event
    event.set()


def merged(text: str, more: str) -> str:
    """The sandbox has a [delivery] of its own."""
    head, _, rest = more.partition("\n\n")
    if "[delivery]\n" not in text:
        return text + more
    return text.replace("[delivery]\n", head.lstrip("\n") + "\n", 1) + "\n" + rest


def send(server: Server) -> None:
    sender = server.facts["username"]
    with server.client() as client:
        client.sendmail(sender, [TO], f"From: {sender}\r\nTo: {TO}\r\nSubject: x\r\n\r\nHi\r\n")


def kinds(server: Server) -> list[str]:
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    return [line["event"] for line in lines if line.get("to") == TO and line["event"] != "queued"]


def test_what_the_provider_has_is_one_mail_and_the_event_says_how_that_was_found_out(
    server: Server, stub: Stub, over: threading.Event
) -> None:
    vendor = Vendor(server, stub, over, keeps=True)
    server.start()
    send(server)
    until(lambda: "sent" in kinds(server), server)

    assert kinds(server) == ["in_doubt", "sent"]
    assert "provider:mj was asked and has it" in server.log
    assert (len(vendor.taken), vendor.asked) == (1, 1)
    metrics = server.get("/metrics").decode()
    assert 'relay_questions_total{answer="has",transport="provider:mj"} 1.0' in metrics
    time.sleep(1)
    assert len(vendor.taken) == 1


def test_what_the_provider_has_not_is_sent_once_more(server: Server, stub: Stub, over: threading.Event) -> None:
    vendor = Vendor(server, stub, over, keeps=False)
    server.start()
    send(server)
    until(lambda: "sent" in kinds(server), server)

    assert kinds(server)[0] == "in_doubt"
    assert kinds(server)[-2:] == ["deferred", "sent"]
    assert len(vendor.taken) == 2
    assert len(set(vendor.taken)) == 1
    assert vendor.asked >= 2


def test_a_provider_that_gives_no_answer_is_asked_again_and_then_the_mail_is_held(
    server: Server, stub: Stub, over: threading.Event
) -> None:
    vendor = Vendor(server, stub, over, keeps=True)
    vendor.status = 503
    server.start()
    send(server)
    until(lambda: "held" in kinds(server), server, 90)

    assert kinds(server) == ["in_doubt"] * 4 + ["held"]
    assert (len(vendor.taken), vendor.asked) == (1, 4)


def test_a_kill_before_the_question_leads_to_the_question_after_the_restart(
    server: Server, stub: Stub, over: threading.Event
) -> None:
    vendor = Vendor(server, stub, over, keeps=True)
    server.start()
    send(server)
    until(lambda: vendor.taken != [], server)
    server.kill()
    server.start()
    until(lambda: "sent" in kinds(server), server)

    assert "spool_recovered" in server.log
    assert (len(vendor.taken), vendor.asked) == (1, 1)
