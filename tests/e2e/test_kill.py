"""SIGKILL under load: what was answered 250 arrives, whatever moment the process dies at."""

from __future__ import annotations

import contextlib
import os
import random
import smtplib
import threading
import time

from sandbox_server import Server

KILLS = int(os.environ.get("RELAY_TEST_KILLS", "8"))


class Load(threading.Thread):
    """One client that sends numbered messages over new and kept connections and notes those answered 250."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.server = server
        self.acknowledged: list[str] = []
        self.ending = False
        self._sent = 0

    def run(self) -> None:
        while not self.ending:
            with contextlib.suppress(OSError, smtplib.SMTPException), self.server.client() as client:
                self._send_many(client)
            time.sleep(0.01)

    def _send_many(self, client: smtplib.SMTP) -> None:
        sender = self.server.facts["username"]
        for _ in range(25):
            if self.ending:
                return
            recipient = f"{self.name}-{self._sent}@load.example"
            self._sent += 1
            lines = 2000 if self._sent % 10 == 0 else 50  # every tenth body is a file of its own
            body = ("x" * 70 + "\r\n") * lines
            client.sendmail(sender, [recipient], f"From: {sender}\r\nSubject: load\r\n\r\n{body}")
            self.acknowledged.append(recipient)


def test_every_acknowledged_message_arrives_over_many_kills(server: Server) -> None:
    dice = random.Random(7)
    server.start()
    loads = [Load(server, f"client{number}") for number in range(4)]
    for load in loads:
        load.start()
    for _ in range(KILLS):
        _until_busy(loads, 15)
        time.sleep(dice.uniform(0.0, 0.3))
        server.kill()
        server.start()
    _until_busy(loads, 15)
    for load in loads:
        load.ending = True
    for load in loads:
        load.join(120)
    acknowledged = {address for load in loads for address in load.acknowledged}
    assert len(acknowledged) >= 15 * KILLS
    missing = _until_arrived(server, acknowledged)
    assert not missing, (
        f"{len(missing)} of {len(acknowledged)} acknowledged messages never arrived: {sorted(missing)[:5]}"
    )


def _until_busy(loads: list[Load], more: int) -> None:
    """Wait until so many more messages have been acknowledged: a kill is to hit a server at work."""
    target = sum(len(load.acknowledged) for load in loads) + more
    end = time.monotonic() + 120
    while sum(len(load.acknowledged) for load in loads) < target:
        assert time.monotonic() < end, "the server takes no mail"
        time.sleep(0.02)


def _until_arrived(server: Server, wanted: set[str], seconds: float = 180) -> set[str]:
    end = time.monotonic() + seconds
    while True:
        missing = wanted - {address for entry in server.inbox(limit=1_000_000) for address in entry["rcpt_to"]}
        if not missing or time.monotonic() > end:
            return missing
        time.sleep(0.5)
