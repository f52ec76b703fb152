"""Features: what each costs: the relay with it against the relay without it, in turn, everything else the same.

In: the context. Out: rounds whose case is `feature:NAME` and whose system is `off` or `on`, each a relay of its own.
Raises BenchError where a message is lost or doubled.
"""

from __future__ import annotations

import contextlib
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bench.cases import SIGNED
from bench.context import Context
from bench.feed import System
from bench.figures import Round
from bench.name_server import name_server
from bench.process import HOST, BenchError
from bench.relay_config import Overrides
from bench.relay_server import RelayServer
from bench.rounds import Turn, run_turns

PREFIX: Final = "feature:"
_SCRAPE_SECONDS: Final = 1.0
_NEVER_REACHED: Final = "1000000/second"


@dataclass(frozen=True, slots=True)
class Feature:
    """`settings` are by table, `load` is by field of Case; each is what the feature needs (on) or is without (off).

    `both`: fields of the load on either side. `usual`: whether a relay as it comes has it on.
    """

    name: str
    title: str
    usual: bool
    off: Overrides = field(default_factory=dict)
    on: Overrides = field(default_factory=dict)
    both: Mapping[str, Any] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)


FEATURES: Final = (
    Feature(
        "dkim", "DKIM, one RSA-2048 signature", True, both={"port": "signed"}, load={"sender_domain": SIGNED}
    ),
    Feature("tls", "STARTTLS on kept connections", True, both={"port": "signed"}, load={"port": "login"}),
    Feature(
        "spf", "SPF on port 25, answers in the cache", True, on={"inbound": {"spf": "enforce"}}
    ),
    Feature("log", "a log line for each fact (level info)", True, off={"log": {"level": "warning"}}),
    Feature("shield", "duplicate shield", True, off={"limits": {"duplicate_window": 0}}),
    Feature("metrics", "HTTP, its metrics read every second", True, on={"http": {"enabled": True}}),
    Feature(
        "guard",
        "guard of connections and rates",
        True,
        on={"guard": {"exempt": [], "connection_rate": _NEVER_REACHED, "message_rate": _NEVER_REACHED}},
    ),
    Feature(
        "limit",
        "an outbound rate limit that is never reached",
        False,
        on={"[[limit]]": {"name": "all", "rate": _NEVER_REACHED, "burst": 100_000}},
    ),
    Feature("dsn", "NOTIFY=SUCCESS: a notice for each message", False, both={"port": "signed"},
            load={"notify": "SUCCESS"}),
)  # fmt: skip


def measure(context: Context, names: frozenset[str] = frozenset()) -> list[Round]:
    """Rounds of every feature, or of those named."""
    rounds = []
    with name_server("v=spf1 ip4:127.0.0.0/8 -all") as resolver:
        for feature in FEATURES:
            if not names or feature.name in names:
                rounds += _measure_one(context, feature, resolver)
    return rounds


def _measure_one(context: Context, feature: Feature, resolver: str) -> list[Round]:
    dns = {"dns": {"nameservers": [resolver]}}
    off, on = (context.relay(name, {**changes, **dns}) for name, changes in (("off", feature.off), ("on", feature.on)))
    try:
        off.start()
        on.start()
        with _scraped(on) if feature.name == "metrics" else contextlib.nullcontext():
            rounds = run_turns(_turns(context, feature, off, on), context.rounds, context.work, context.say)
        if off.queued() or on.queued():
            raise BenchError(f"feature {feature.name}: messages are left in the queue")
    finally:
        off.stop()
        on.stop()
    return rounds


def _turns(context: Context, feature: Feature, off: System, on: System) -> list[Turn]:
    case = replace(context.kept, name=PREFIX + feature.name, **feature.both)
    return [(case, off), (replace(case, **feature.load), on)]


@contextlib.contextmanager
def _scraped(server: RelayServer) -> Iterator[None]:
    """Something reads the metrics every second, as Prometheus would every few."""
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(_SCRAPE_SECONDS):
            with urllib.request.urlopen(f"http://{HOST}:{server.ports['http']}/metrics", timeout=10) as answer:
                answer.read()

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
