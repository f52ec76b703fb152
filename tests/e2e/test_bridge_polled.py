"""Where mail is not told of, it is asked for: joined to messages, once, from a place that outlives a crash."""

from __future__ import annotations

import base64
from typing import Any

from http_stub import Stub, states, until
from sandbox_server import Server

CONFIG = """
[[route]]
name = "bridge"
match.recipient_domain = ["shop.example"]
via = ["provider:mg"]

[provider.mg]
kind = "mailgun"
api_key_file = "{var}/mg.key"
base_url = "http://127.0.0.1:{port}/v3"
allow_private = true
poll = "10s"

[provider.mg.options]
domain = "mg.example.org"
"""
EVENTS = "/v3/mg.example.org/events"


class Vendor:
    """Mailgun, as far as it takes mail and lists events; `pages` by their word."""

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self.taken: list[str] = []
        self.pages: dict[str, list[dict[str, Any]]] = {"": []}
        stub.by_path["/v3/mg.example.org/messages.mime"] = self.take
        self.offer("", [])

    def take(self, body: bytes) -> tuple[int, dict[str, str], Any]:
        self.taken.append(f"<m-{len(self.taken)}@mg.example.org>")
        return 200, {}, {"id": self.taken[-1]}

    def offer(self, word: str, items: list[dict[str, Any]], further: str = "") -> None:
        answer = {"items": items, "paging": {"next": f"https://api.mailgun.net/v3/mg.example.org/events/{further}"}}
        self.stub.by_path[f"{EVENTS}/{word}".rstrip("/")] = lambda body: (200, {}, answer)

    def asked(self) -> list[str]:
        return [path for path, _, _ in self.stub.requests if path.startswith(EVENTS)]


def event(number: int, word: str, address: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"e-{number}", "event": word, "recipient": address, "timestamp": 1795600000.0 + number,
        "message": {"headers": {"message-id": f"m-{number}@mg.example.org"}}, **more,
    }  # fmt: skip


def test_news_is_asked_for_and_counts_once_also_after_a_crash(server: Server, stub: Stub) -> None:
    """In whichever of two workers; a bounce comes back as a notice, once."""
    (server.var / "mg.key").write_text("key-0123456789")
    server.configure("workers = 1", "workers = 2")
    with server.config.open("a") as config:
        config.write(CONFIG.format(var=server.var, port=stub.port))
    vendor = Vendor(stub)
    server.start()
    sender = server.facts["username"]
    names = [f"r{number}@shop.example" for number in range(6)]
    for name in names:
        with server.client() as client:
            client.sendmail(sender, [name], f"From: {sender}\r\nTo: {name}\r\nSubject: x\r\n\r\nHi\r\n")
        until(lambda name=name: states(server).get(name) == "sent", server)  # type: ignore[misc] # bound per turn
    delivered = [event(number, "delivered", name) for number, name in enumerate(names[:5])]
    failed = event(
        5, "failed", names[5], severity="permanent", **{"delivery-status": {"code": 550, "message": "5.1.1"}}
    )
    vendor.offer("second", [failed, event(77, "delivered", "nobody@shop.example")], "third")
    vendor.offer("third", [])
    vendor.offer("", delivered, "second")

    wanted = {**dict.fromkeys(names[:5], "delivered"), names[5]: "bounced"}
    until(lambda: states(server).items() >= wanted.items(), server, 90)
    until(lambda: any(path.endswith("/third") for path in vendor.asked()), server)
    [notice] = server.arrived(sender)
    assert b"Action: failed" in server.raw(notice)
    first = next(headers for path, headers, _ in stub.requests if path.startswith(EVENTS))
    assert first["authorization"] == "Basic " + base64.b64encode(b"api:key-0123456789").decode()

    until(lambda: bool((server.var / "polls" / "mg").exists()), server)
    server.kill()
    asked = len(vendor.asked())
    server.start()
    until(lambda: len(vendor.asked()) >= asked + 3, server, 90)
    assert server.log.count('"event":"bounced"') == 1
    assert len(server.inbox(sender)) == 1
    assert "poll_failed" not in server.log
