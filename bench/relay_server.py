"""The relay under test: `relay serve` as installed, with its own configuration, spool and ports under one folder.

Durable as it always is: every 250 after an fsync, in the same filesystem as Postfix's queue. Port `plain` takes mail
for one domain without AUTH as port 25 would, `signed` wants AUTH and signs, `login` wants STARTTLS and AUTH.
All mail leaves by one smarthost, the sink, as Postfix's does by `relayhost`.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from bench.postfix import DOMAIN, PASSWORD, USERNAME
from bench.process import Child, cpu_seconds, free_port, run
from bench.sink import Sink

RECIPIENT_DOMAIN = "rcpt.example"
_SELECTOR = "bench"

_CONFIG = """
[server]
hostname = "relay.{domain}"
var = {var}
workers = {workers}

[log]
format = "json"

[http]
enabled = false

[inbound]
domains = ["{recipient_domain}"]
spf = "off"

[[listener]]
name = "plain"
address = "127.0.0.1"
port = {plain}
tls = "none"
role = "mx"

[[listener]]
name = "signed"
address = "127.0.0.1"
port = {signed}
tls = "none"
plaintext_auth = true

[[listener]]
name = "login"
address = "127.0.0.1"
port = {login}
tls = "starttls"

[smarthost.sink]
host = "127.0.0.1"
port = {sink}
tls = "none"
verify = false

[[route]]
name = "all"
via = ["smarthost:sink"]
"""


class RelayServer:
    """One relay: `prepare`, then `start`, `stop`."""

    name = "relay"
    title = "relay"

    def __init__(self, work: Path, program: Path, workers: int = 0) -> None:
        """`program` is the command `relay`; `workers` 0: one a core."""
        self._work = work
        self._program = str(program)
        self._workers = workers
        self._config = work / "relay.toml"
        self.sink = Sink(free_port(), work)
        self.ports = {name: free_port() for name in ("plain", "signed", "login")}
        self._child: Child | None = None

    @property
    def version(self) -> str:
        return run([self._program, "--version"], "relay --version").strip()

    @property
    def login(self) -> tuple[str, str]:
        return USERNAME, PASSWORD

    @property
    def certificate(self) -> tuple[Path, Path]:
        """PEM chain and key, once prepared."""
        folder = self._work / "var" / "certs"
        return folder / "server.pem", folder / "server.key"

    @property
    def pid(self) -> int:
        """Of the supervisor, while it runs."""
        return self._child.pid if self._child else 0

    def prepare(self) -> None:
        """A fresh folder with configuration, certificate, one credential, and one RSA-2048 key that signs."""
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        text = _CONFIG.format(
            domain=DOMAIN,
            recipient_domain=RECIPIENT_DOMAIN,
            var=json.dumps(str(self._work / "var")),
            workers=self._workers,
            sink=self.sink.port,
            **self.ports,
        )
        self._config.write_text(text)
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
        command = [self._program, "--config", str(self._config), "serve"]
        self._child = Child(command, self._work / "relay.log", environment=_environment())
        for port in self.ports.values():
            self._child.wait_for_port(port)

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
        command = [self._program, "--config", str(self._config), *arguments]
        return run(command, f"relay {arguments[0]}", text=text, environment=_environment())


def _environment() -> dict[str, str]:
    """Ours, without what would change the relay: its own configuration is all that counts."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "PYTHON"))}
