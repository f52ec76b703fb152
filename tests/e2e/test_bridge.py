"""The bridge from end to end: SMTP in, SendPost's API out, over a stub that answers as a test tells it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sandbox_server import Server, relay

KEY = "sub-account-key-0123456789"


@dataclass
class Stub:
    """Records requests; `answers` are (status, headers, body) in turn, the last one for ever."""

    answers: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    port: int = 0

    def next_answer(self) -> tuple[int, dict[str, str], Any]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stub.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            status, headers, answer = stub.next_answer()
            data = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(data)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield stub
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def bridge(server: Server, stub: Stub) -> Server:
    """A sandbox whose mail leaves through the stub; retries and pauses take a second."""
    (server.var / "sendpost.key").write_text(KEY + "\n")
    (server.var / "sendpost.key").chmod(0o600)
    server.configure("delays = [2, 5, 10, 20, 40]", "delays = [1, 1, 1]\njitter = 0")
    server.configure('retry = "sandbox"', 'retry = "sandbox"\nroute_pause = 1')
    with server.config.open("a") as config:
        config.write(
            f'\n[[route]]\nname = "bridge"\nmatch.recipient_domain = ["shop.example"]\nvia = ["provider:sendpost"]\n'
            f'[provider.sendpost]\nkind = "sendpost"\napi_key_file = "{server.var}/sendpost.key"\n'
            f'base_url = "http://127.0.0.1:{stub.port}/api/v1"\nallow_private = true\n'
        )
    server.start()
    return server


def accepted(*addresses: str) -> list[dict[str, Any]]:
    return [{"errorCode": 0, "to": address, "messageId": f"id-{address}"} for address in addresses]


def send(server: Server, *recipients: str, head: str = "To: anna@shop.example\r\n") -> None:
    sender = server.facts["username"]
    text = f"From: Shop <{sender}>\r\n{head}Subject: Hello\r\nX-Order: 7\r\n\r\nHello\r\n"
    with server.client() as client:
        client.sendmail(sender, list(recipients), text)


def states(server: Server) -> dict[str, str]:
    """The last event of each recipient, from the log."""
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    kinds = ("sent", "delivered", "deferred", "bounced", "in_doubt")
    return {line["to"]: line["event"] for line in lines if line["event"] in kinds}


def until(true: Callable[[], bool], server: Server, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, server.log[-3000:]
        time.sleep(0.05)


def test_an_envelope_recipient_the_headers_do_not_name_is_sent_as_a_blind_copy(bridge: Server, stub: Stub) -> None:
    stub.answers = [(200, {}, accepted("anna@shop.example", "berta@shop.example"))]
    send(bridge, "anna@shop.example", "berta@shop.example")
    until(lambda: states(bridge) == {"anna@shop.example": "sent", "berta@shop.example": "sent"}, bridge)
    ((path, headers, body),) = stub.requests
    assert path == "/api/v1/subaccount/email/"
    assert headers["x-subaccount-apikey"] == KEY
    assert body["from"] == {"email": bridge.facts["username"], "name": "Shop"}
    shown = json.dumps(body["to"])
    assert "anna@shop.example" in shown
    assert "berta@shop.example" in json.dumps([one.get("bcc") for one in body["to"]])
    assert body["subject"] == "Hello"
    assert body["headers"]["X-Order"] == "7"
    assert KEY not in bridge.log


def test_one_recipient_refused_in_a_200_bounces_alone(bridge: Server, stub: Stub) -> None:
    refused = {"errorCode": 1, "to": "berta@shop.example", "message": "Recipient is suppressed"}
    stub.answers = [(200, {}, [*accepted("anna@shop.example"), refused])]
    send(bridge, "anna@shop.example", "berta@shop.example", head="To: anna@shop.example, berta@shop.example\r\n")
    until(lambda: states(bridge).get("berta@shop.example") == "bounced", bridge)
    assert states(bridge)["anna@shop.example"] == "sent"
    (notice,) = bridge.arrived(bridge.facts["username"])
    assert b"Final-Recipient: rfc822; berta@shop.example" in bridge.raw(notice)


def test_a_busy_provider_is_asked_again_when_it_says(bridge: Server, stub: Stub) -> None:
    stub.answers = [
        (503, {}, {"message": "maintenance"}),
        (200, {}, accepted("anna@shop.example")),
    ]
    send(bridge, "anna@shop.example")
    until(lambda: states(bridge).get("anna@shop.example") == "sent", bridge)
    assert len(stub.requests) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_rest_the_route_and_keep_the_mail(bridge: Server, stub: Stub, status: int) -> None:
    stub.answers = [(status, {}, {"message": "no such key"})] * 6 + [(200, {}, accepted("anna@shop.example"))]
    send(bridge, "anna@shop.example")
    until(lambda: '"event":"route_paused"' in bridge.log, bridge)
    listed = json.loads(relay("--config", bridge.config, "queue", "list", "--json").stdout)["messages"]
    assert [one["state"] for one in listed[0]["recipients"]] == ["deferred"]
    assert listed[0]["recipients"][0]["attempts"] == 0, "it uses up none of the retry profile"
    until(lambda: states(bridge).get("anna@shop.example") == "sent", bridge, seconds=40)
    assert len(stub.requests) == 7, "more often than the profile has attempts, and nothing bounced"


def test_other_mail_goes_on_while_a_route_rests(bridge: Server, stub: Stub) -> None:
    stub.answers = [(401, {}, {"message": "no such key"})]
    send(bridge, "anna@shop.example", "carl@elsewhere.example")
    bridge.arrived("carl@elsewhere.example")
