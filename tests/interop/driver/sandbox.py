"""Sandbox: a relay of our own, started as a user would start it, and its inbox over HTTP."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driver.workplace import CheckError, Workplace, is_free, wait_for

_BASE_PORTS = (1025, 1587, 2525, 1465, 8025)


@dataclass(frozen=True, slots=True)
class Arrived:
    """One message as the sandbox's MX took it."""

    id: str
    mail_from: str
    rcpt_to: tuple[str, ...]
    tls: str
    # the domains that signed it, as the inbox lists them
    signed: tuple[str, ...]
    raw: bytes


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The facts of sandbox.json. `ports` maps the documented port to the one in use."""

    var: Path
    host: str
    ports: dict[int, int]
    http_url: str
    username: str
    password: str
    ca_file: Path
    domain: str

    @classmethod
    def read(cls, var: Path) -> Sandbox:
        facts = json.loads((var / "sandbox.json").read_text())
        ca_file = Path(facts["ca_file"])
        return cls(
            var=var,
            host=facts["host"],
            ports={int(known): int(used) for known, used in facts["smtp_ports"].items()},
            http_url=facts["http_url"].rstrip("/"),
            username=facts["username"],
            password=facts["password"],
            ca_file=ca_file if ca_file.is_absolute() else (var.parent / ca_file).resolve(),
            domain=facts["domain"],
        )

    def listing(self, to: str = "") -> list[dict[str, Any]]:
        """`GET /sandbox/inbox`, all of it, or for one recipient."""
        query = urllib.parse.urlencode({"limit": 100_000, **({"to": to} if to else {})})
        messages: list[dict[str, Any]] = json.loads(self._get(f"/sandbox/inbox?{query}"))["messages"]
        return messages

    def fetch(self, entry: dict[str, Any]) -> Arrived:
        """The entry with its bytes."""
        raw = self._get(f"/sandbox/inbox/{entry['id']}/raw")
        return Arrived(
            id=entry["id"],
            mail_from=entry["mail_from"] or "",
            rcpt_to=tuple(entry["rcpt_to"]),
            tls=str(entry["tls"] or ""),
            signed=tuple(signature.get("d", "") for signature in entry["signed"]),
            raw=raw,
        )

    def ready(self) -> bool:
        """True when /readyz says so."""
        try:
            self._get("/readyz")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.http_url + path, timeout=30) as answer:
            body: bytes = answer.read()
        return body


def free_offset(first: int) -> int:
    """The first port offset from `first` on whose ports are all free."""
    for offset in range(first, first + 5000, 100):
        if all(is_free(port + offset) for port in _BASE_PORTS):
            return offset
    raise CheckError(f"no free ports from offset {first} on")


@contextmanager
def running_sandbox(
    workplace: Workplace, name: str, offset: int, configure: Callable[[Path], None] | None = None
) -> Iterator[Sandbox]:
    """`relay init --sandbox`, then `relay serve`, for as long as the block lasts.

    `configure` gets the path of relay.toml before the server starts.
    """
    var = workplace.run / name
    config = var / "relay.toml"
    shift = ["--port-offset", str(offset)]
    workplace.program(f"{name}-init", [workplace.relay, "init", "--sandbox", "--var", var, *shift])
    if configure is not None:
        configure(config)
    serve = [workplace.relay, "--config", config, "serve", *shift]
    with workplace.daemon(name, serve) as process:
        yield wait_until_served(var, process, workplace.logs / f"{name}.log")


def wait_until_served(var: Path, process: subprocess.Popen[bytes], log: Path) -> Sandbox:
    """The sandbox under `var` once it has announced itself and says that it is ready."""

    def ready() -> Sandbox | None:
        if process.poll() is not None:
            raise CheckError(f"relay serve ended with {process.returncode}; see {log}")
        if b"What arrived" not in log.read_bytes():
            return None
        sandbox = Sandbox.read(var)
        return sandbox if sandbox.ready() else None

    found: Sandbox = wait_for("relay serve", ready)
    return found
