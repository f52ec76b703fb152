"""Feed: one load from one generator into one system. Returns when all is accepted; raises BenchError otherwise."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from bench.cases import SESSIONS, Case
from bench.process import HOST, BenchError, needed, run
from bench.sink import Sink

RECIPIENT: Final = "someone@rcpt.example"
# Two processes: one Python process at the sending end would itself be the limit.
_PROCESSES: Final = 2
_LONGEST: Final = 900.0  # seconds for one load, on a slow disk too


class System(Protocol):
    """What is compared: the relay or Postfix, running."""

    name: str
    title: str
    sink: Sink
    ports: dict[str, int]

    @property
    def version(self) -> str: ...

    @property
    def login(self) -> tuple[str, str]: ...

    def cpu_seconds(self) -> float: ...

    def pids(self) -> list[int]: ...

    def queued(self) -> int: ...

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Fed:
    """`began`: monotonic time of the first connection. Quantiles in milliseconds, of `bench.source` only: `dot_ms` from
    the end of the message to its 250, `lag_ms` from when it was due, of a load with a rate."""

    began: float
    dot_ms: dict[str, float] = field(default_factory=dict)
    lag_ms: dict[str, float] = field(default_factory=dict)


def feed(case: Case, system: System, messages: int, folder: Path) -> Fed:
    """Send `messages` of this case; `folder` takes the file with the password."""
    if case.own_source:
        return feed_own(case, system, messages, folder)
    command = smtp_source_command(case, system.ports[case.port], messages)
    began = time.monotonic()
    run(command, f"smtp-source to {system.title}", timeout=_LONGEST)
    return Fed(began)


def smtp_source_command(case: Case, port: int, messages: int) -> list[str]:
    """smtp-source(1): -d keeps the connection for the next message, -l is the body without the header."""
    command = [needed("smtp-source", "postfix"), "-4", "-s", str(SESSIONS), "-m", str(messages), "-l", str(case.size)]
    if not case.once:
        command.append("-d")
    return [*command, "-M", "source.bench.example", "-f", case.sender, "-t", RECIPIENT, f"inet:{HOST}:{port}"]


def feed_own(
    case: Case, system: System, messages: int, folder: Path, rate: float = 0.0, sessions: int = SESSIONS
) -> Fed:
    """The same by `bench.source`; `rate` messages a second, whether the server keeps up or not, or 0: as they go."""
    command = [sys.executable, "-m", "bench.source", "--port", str(system.ports[case.port])]
    command += ["--messages", str(messages), "--sessions", str(sessions), "--size", str(case.size)]
    command += ["--processes", str(_PROCESSES), "--sender", case.sender, "--recipient", RECIPIENT]
    command += ["--rate", str(rate), "--notify", case.notify]
    command += ["--once"] * case.once + ["--tls"] * case.tls
    if case.port != "plain":
        login = folder / f"login-{system.name}"
        login.touch(mode=0o600)
        login.write_text("\n".join(system.login) + "\n")
        command += ["--login", str(login)]
    report: dict[str, Any] = json.loads(run(command, f"bench.source to {system.title}", timeout=_LONGEST))
    if report["accepted"] != messages:
        raise BenchError(f"{system.title} accepted {report['accepted']} of {messages} messages: {report['error']}")
    return Fed(report["began"], report["dot_ms"], report["lag_ms"])
