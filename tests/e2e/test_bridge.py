"""The bridge from end to end: SMTP in, SendPost's API out, over a stub that answers as a test tells it."""

from __future__ import annotations

import functools
import json
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from http_stub import Stub, states, until
from sandbox_server import Server, relay

KEY = "sub-account-key-0123456789"


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
    stub.answers = [(status, {}, {"message": "no such key"})]
    send(bridge, "anna@shop.example")
    until(lambda: '"event":"route_paused"' in bridge.log, bridge)
    listed = json.loads(relay("--config", bridge.config, "queue", "list", "--json").stdout)["messages"]
    assert [one["state"] for one in listed[0]["recipients"]] == ["deferred"]
    assert listed[0]["recipients"][0]["attempts"] == 0, "it uses up none of the retry profile"
    until(lambda: len(stub.requests) > 6, bridge, seconds=90)  # more often than the profile has attempts
    stub.answers = [(200, {}, accepted("anna@shop.example"))]
    until(lambda: states(bridge).get("anna@shop.example") == "sent", bridge, seconds=90)
    assert '"event":"bounced"' not in bridge.log


def test_other_mail_goes_on_while_a_route_rests(bridge: Server, stub: Stub) -> None:
    stub.answers = [(401, {}, {"message": "no such key"})]
    send(bridge, "anna@shop.example", "carl@elsewhere.example")
    bridge.arrived("carl@elsewhere.example")


# --- what the vendor tells later -----------------------------------------------------------------------------

TOKEN = "3b1d6a0c9f8e4d7b2a5c"


def call_back(server: Server, body: Any, token: str = TOKEN) -> int:
    data = json.dumps(body).encode()
    url = f"http://127.0.0.1:{8025 + server.offset}/hooks/sendpost/{token}"
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return int(error.code)


def said(kind: int, address: str, name: str) -> dict[str, Any]:
    data = {"smtpCode": 550 if kind == 4 else 250, "smtpDescription": "5.1.1 no such user" if kind == 4 else "ok"}
    event = {"eventId": name, "messageId": f"id-{address}", "type": kind, "to": address, "eventMetadata": data}
    return {"event": event}


def start_with_hooks(server: Server, stub: Stub, workers: int) -> None:
    (server.var / "hook.token").write_text(TOKEN)
    server.configure("workers = 1", f"workers = {workers}")
    server.configure("[sandbox]", '[log]\nlevel = "debug"\n\n[sandbox]')
    (server.var / "sendpost.key").write_text(KEY)
    with server.config.open("a") as config:
        config.write(
            f'\n[[route]]\nname = "bridge"\nmatch.recipient_domain = ["shop.example"]\nvia = ["provider:sendpost"]\n'
            f'[provider.sendpost]\nkind = "sendpost"\napi_key_file = "{server.var}/sendpost.key"\n'
            f'base_url = "http://127.0.0.1:{stub.port}/api/v1"\nallow_private = true\n'
            f'hook_token_file = "{server.var}/hook.token"\n'
        )
    server.start()


def test_callbacks_that_come_before_the_answer_find_their_messages(server: Server, stub: Stub) -> None:
    """The vendor tells of the delivery while its answer to the call is on the way, to whichever of two workers."""
    start_with_hooks(server, stub, workers=2)
    names = [f"early{number}@shop.example" for number in range(6)]
    calls: list[threading.Thread] = []
    answers: list[int] = []

    def tell_first(body: Any) -> tuple[int, dict[str, str], Any]:
        address = body["to"][0]["email"]
        event = said(2, address, f"d-{address}")
        calls.append(threading.Thread(target=lambda: answers.append(call_back(server, event))))
        calls[-1].start()
        time.sleep(0.4)
        return 200, {}, accepted(address)

    stub.by_path["/api/v1/subaccount/email/"] = tell_first
    for name in names:
        send(server, name, head=f"To: {name}\r\n")
    until(lambda: states(server) == dict.fromkeys(names, "delivered"), server)
    for call in calls:
        call.join()
    assert answers == [200] * len(names)


