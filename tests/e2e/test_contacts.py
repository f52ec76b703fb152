"""Contacts follow the mail: a platform that is down, a server that is killed, an erasure, with a real server."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from platform_stub import KEYS, Platform, platform
from sandbox_server import Server, relay

from relay.store import contacts as outbox
from relay.store.spool import open_read_only

CONFIG = """
[retry.quick]
delays = [1, 1, 1, 1]

[contacts.crm]
kind = "{kind}"
api_key_file = "{var}/crm.key"
base_url = "{url}"
allow_private = true
rate = "200/second"
retry = "quick"
timeout = 5
options = {options}
"""
OPTIONS = {
    "sendx": '{ tags = ["customer"] }',
    "sendlio": '{ unsubscribe = "property" }',
    "sendios": "{ client_id = 7, project_id = 42 }",
}
IN_TIME = 90.0


@pytest.fixture
def crm() -> Iterator[Platform]:
    with platform() as found:
        yield found


def configure(server: Server, crm: Platform, kind: str = "sendx", more: str = "") -> None:
    key = server.var / "crm.key"
    key.write_text(KEYS[kind] + "\n")
    text = CONFIG.format(kind=kind, var=server.var, url=crm.url(kind), options=OPTIONS[kind])
    server.config.write_text(server.config.read_text() + text + more)


def send(server: Server, *recipients: str) -> None:
    sender = server.facts["username"]
    with server.client() as client:
        client.sendmail(sender, list(recipients), f"From: {sender}\r\nSubject: hi\r\n\r\nhello\r\n")


def until(true: Callable[[], Any], server: Server) -> None:
    end = time.monotonic() + IN_TIME
    while not true():
        assert time.monotonic() < end, server.log[-4000:]
        time.sleep(0.05)


def status(server: Server) -> dict[str, Any]:
    done = relay("--config", server.config, "contacts", "status", "--json")
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def waiting(server: Server) -> int:
    """Read beside the server, as the command does, but many times a second."""
    found = 0
    for path in (server.var / "spool").glob("*.db"):
        reader = open_read_only(path)
        found += sum(one["waiting"] for one in outbox.summary(reader))
        reader.close()
    return found


@pytest.mark.parametrize("kind", ["sendx", "sendlio", "sendios"])
def test_a_platform_hears_of_who_got_mail_and_of_who_did_not(server: Server, crm: Platform, kind: str) -> None:
    configure(server, crm, kind)
    server.start()

    send(server, "ann@shop.example", "550@shop.example")
    until(lambda: {"ann@shop.example", "550@shop.example"} <= set(crm.people) and not waiting(server), server)

    assert set(crm.people["ann@shop.example"]["fields"]) == {"relay_delivered_at"}
    assert set(crm.people["550@shop.example"]["fields"]) == {"relay_bounced_at"}
    # The notice that went back to the sender made no contact of it.
    server.arrived(server.facts["username"])
    time.sleep(1.5)
    assert set(crm.people) == {"ann@shop.example", "550@shop.example"}
    assert KEYS[kind].partition(":")[0] not in server.log


def test_what_a_platform_misses_while_it_is_down_and_the_server_is_killed_comes_once(
    server: Server, crm: Platform
) -> None:
    configure(server, crm)
    server.configure("[retry.quick]", "[retry.quick]\njitter = 0.0")
    crm.down()
    server.start()
    people = [f"p{number}@shop.example" for number in range(30)]

    for person in people[:20]:
        send(server, person)
    until(lambda: waiting(server) == 20, server)
    server.kill()
    server.start()
    for person in (*people[20:], *people[:5]):
        send(server, person)
    until(lambda: waiting(server) == 30, server)
    assert crm.calls == []
    crm.up()
    until(lambda: not waiting(server), server)

    told = Counter(body["email"] for _, path, body in crm.calls if path.endswith("/identify"))
    assert told == Counter(people)
    assert "contacts_paused" in server.log
    assert "Traceback" not in server.log


def test_a_kill_between_the_call_and_its_answer_loses_nothing_and_repeats_no_harm(
    server: Server, crm: Platform
) -> None:
    configure(server, crm, "sendlio")
    crm.silent = threading.Event()
    server.start()
    send(server, "ann@shop.example", "bob@shop.example")
    until(lambda: len(crm.calls) >= 1, server)

    server.kill()
    crm.silent.set()
    server.start()
    until(lambda: not waiting(server) and len(crm.people) == 2, server)

    assert sorted(crm.people) == ["ann@shop.example", "bob@shop.example"]


def test_several_workers_make_no_member_twice(server: Server, crm: Platform) -> None:
    configure(server, crm, "sendlio")
    server.configure("workers = 1", "workers = 2")
    server.start()

    for _ in range(12):
        send(server, "ann@shop.example", "bob@shop.example")
    until(lambda: not waiting(server) and len(crm.people) == 2, server)

    assert sorted(crm.people) == ["ann@shop.example", "bob@shop.example"]


def test_an_erased_person_is_gone_there_and_here(server: Server, crm: Platform) -> None:
    configure(server, crm)
    server.start()
    send(server, "ann@shop.example", "bob@shop.example")
    until(lambda: len(crm.people) == 2 and not waiting(server), server)
    crm.unwell = (503, {})
    send(server, "ann@shop.example")
    until(lambda: waiting(server) == 1, server)

    done = relay("--config", server.config, "contacts", "erase", "ann@shop.example")
    assert done.returncode == 0, done.stderr
    assert status(server)["contacts"][0]["erasures"] == 1
    crm.unwell = None
    until(lambda: not waiting(server), server)

    assert set(crm.people) == {"bob@shop.example"}


def test_a_contact_that_is_refused_is_given_up_with_the_reason_and_tried_again_when_asked(
    server: Server, crm: Platform
) -> None:
    configure(server, crm)
    crm.unwell = (422, {"status": "error", "message": "email is on the block list"})
    server.start()
    send(server, "ann@shop.example")
    until(lambda: crm.refused and not waiting(server), server)

    shown = relay("--config", server.config, "contacts", "status")
    assert shown.returncode == 1
    assert (
        "given up: crm  ann@shop.example  550 5.6.0 SendX answered HTTP 422: email is on the block list" in shown.stdout
    )
    crm.unwell = None
    assert relay("--config", server.config, "contacts", "retry", "crm").stdout == "1 contacts due now\n"
    until(lambda: set(crm.people) == {"ann@shop.example"} and not waiting(server), server)
    assert b'relay_contacts_total{contacts="crm",result="told"} 1.0' in server.get("/metrics")


def test_the_operator_ends_a_pause_and_a_reload_the_gauge_of_it(server: Server, crm: Platform) -> None:
    configure(server, crm)
    crm.unwell = (503, {"status": "error"})
    server.configure("delays = [1, 1, 1, 1]", "delays = [800]")
    server.start()
    send(server, "ann@shop.example")
    until(lambda: b'relay_contacts_paused{contacts="crm"} 1.0' in server.get("/metrics"), server)

    crm.unwell = None
    assert relay("--config", server.config, "contacts", "retry", "crm").stdout == "1 contacts due now\n"
    until(lambda: "ann@shop.example" in crm.people and not waiting(server), server)
    until(lambda: b'relay_contacts_paused{contacts="crm"} 0.0' in server.get("/metrics"), server)

    crm.unwell = (503, {"status": "error"})
    send(server, "bob@shop.example")
    until(lambda: b'relay_contacts_paused{contacts="crm"} 1.0' in server.get("/metrics"), server)
    text = server.config.read_text()
    server.config.write_text(text[: text.index("[contacts.crm]")])
    assert relay("--config", server.config, "reload").returncode == 0
    until(lambda: b'relay_contacts_paused{contacts="crm"} 0.0' in server.get("/metrics"), server)
    assert b'relay_contacts_waiting{contacts="crm"} 0.0' in server.get("/metrics")


def test_a_reload_begins_and_ends_it(server: Server, crm: Platform) -> None:
    server.start()
    send(server, "before@shop.example")
    server.arrived("before@shop.example")
    text = server.config.read_text()
    configure(server, crm)
    assert relay("--config", server.config, "reload").returncode == 0
    send(server, "during@shop.example")
    until(lambda: "during@shop.example" in crm.people, server)
    server.config.write_text(text)
    assert relay("--config", server.config, "reload").returncode == 0
    send(server, "after@shop.example")
    server.arrived("after@shop.example")
    time.sleep(1.2)

    assert set(crm.people) == {"during@shop.example"}
    assert status(server)["contacts"] == []
