"""relay reload and SIGHUP: the changed configuration takes effect, everywhere or nowhere, and no session is lost."""

from __future__ import annotations

import json
import signal
import threading
from contextlib import closing

import pytest
from sandbox_server import Server, relay
from test_signals import until

ROUTE = '\n[[route]]\nname = "kept"\nmatch = { recipient_domain = ["kept.example"] }\nvia = ["capture"]\n'


def add(server: Server, text: str) -> None:
    with server.config.open("a") as file:
        file.write(text)


def letter(sender: str, subject: str) -> str:
    return f"From: {sender}\r\nSubject: {subject}\r\n\r\nx\r\n"


def captured(server: Server) -> int:
    return len(list((server.var / "capture").rglob("*.eml")))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_changed_route_carries_the_next_message_of_an_open_session(server: Server, workers: int) -> None:
    server.configure("workers = 1", f"workers = {workers}")
    server.start()
    sender = server.facts["username"]
    with closing(server.client()) as client:
        client.sendmail(sender, ["anna@kept.example"], letter(sender, "before"))
        server.arrived("anna@kept.example")
        add(server, ROUTE)
        done = relay("--config", server.config, "reload")
        assert (done.returncode, done.stderr) == (0, "")
        assert "changed: route.kept.via\n" in done.stdout
        assert "listener" not in done.stdout
        client.sendmail(sender, ["anna@kept.example"], letter(sender, "after"))
        until(lambda: captured(server) == 1)
    assert len(server.inbox("anna@kept.example")) == 1
    assert relay("--config", server.config, "reload").stdout.startswith("no setting changed;")


def test_what_waits_is_planned_anew(running: Server) -> None:
    sender = running.facts["username"]
    with closing(running.client()) as client:
        client.sendmail(sender, ["451@kept.example"], letter(sender, "waits"))
    until(lambda: "451@kept.example" in relay("--config", running.config, "queue", "list", "--json").stdout)
    add(running, ROUTE)
    assert relay("--config", running.config, "reload").returncode == 0
    relay("--config", running.config, "queue", "retry", "--all")
    until(lambda: captured(running) == 1)


def test_a_broken_file_changes_nothing(server: Server) -> None:
    server.configure("workers = 1", "workers = 2")
    server.start()
    add(server, '\n[[route]]\nname = "broken"\nvia = ["smarthost:nobody"]\n')
    done = relay("--config", server.config, "reload")
    assert done.returncode == 2
    assert "there is no [smarthost.nobody]; add it" in done.stderr
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    until(lambda: "nothing has changed" in server.log)
    sender = server.facts["username"]
    with closing(server.client()) as client:
        client.sendmail(sender, ["anna@shop.example"], letter(sender, "still there"))
    server.arrived("anna@shop.example")


def test_a_secret_that_cannot_be_read_changes_nothing(running: Server) -> None:
    add(running, '\n[smarthost.one]\nhost = "one.example"\nusername = "u"\npassword_file = "/nowhere/password"\n')
    done = relay("--config", running.config, "reload")
    assert done.returncode == 2
    assert "/nowhere/password: cannot read the password" in done.stderr


def test_what_needs_a_restart_is_named_and_the_rest_takes_effect(running: Server) -> None:
    running.configure("workers = 1", "workers = 3")
    add(running, "\n[limits]\nrecipients = 1\n")
    done = relay("--config", running.config, "reload")
    assert done.returncode == 0
    assert done.stdout == "changed: limits.recipients\n"
    assert done.stderr == "needs a restart: server.workers\n"
    sender = running.facts["username"]
    with closing(running.client()) as client:
        client.mail(sender)
        assert [client.rcpt(f"{name}@shop.example")[0] for name in ("anna", "bob")] == [250, 452]


def test_reload_says_that_the_server_does_not_run(server: Server) -> None:
    done = relay("--config", server.config, "reload")
    assert done.returncode == 2
    assert "the server does not run; start it with `relay serve`" in done.stderr


def test_no_message_is_lost_or_doubled_by_reloads_under_traffic(server: Server) -> None:
    server.configure("workers = 1", "workers = 2")
    server.start()
    sender, ended = server.facts["username"], threading.Event()
    sent: list[int] = []

    def send() -> None:
        with closing(server.client()) as client:
            while not ended.is_set():
                client.sendmail(sender, ["anna@shop.example"], letter(sender, f"n{len(sent)}"))
                sent.append(1)
                ended.wait(0.01)

    thread = threading.Thread(target=send)
    thread.start()
    for number in range(1, 6):
        text = server.config.read_text().partition("\n[[limit]]")[0]
        server.config.write_text(text + f'\n[[limit]]\nname = "n"\nrate = "{900 + number}/second"\nburst = 500\n')
        done = relay("--config", server.config, "reload")
        assert done.stdout == ("changed: limit.n.rate\n" if number > 1 else done.stdout), done.stderr
    ended.set()
    thread.join(60)
    arrived = server.arrived("anna@shop.example", len(sent))
    assert len(arrived) == len(sent)
    until(lambda: json.loads(relay("--config", server.config, "queue", "list", "--json").stdout)["messages"] == [])
