"""The relay under test: `relay serve` with two workers as a process of its own, killed and started again at will."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_CONFIG = """
[server]
hostname = "relay.example"
var = {var}
workers = {workers}
drain_timeout = 3

[log]
format = "json"
level = "warning"

[http]
enabled = false

[inbound]
domains = ["d1.example", "d2.example", "d3.example"]
spf = "off"

[delivery]
{way}
retry = "fast"
dead_host_faults = 0

[dns]
nameservers = ["127.0.0.1:9"]
timeout = 0.3

[retry.fast]
delays = [{delays}]

[spool]
history = 3
minimum_free = 0

[[listener]]
name = "plain"
address = "127.0.0.1"
port = {plain}
tls = "none"
role = "mx"

[[listener]]
name = "login"
address = "127.0.0.1"
port = {login}
tls = "none"
plaintext_auth = true
"""


class RelayProcess:
    """`tree` is a folder that holds the package `relay`, when not the one of the current folder."""

    def __init__(self, var: Path, sink_port: int, *, workers: int = 2, tree: Path | None = None) -> None:
        self.var = var
        self.ports = dict(zip(("plain", "login"), _free_ports(2), strict=True))
        self.config = var / "relay.toml"
        self.log = var.parent.with_name(f"{var.parent.name}.log")
        self._workers = workers
        self._way = f'mx_override = "127.0.0.1:{sink_port}"'
        self._tree = tree
        self._environment = dict(os.environ)
        self.wrapper: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        var.mkdir(parents=True, exist_ok=True)
        self.configure()
        added = self.verb("credential", "add", "app@client.example", "--password-stdin", text="secret-of-the-harness\n")
        assert added.returncode == 0, added.stderr
        assert self.verb("domain", "add", "client.example").returncode == 0

    def configure(self, *, workers: int | None = None, way: str | None = None) -> None:
        """Write the configuration; `way` replaces where mail goes."""
        self._workers = workers or self._workers
        delays = ", ".join(["0.3"] * 400)
        text = _CONFIG.format(
            var=json.dumps(str(self.var)), workers=self._workers, way=way or self._way, delays=delays, **self.ports
        )
        self.config.write_text(text)

    def verb(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "relay", "--config", str(self.config), *arguments]
        return subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self._environment,
            cwd=self._tree,
        )

    def start(self, environment: Mapping[str, str] | None = None, *, ready: bool = True) -> None:
        command = [*self.wrapper, sys.executable, "-m", "relay", "--config", str(self.config), "serve"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self._environment | dict(environment or {}), start_new_session=True, cwd=self._tree,
            )  # fmt: skip
        if ready:
            self.until_ready()

    def until_ready(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not self._greets():
            assert self.process is not None
            assert self.process.poll() is None, f"the relay ended with {self.process.returncode}; see {self.log}"
            assert time.monotonic() < end, f"not ready after {seconds} s; see {self.log}"
            time.sleep(0.02)

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.ports["plain"]), timeout=1) as probe:
                return probe.recv(100).startswith(b"220")
        except OSError:
            return False

    def pids(self) -> list[int]:
        """The supervisor, then its workers."""
        if self.process is None:
            return []
        with suppress(OSError):
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            return [self.process.pid, *map(int, children)]
        return []

    def kill(self, whom: str, dice: random.Random) -> float:
        """SIGKILL `all`, one `worker` or the `supervisor`; returns when. Started again where nobody else does."""
        pids = self.pids()
        chosen = {"all": pids, "worker": [dice.choice(pids[1:] or pids)], "supervisor": pids[:1]}[whom]
        for pid in chosen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        at = time.monotonic()
        if pids[0] in chosen:
            assert self.process is not None
            self.process.wait(30)
            _until_gone(pids)
        return at

    def signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            os.kill(pid, number)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def waiting(self) -> int:
        """Messages not finished."""
        listed = self.verb("queue", "list", "--json", "--limit", "100000")
        found: dict[str, Any] = json.loads(listed.stdout)
        return len(found["messages"])


def _until_gone(pids: list[int], seconds: float = 60) -> None:
    """Workers whose supervisor is gone end by themselves; their spools stay locked until then."""
    end = time.monotonic() + seconds
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < end, "workers outlive their supervisor"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    """Below those that outgoing connections take: a server that was killed wants its own again."""
    found: list[int] = []
    for port in random.sample(range(10_000, 32_000), 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")
