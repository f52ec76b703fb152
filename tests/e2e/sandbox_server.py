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
_OFFSETS = range(10_000, 24_600, 100)


def relay(*arguments: str | Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run one verb to its end."""
    command = [*RELAY, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def free_offset(besides: int = 0) -> int:
    """A port offset at which all ports of the sandbox are free, and below those that outgoing connections take.

    Tests that run at once (pytest-xdist) choose among different ones, of which no two share a port: what is free now
    is not bound yet, and a server that was killed wants its own again.
    """
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ours = range(_OFFSETS.start + process, _OFFSETS.stop, _OFFSETS.step)
    first = os.getpid() % len(ours)
    for offset in (*ours[first:], *ours[:first]):
        if offset != besides and all(_free(port + offset) for port in _PORTS):
            return offset
    raise RuntimeError("no free ports")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _lives(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # of one that only waits to be reaped it is empty
    except FileNotFoundError:
        return False


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

    def start(self, wait: bool = True, shifted: bool = True) -> None:
        """`shifted`: told to be."""
        shift = ["--port-offset", str(self.offset)] if shifted else []
        command = [*RELAY, "--config", str(self.config), "serve", *shift]
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
        """SIGKILL; returns when its workers, who see that a little later, have ended too."""
        assert self.process is not None
        workers = self.workers()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        self.process = None
        end = time.monotonic() + 30
        while any(map(_lives, workers)):
            assert time.monotonic() < end, self.log
            time.sleep(0.02)

    def workers(self) -> list[int]:
        """Processes of its own; none where it is the worker itself."""
        assert self.process is not None
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

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
