"""Context: what every part of a run has to know. A value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.cases import Case
from bench.relay_config import Overrides
from bench.relay_server import RelayServer


@dataclass(frozen=True, slots=True)
class Context:
    """`kept`: the usual load; `scale`: its messages over the usual number; `queued` and `history`: messages to make."""

    work: Path
    program: Path
    workers: int
    rounds: int
    kept: Case
    scale: float
    queued: int
    history: int
    say: Callable[[str], None]

    def relay(self, name: str, changes: Overrides | None = None) -> RelayServer:
        """A relay of its own, prepared and not yet started."""
        server = RelayServer(self.work / name.replace(" ", "-"), self.program, self.workers, name, changes or {})
        server.prepare()
        return server
