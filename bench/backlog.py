"""Backlog: a start with a long queue, all of it due: until it serves, what memory it takes, how fast it drains.

The relay's queue is made through the spool's own door while no server runs (fill.py), the same for each worker. Postfix
has no such door: it gets a twentieth of that by SMTP while it may not deliver (defer_transports), and is told to flush
after its start. Small bodies, one next hop. Meanwhile new mail comes in, a few a second, and has to be taken as usual.
In: the context. Out: a Backlog for each. Raises BenchError where a message is lost or doubled.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Final

from bench.cases import SESSIONS
from bench.context import Context
from bench.feed import System, feed, feed_own
from bench.ledger import count_problems
from bench.memory import forget_peaks, largest_peak, together
from bench.postfix import Postfix
from bench.process import BenchError
from bench.relay_server import RelayServer

BODY: Final = 1024
POSTFIX_SHARE: Final = 20
_NEW: Final = 100
_NEW_A_SECOND: Final = 10.0
_PATIENCE: Final = 900.0
_LOOK_SECONDS: Final = 1.0
_LOOKS_KEPT: Final = 200


@dataclass(frozen=True, slots=True)
class Backlog:
    """`greeting` and `serving`: seconds from the start until a port greets, and until every worker says it serves.

    `memory`: megabytes of all processes together, once all serve and at most; `largest`: the peak of one process.
    `made`: how the queue was made, at `fill_rate` messages a second.
    `drained`: seconds from the start until the last message was in the sink. `progress`: seconds and messages so far.
    """

    system: str
    queued: int
    made: str
    fill_rate: float
    greeting: float
    serving: float
    memory: float
    memory_most: float
    largest: float
    drained: float
    new_dot: dict[str, float] = field(default_factory=dict)
    progress: list[tuple[float, int]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Messages a second, from the start on."""
        return self.queued / self.drained


class _Watch(threading.Thread):
    """Looks at memory and progress once a second until `stop`."""

    def __init__(self, system: System, began: float) -> None:
        super().__init__(daemon=True)
        self._system, self._began = system, began
        self._over = threading.Event()
        self.most = 0.0
        self.progress: list[tuple[float, int]] = []

    def run(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            self.most = max(self.most, together(self._system.pids()))
            self.progress.append((round(time.monotonic() - self._began, 1), self._system.sink.count()))

    def stop(self) -> None:
        self._over.set()
        self.join()


@dataclass(frozen=True, slots=True)
class _Start:
    """`began`: monotonic time of it; the rest as in Backlog."""

    queued: int
    made: str
    fill_rate: float
    began: float
    greeting: float
    serving: float


def measure(context: Context, only: str | None) -> list[Backlog]:
    """Fill, start, wait until all of it is in the sink; `only`: of this system alone."""
    found = []
    if only != "postfix":
        found.append(_relay(context))
    if only != "relay":
        found.append(_postfix(context))
    return found


def _relay(context: Context) -> Backlog:
    server = context.relay("backlog")
    context.say(f"backlog: making {context.queued:,} messages")
    began = time.monotonic()
    server.fill("queue", context.queued)
    rate = context.queued / (time.monotonic() - began)
    try:
        server.sink.restart()
        began = time.monotonic()
        server.launch(_PATIENCE)
        greeting = time.monotonic() - began
        serving = _all_serve(server, began)
        start = _Start(context.queued, "the store alone", rate, began, greeting, serving)
        return _drain(context, server, "relay", start)
    finally:
        server.stop()


def _all_serve(server: RelayServer, began: float) -> float:
    """Seconds until every worker has said so."""
    while server.started_workers() < server.workers:
        if time.monotonic() - began > _PATIENCE:
            raise BenchError(f"backlog: not every worker serves after {_PATIENCE:.0f} s; see {server.log}")
        time.sleep(0.02)
    return time.monotonic() - began


def _postfix(context: Context) -> Backlog:
    case = replace(context.kept, size=BODY, messages=max(SESSIONS, context.queued // POSTFIX_SHARE))
    # Only the certificate is asked of it.
    relay = context.relay("certificate")
    postfix = Postfix(context.work / "postfix-backlog", relay.certificate)
    context.say(f"backlog: making {case.messages:,} messages with Postfix")
    try:
        postfix.start({"defer_transports": "smtp"})
        began = time.monotonic()
        feed(case, postfix, case.messages, context.work)
        rate = case.messages / (time.monotonic() - began)
        _until_deferred(postfix, case.messages)
        postfix.stop()
        postfix.set("defer_transports", "")
        postfix.sink.restart()
        began = time.monotonic()
        postfix.launch()
        ready = time.monotonic() - began
        postfix.flush()
        return _drain(context, postfix, "Postfix", _Start(case.messages, "over SMTP", rate, began, ready, ready))
    finally:
        postfix.stop()


def _until_deferred(postfix: Postfix, count: int) -> None:
    end = time.monotonic() + _PATIENCE
    while postfix.deferred() < count:
        if time.monotonic() > end:
            raise BenchError(f"backlog: Postfix has deferred {postfix.deferred()} of {count} messages")
        time.sleep(0.5)


def _drain(context: Context, system: System, title: str, start: _Start) -> Backlog:
    memory = together(system.pids())
    forget_peaks(system.pids())
    context.say(f"backlog: {title} serves after {start.serving:.1f} s, {memory:.0f} MB")
    watch = _Watch(system, start.began)
    watch.start()
    new = feed_own(context.kept, system, _NEW, context.work, _NEW_A_SECOND)
    wanted = start.queued + _NEW
    drained = system.sink.wait_until(wanted) - start.began
    time.sleep(_LOOK_SECONDS)
    watch.stop()
    problems = count_problems(system.sink.count(), wanted)
    if problems or system.queued():
        raise BenchError(f"backlog, {title}: {'; '.join(problems) or 'messages are left in the queue'}")
    context.say(f"backlog: {title} drained at {start.queued / drained:,.0f} msg/s")
    return Backlog(
        system=title,
        queued=start.queued,
        made=start.made,
        fill_rate=round(start.fill_rate, 1),
        greeting=round(start.greeting, 2),
        serving=round(start.serving, 2),
        memory=memory,
        memory_most=watch.most,
        largest=largest_peak(system.pids()),
        drained=round(drained, 2),
        new_dot=new.dot_ms,
        progress=watch.progress[:: max(1, len(watch.progress) // _LOOKS_KEPT)],
    )
