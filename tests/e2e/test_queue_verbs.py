"""`relay queue` against a running server: what waits is shown, tried again, or given up and never delivered."""

from __future__ import annotations

import datetime
import json
import stat
import time
from typing import Any

from http_stub import states, until
from sandbox_server import Server, relay
from test_sandbox import send

from relay.cli.control import request
from relay.settings import load_settings


def queue(server: Server, *arguments: str) -> tuple[int, Any]:
    """Exit code and JSON of a verb."""
    done = relay("--config", server.config, "queue", *arguments, "--json")
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def dead(server: Server, *arguments: str) -> tuple[int, Any]:
    done = relay("--config", server.config, "dead", *arguments, *(() if "export" in arguments else ("--json",)))
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def act(server: Server, *arguments: str) -> tuple[int, int]:
    """Exit code and how many recipients a verb touched."""
    code, answer = queue(server, *arguments)
    return code, answer["recipients"]


def waiting(server: Server) -> str:
    """The id of the one message that waits, once its recipient was put off."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        messages = queue(server, "list")[1]["messages"]
        if [one["recipients"][0]["state"] for one in messages] == ["deferred"]:
            return str(messages[0]["id"])
        time.sleep(0.1)
    raise AssertionError(f"nothing was put off:\n{server.log[-3000:]}")


def events(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]


def instant(line: dict[str, Any]) -> datetime.datetime:
    return datetime.datetime.fromisoformat(line["time"])


def test_a_message_sent_ahead_waits_and_goes_when_it_is_due_or_the_operator_says(server: Server) -> None:
    server.start()
    with server.client() as client:
        sender, body = server.facts["username"], f"From: {server.facts['username']}\r\nSubject: later\r\n\r\nx\r\n"
        client.sendmail(sender, ["soon@shop.example"], body, ["HOLDFOR=3"])
        client.sendmail(sender, ["hour@shop.example"], body, ["HOLDFOR=3600"])
    until(lambda: server.log.count('"event":"queued"') == 2, server)
    (soon, hour) = (line for line in events(server) if line["event"] == "queued")
    server.arrived("soon@shop.example")
    until(lambda: "soon@shop.example" in states(server), server)
    (delivered,) = (line for line in events(server) if line["event"] == "delivered")
    assert delivered["id"] == soon["id"]
    assert instant(delivered) - instant(soon) >= datetime.timedelta(seconds=2.9)
    assert not server.inbox("hour@shop.example")
    (left,) = queue(server, "list")[1]["messages"]
    assert (left["id"], left["recipients"][0]["state"]) == (hour["id"], "queued")
    assert act(server, "retry", left["id"]) == (0, 1)
    server.arrived("hour@shop.example")


def test_the_operator_retries_and_cancels_what_waits(server: Server) -> None:
    server.configure("delays = [2, 5, 10, 20, 40]", "delays = [600, 600]")
    server.start()
    send(server, "greylist@shop.example")
    assert act(server, "retry", waiting(server)) == (0, 1)
    server.arrived("greylist@shop.example")

    send(server, "451@shop.example")
    message_id = waiting(server)
    status, answer = request(load_settings(server.config), "GET", "/admin/status", worker=0)
    assert (status, answer["sessions"], answer["paused"]) == (200, 0, {})
    assert act(server, "cancel", message_id) == (0, 1)
    assert act(server, "cancel", message_id) == (1, 0)
    assert act(server, "retry", message_id) == (1, 0)
    shown = queue(server, "show", message_id)[1]
    assert [recipient["state"] for recipient in shown["recipients"]] == ["cancelled"]
    assert [event["kind"] for event in shown["events"]][-1] == "cancelled"
    lines = [json.loads(line) for line in server.log.splitlines() if '"cancelled"' in line]
    assert [(line["id"], line["to"]) for line in lines] == [(message_id, "451@shop.example")]

    assert server.stop() == 0
    code, words = queue(server, "retry", message_id)
    assert code == 2
    assert "the server does not run" in words


def test_the_operator_expires_and_reroutes_what_waits_and_uses_a_resting_route_again(server: Server) -> None:
    server.configure("delays = [2, 5, 10, 20, 40]", "delays = [600, 600]")
    server.start()
    send(server, "451@shop.example")
    message_id = waiting(server)
    code, words = queue(server, "reroute", message_id, "--via", "smarthost:nobody")
    assert code == 2
    assert "via: there is no way out called 'smarthost:nobody'; configured: capture, direct" in words
    assert queue(server, "reroute", message_id)[0] == 2

    assert act(server, "hold", message_id) == (0, 1)
    assert act(server, "reroute", message_id, "--via", "capture") == (0, 1)
    server.kill()
    server.start()
    (explained,) = queue(server, "explain", message_id)[1]["recipients"]
    assert explained["via"] == "capture"
    assert "goes by capture only" in explained["now"]
    assert "via capture" in relay("--config", server.config, "queue", "show", message_id).stdout
    assert act(server, "reroute", message_id, "--reset") == (0, 1)
    assert act(server, "reroute", "--domain", "shop.example", "--via", "capture") == (0, 1)
    assert act(server, "release", message_id) == (0, 1)
    end = time.monotonic() + 60
    while queue(server, "show", message_id)[1]["recipients"][0]["state"] != "sent":
        assert time.monotonic() < end, server.log[-3000:]
        time.sleep(0.1)

    send(server, "451@shop.example")
    message_id = waiting(server)
    assert act(server, "expire", "--domain", "shop.example", "--dry-run") == (0, 1)
    assert act(server, "expire", "--domain", "shop.example") == (0, 1)
    assert queue(server, "show", message_id)[1]["recipients"][0]["state"] == "expired"
    (notice,) = server.arrived(server.facts["username"])
    assert b"Status: 5.4.7" in server.raw(notice)

    listed = relay("--config", server.config, "route", "list", "--json")
    (spool,) = json.loads(listed.stdout)["spools"]
    assert [one["rests"] for one in spool["candidates"]] == [None, None]
    resumed = relay("--config", server.config, "route", "resume", "direct")
    assert (resumed.returncode, resumed.stderr) == (1, "0 used again\n")


def test_what_bounced_is_listed_exported_and_sent_again_once_to_another_address(server: Server) -> None:
    server.start()
    send(server, "550@shop.example")
    end = time.monotonic() + 60
    while not (found := dead(server, "list")[1]["letters"]):
        assert time.monotonic() < end, server.log[-3000:]
        time.sleep(0.1)
    (letter,) = found
    assert letter["recipients"][0]["address"] == "550@shop.example"
    assert dead(server, "show", letter["id"])[1]["reasons"][0]["reply"].startswith("550 ")

    folder = server.var / "letters"
    command = ("--config", server.config, "dead", "export", "--to", folder, "--domain", "shop.example")
    assert relay(*command).returncode == 0
    exported = {path.suffix: path for path in folder.iterdir()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in exported.values()} == {0o600}
    assert json.loads(exported[".json"].read_text())["to"] == ["550@shop.example"]
    assert b"Subject:" in exported[".eml"].read_bytes()
    again = relay(*command)
    assert again.returncode == 2
    assert "is there already; name another folder" in again.stderr

    assert dead(server, "reinject", letter["id"], "--to", "nobody")[0] == 2
    assert dead(server, "reinject", letter["id"], "--dry-run")[0] == 0
    code, answer = dead(server, "reinject", "--domain", "shop.example", "--to", "ok@shop.example")
    assert code == 0
    (one,) = answer["letters"]
    (arrived,) = server.arrived("ok@shop.example")
    assert f"(Sendrelay, {letter['id']} again)".encode() in server.raw(arrived)
    code, answer = dead(server, "reinject", letter["id"])
    assert (code, answer["letters"][0]["earlier"], answer["letters"][0]["new"]) == (1, one["new"], None)
    (line,) = [json.loads(line) for line in server.log.splitlines() if '"reinjected"' in line]
    assert (line["id"], line["after"]) == (one["new"], letter["id"])
    explained = queue(server, "explain", one["new"])[1]["record"][0]["what"]
    assert explained.endswith(f"again, after {letter['id']}")
    assert dead(server, "export", "--to", str(folder))[0] == 2
    assert dead(server, "show", "0" * 16)[0] == 1