def test_a_callback_finds_its_message_in_whichever_worker_and_a_bounce_comes_back_as_a_notice(
    server: Server, stub: Stub
) -> None:
    start_with_hooks(server, stub, workers=3)
    names = [f"r{n}@shop.example" for n in range(6)]
    stub.answers = [(200, {}, accepted(*names))]
    for name in names:
        send(server, name, head=f"To: {name}\r\n")
    until(lambda: states(server) == dict.fromkeys(names, "sent"), server)

    assert call_back(server, said(2, names[0], "e"), token="wrong-wrong-wrong-wrong") == 404
    assert states(server)[names[0]] == "sent"
    assert [call_back(server, said(2, name, f"d-{name}")) for name in names[:5]] == [200] * 5
    assert call_back(server, said(4, names[5], "b")) == 200
    assert call_back(server, said(4, names[5], "b")) == 200
    assert call_back(server, said(2, "nobody@shop.example", "n")) == 200
    assert call_back(server, "no event") == 400
    wanted = {**dict.fromkeys(names[:5], "delivered"), names[5]: "bounced"}
    until(lambda: states(server).items() >= wanted.items(), server)
    sender = server.facts["username"]
    [notice] = server.arrived(sender)
    content = server.raw(notice)
    assert b"Action: failed" in content
    assert f"Final-Recipient: rfc822; {names[5]}".encode() in content
    assert b"550 5.0.0 Reported later: 550 5.1.1 no such user" in content
    assert len(server.inbox(sender)) == 1
    assert b'relay_provider_events_total{kind="delivered"} 5.0' in server.get("/metrics")
    assert TOKEN not in server.log


def test_who_bounced_or_complained_is_not_written_to_again(server: Server, stub: Stub) -> None:
    """On the account's list in every worker, refused at RCPT, and off it when the operator says so."""
    with server.config.open("a") as config:
        config.write('\n[account.default]\nsuppress = "all"\n')
    start_with_hooks(server, stub, workers=2)
    gone, angry, fine = (f"{name}@shop.example" for name in ("gone", "angry", "fine"))
    stub.answers = [(200, {}, accepted(gone, angry, fine))]
    for name in (gone, angry, fine):
        send(server, name, head=f"To: {name}\r\n")
    until(lambda: states(server) == dict.fromkeys((gone, angry, fine), "sent"), server)
    assert [call_back(server, said(*each)) for each in ((4, gone, "b"), (8, angry, "c"), (2, fine, "d"))] == [200] * 3

    for _ in range(4):
        with server.client() as client:
            client.mail(server.facts["username"])
            assert client.rcpt(gone) == (550, b"5.1.1 Suppressed: mail to this address bounced: 550 5.1.1 no such user")
            assert client.rcpt(angry.upper()) == (550, b"5.7.1 Suppressed: its owner called mail spam")
            assert client.rcpt(fine)[0] == 250
    assert b'relay_suppressed_total{reason="bounce"} 4.0' in server.get("/metrics")

    account = ("--account", "default")
    run = functools.partial(relay, "--config", server.config, "suppression")
    listed = json.loads(run("list", *account, "--json").stdout)
    assert [(one["address"], one["reason"]) for one in listed] == [(angry, "complaint"), (gone, "bounce")]
    exported = run("export", *account).stdout
    assert run("remove", *account, gone, angry).returncode == 0
    assert run("remove", *account, gone).returncode == 1
    (server.var / "list.csv").write_text(exported)
    with server.client() as client:
        client.mail(server.facts["username"])
        assert client.rcpt(gone)[0] == 250
        assert run("import", server.var / "list.csv").returncode == 0
        assert client.rcpt(gone)[0] == 550
        assert run("add", *account, fine, "--note", "asked by phone").returncode == 0
        assert client.rcpt(fine) == (550, b"5.7.1 Suppressed: the operator put it on the list")
    again = json.loads(run("list", *account, "--json").stdout)
    assert [(one["address"], one["reason"]) for one in again] == [
        (angry, "complaint"), (fine, "manual"), (gone, "bounce"),
    ]  # fmt: skip
    (server.var / "bad.csv").write_text("address,reason\nx@y.example,whim\n")
    assert run("import", server.var / "bad.csv").returncode == 2
