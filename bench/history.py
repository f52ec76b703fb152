"""History: the same load on an empty spool and on one with millions of finished messages, in turn.

The rows of the finished messages are made by SQL in the spool's own schema (fill.py). In: the context. Out: a History
with the rounds of both. Raises BenchError where a message is lost or doubled.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from bench.context import Context
from bench.figures import Round
from bench.process import BenchError
from bench.relay_server import RelayServer
from bench.rounds import run_turns

EMPTY: Final = "empty history"
FULL: Final = "full history"
_PATIENCE: Final = 600.0


@dataclass(frozen=True, slots=True)
class History:
    """`ready`: seconds until every port greets, by name of the spool."""

    messages: int
    spool_mb: float
    ready: dict[str, float]
    rounds: list[Round]


def measure(context: Context) -> History:
    empty, full = context.relay(EMPTY), context.relay(FULL)
    context.say(f"history: making {context.history:,} finished messages")
    full.fill("history", context.history)
    size = full.spool_megabytes()
    ready = {}
    try:
        for server in (empty, full):
            ready[server.name] = _start(server)
        rounds = run_turns([(context.kept, empty), (context.kept, full)], context.rounds, context.work, context.say)
        for server in (empty, full):
            if server.queued():
                raise BenchError(f"history: messages are left in the queue with {server.title}")
    finally:
        empty.stop()
        full.stop()
    return History(context.history, round(size, 1), ready, rounds)


def _start(server: RelayServer) -> float:
    server.sink.restart()
    began = time.monotonic()
    server.launch(_PATIENCE)
    return round(time.monotonic() - began, 2)
