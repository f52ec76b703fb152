"""Idle: what the systems hold in memory and what they cost while nothing happens; and what an open session costs.

The relay as it comes, HTTP and all. In: the context, and Postfix where it runs. Out: Idle values.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from bench.context import Context
from bench.feed import System, feed
from bench.memory import held, together
from bench.process import HOST, BenchError
from bench.relay_server import RelayServer

FRESH: Final = "after the start"
USED: Final = "after a load"
_RELAY: Final = "relay"
_SETTLE_SECONDS: Final = 5.0
_WATCH_SECONDS: Final = 20.0
_SESSIONS: Final = 1000
_SPARE_FILES: Final = 100


@dataclass(frozen=True, slots=True)
class Idle:
    """Megabytes: `together` of all processes; `worker` of one worker by itself (the largest process of Postfix), what
    no other process shares. `cpu`: share of one core while nothing comes in. `session`: octets an open one holds."""

    system: str
    when: str
    processes: int
    together: float
    worker: float
    cpu: float
    session: float | None = None


def measure(context: Context, postfix: System | None) -> list[Idle]:
    found = []
    if postfix is not None:
        feed(context.kept, postfix, context.kept.messages, context.work)
        found.append(_look(context, postfix.title, postfix, USED))
    relay = context.relay("idle", {"http": {"enabled": True}})
    try:
        relay.start()
        found.append(replace(_look(context, _RELAY, relay, FRESH), session=_session_octets(relay)))
        feed(context.kept, relay, context.kept.messages, context.work)
        relay.sink.wait_until(context.kept.messages)
        found.append(_look(context, _RELAY, relay, USED))
    finally:
        relay.stop()
    return found


def _look(context: Context, title: str, system: System, when: str) -> Idle:
    time.sleep(_SETTLE_SECONDS)
    pids, seconds = system.pids(), _WATCH_SECONDS * min(1.0, context.scale)
    cpu = system.cpu_seconds()
    time.sleep(seconds)
    cpu = system.cpu_seconds() - cpu
    # The supervisor is the first; with one worker there is none.
    workers = pids[1:] or pids
    found = Idle(
        system=title,
        when=when,
        processes=len(pids),
        together=together(pids),
        worker=max(held(pid).own for pid in workers),
        cpu=round(cpu / seconds, 4),
    )
    context.say(f"idle: {title} {when}: {found.together:.0f} MB in {found.processes} processes")
    return found


def _session_octets(relay: RelayServer) -> float:
    """What one more open session costs, over so many that have said EHLO."""
    before = together(relay.pids())
    with _sessions(relay.ports["plain"], _SESSIONS):
        return round((together(relay.pids()) - before) * 1e6 / _SESSIONS)


@contextlib.contextmanager
def _sessions(port: int, count: int) -> Iterator[None]:
    """Open, greeted and silent."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _SPARE_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard < 0 else min(wanted, hard), hard))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection((HOST, port), timeout=20)) for _ in range(count)]
        for client in clients:
            if not client.recv(512).startswith(b"220"):
                raise BenchError("idle: a session was refused")
            client.sendall(b"EHLO idle.bench.example\r\n")
        for client in clients:
            client.recv(4096)
        yield
