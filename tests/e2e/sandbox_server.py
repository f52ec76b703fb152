"""A relay of one's own: started as a user starts it, on ports nobody uses, in a folder of the test."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

RELAY = [sys.executable, "-m", "relay"]
_PORTS = (1025, 1587, 2525, 1465, 8025)


def relay(*arguments: str | Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run one verb to its end."""
    command = [*RELAY, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def free_offset() -> int:
    """A port offset at which all ports of the sandbox are free."""
    for offset in range(12_000 + os.getpid() % 400 * 100, 56_000, 100):
        if all(_free(port + offset) for port in _PORTS):
            return offset
    raise RuntimeError("no free ports")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Server:
    """`relay serve` in the sandbox profile over one folder; may be started and killed many times."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self.config = var / "relay.toml"
        self.offset = free_offset()
        self.process: subprocess.Popen[bytes] | None = None
        done = relay("init", "--sandbox", "--var", var, "--port-offset", str(self.offset))
        assert done.returncode == 0, done.stderr

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.var / "sandbox.json").read_text())
        return facts

    @property
    def log(self) -> str:
        return (self.var / "server.log").read_text(errors="replace")

    def configure(self, old: str, new: str) -> None:
        """Replace a piece of relay.toml."""
        text = self.config.read_text()
        assert old in text, f"{old!r} is not in {self.config}"
        self.config.write_text(text.replace(old, new))

    def start(self, wait: bool = True) -> None:
        command = [*RELAY, "--config", str(self.config), "serve", "--port-offset", str(self.offset)]
        with (self.var / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            self.until_ready()

    def until_ready(self, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process is not None
            assert self.process.poll() is None, self.log
            try:
                self.get("/readyz")
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"not ready after {seconds} s:\n{self.log}")

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{8025 + self.offset}{path}", timeout=40) as answer:
            body: bytes = answer.read()
        return body

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        self.process = None

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.process = None
        return code

    def client(self, port: int = 1587) -> smtplib.SMTP:
        """A logged-in client over TLS."""
        facts, name = self.facts, "client.example"
        context = ssl.create_default_context(cafile=facts["ca_file"])
        client: smtplib.SMTP
        if port == 1465:
            client = smtplib.SMTP_SSL("127.0.0.1", port + self.offset, name, context=context, timeout=30)
        else:
            client = smtplib.SMTP("127.0.0.1", port + self.offset, name, timeout=30)
            client.starttls(context=context)
        client.login(facts["username"], facts["password"])
        return client

    def inbox(self, to: str = "", limit: int = 1000) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = json.loads(self.get(f"/sandbox/inbox?to={to}&limit={limit}"))["messages"]
        return messages

    def arrived(self, to: str, count: int = 1, seconds: float = 30) -> list[dict[str, Any]]:
        """Wait until `count` messages for `to` are in the inbox."""
        end = time.monotonic() + seconds
        while True:
            messages = self.inbox(to)
            if len(messages) >= count:
                return messages
            assert time.monotonic() < end, f"{len(messages)} of {count} arrived:\n{self.log[-3000:]}"
            time.sleep(0.05)

    def raw(self, entry: dict[str, Any]) -> bytes:
        return self.get(f"/sandbox/inbox/{entry['id']}/raw")
