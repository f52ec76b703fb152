"""The relay under test: `relay serve` as installed, with its own configuration, spool and ports under one folder.

Durable as it always is: every 250 after an fsync, in the same filesystem as Postfix's queue. Port `plain` takes mail
for one domain without AUTH as port 25 would, `signed` wants AUTH and signs, `login` wants STARTTLS and AUTH.
All mail leaves by one smarthost, the sink, as Postfix's does by `relayhost`.
"""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from bench.postfix import DOMAIN, PASSWORD, USERNAME
from bench.process import Child, cpu_seconds, family, free_port, run, share
from bench.relay_config import PORTS, Overrides, configuration
from bench.sink import Sink

RECIPIENT_DOMAIN: Final = "rcpt.example"
_SELECTOR: Final = "bench"
_AS_IT_COMES: Final[Overrides] = {}
_FILL_SECONDS: Final = 3600.0


class RelayServer:
    """One relay: `prepare`, then `start`, `stop`."""

    def __init__(
        self, work: Path, program: Path, workers: int = 0, name: str = "relay", changes: Overrides = _AS_IT_COMES
    ) -> None:
        """`program` is the command `relay`; `workers` 0: one a core; `changes`: settings by table."""
        self.name = self.title = name
        self.workers = workers or len(os.sched_getaffinity(0))
        self._work = work
        self._program = program
        self._changes = changes
        self._config = work / "relay.toml"
        self.sink = Sink(free_port(), work)
        self.ports = {name: free_port() for name in PORTS}
        self._child: Child | None = None

    @property
    def version(self) -> str:
        return run([str(self._program), "--version"], "relay --version").strip()

    @property
    def login(self) -> tuple[str, str]:
        return USERNAME, PASSWORD

    @property
    def certificate(self) -> tuple[Path, Path]:
        """PEM chain and key, once prepared."""
        folder = self._work / "var" / "certs"
        return folder / "server.pem", folder / "server.key"

    @property
    def log(self) -> Path:
        return self._work / "relay.log"

    @property
    def pid(self) -> int:
        """Of the supervisor, while it runs."""
        return self._child.pid if self._child else 0

    def prepare(self) -> None:
        """A fresh folder with configuration, certificate, one credential, and one RSA-2048 key that signs."""
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        var = str(self._work / "var")
        self._config.write_text(
            configuration(var, self.workers, self.ports, self.sink.port, DOMAIN, RECIPIENT_DOMAIN, self._changes)
        )
        self._relay("init")
        self._relay("credential", "add", USERNAME, "--password-stdin", text=PASSWORD + "\n")
        self._relay("domain", "add", DOMAIN, "--selector", _SELECTOR)
        # OpenDKIM signs with one RSA key; the Ed25519 key waits.
        self._relay("domain", "use", DOMAIN, _SELECTOR)

    def add_to_configuration(self, text: str) -> None:
        with self._config.open("a") as file:
            file.write(text)

    def start(self) -> None:
        self.sink.restart()
        self.launch()

    def launch(self, patience: float = 20.0) -> None:
        """Start the server alone; return once every port greets, which takes at most `patience` seconds."""
        command = [str(self._program), "--config", str(self._config), "serve"]
        self._child = Child(command, self.log, environment=_environment())
        for name, port in self.ports.items():
            if name != "http":
                self._child.wait_for_port(port, patience)

    def fill(self, what: str, count: int) -> None:
        """Put `count` messages into the spools, a process a spool (fill.py). Only while no server runs."""
        folder, script = self._work / "var" / "spool", Path(__file__).with_name("fill.py")
        shares = share(count, self.workers)
        commands = [
            [str(self._program.with_name("python")), "-P", str(script), what, str(folder), str(number), str(each)]
            for number, each in enumerate(shares)
        ]
        with ThreadPoolExecutor(len(commands)) as pool:
            list(pool.map(lambda command: run(command, f"fill.py {what}", timeout=_FILL_SECONDS), commands))

    def spool_megabytes(self) -> float:
        """What the spools take on disk."""
        return sum(path.stat().st_size for path in (self._work / "var" / "spool").glob("*.db*")) / 1e6

    def started_workers(self) -> int:
        """How many workers have said that they serve."""
        return self.log.read_bytes().count(b'"server_started"')

    def pids(self) -> list[int]:
        """The supervisor first."""
        return family(self.pid) if self._child else []

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None
        self.sink.stop()

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def queued(self) -> int:
        """Messages not finished: 0 when all that was accepted has left."""
        return len(json.loads(self._relay("queue", "list", "--json"))["messages"])

    def _relay(self, *arguments: str, text: str = "") -> str:
        command = [str(self._program), "--config", str(self._config), *arguments]
        return run(command, f"relay {arguments[0]}", text=text, environment=_environment())


def _environment() -> dict[str, str]:
    """Ours, without what would change the relay: its own configuration is all that counts."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "PYTHON"))}
