"""Latency: how long a client waits for its 250 after the final dot while the system has half the load it can bear.

First each system's highest rate, then an open loop: messages are due at fixed times whether or not the earlier ones
have been answered, over so many kept connections that none has to wait for a free one. Twice: at half of the system's
own highest rate, and at the same rate for all, half of what the slowest bears. In: running systems. Out: `Latency`
values. Raises BenchError where a message is refused, lost or doubled.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from bench.cases import SESSIONS, Case
from bench.context import Context
from bench.feed import System, feed_own
from bench.ledger import count_problems
from bench.rounds import SETTLE, demand, order

OWN: Final = "half of its own highest rate"
SAME: Final = "the same rate for both"
_SESSIONS: Final = 5 * SESSIONS
_SECONDS: Final = 10.0
_SHORTEST: Final = 100


@dataclass(frozen=True, slots=True)
class Latency:
    """One system at one load. `rate`: messages a second asked for; quantiles as the median over rounds, milliseconds:
    `dot` from the end of the message to its 250, `lag` from when the message was due to its 250."""

    system: str
    load: str
    rate: float
    highest: float
    dot: dict[str, float] = field(default_factory=dict)
    lag: dict[str, float] = field(default_factory=dict)


def measure(context: Context, systems: Sequence[System]) -> list[Latency]:
    """Of each system at both loads, in turn."""
    case = context.kept
    highest = {system.name: _highest(context, case, system) for system in systems}
    loads = [(OWN, {name: rate / 2 for name, rate in highest.items()})]
    if len(systems) > 1:
        loads.append((SAME, dict.fromkeys(highest, min(highest.values()) / 2)))
    return [one for load, rates in loads for one in _at_load(context, case, systems, load, rates, highest)]


def _highest(context: Context, case: Case, system: System) -> float:
    """Messages a second from our own generator, accepted and delivered."""
    _one_load(context, case, system, max(SESSIONS, case.messages // 4))
    seconds = median(_one_load(context, case, system, case.messages)[0] for _ in range(context.rounds))
    context.say(f"latency {system.title}: {case.messages / seconds:,.0f} msg/s at most")
    return case.messages / seconds


def _one_load(
    context: Context, case: Case, system: System, messages: int, rate: float = 0.0
) -> tuple[float, dict[str, float], dict[str, float]]:
    """Seconds until all had reached the sink, and the quantiles of dots and lags."""
    before = system.sink.count()
    fed = feed_own(case, system, messages, context.work, rate, _SESSIONS if rate else SESSIONS)
    ended = system.sink.wait_until(before + messages)
    time.sleep(SETTLE)
    demand(count_problems(system.sink.count() - before, messages), case, system)
    return ended - fed.began, fed.dot_ms, fed.lag_ms


def _at_load(
    context: Context,
    case: Case,
    systems: Sequence[System],
    load: str,
    rates: dict[str, float],
    highest: dict[str, float],
) -> list[Latency]:
    found: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {system.name: [] for system in systems}
    for number in range(context.rounds):
        for system in order(systems, number):
            rate = rates[system.name]
            messages = max(_SHORTEST, int(rate * _SECONDS * context.scale))
            _, dot, lag = _one_load(context, case, system, messages, rate)
            found[system.name].append((dot, lag))
            context.say(
                f"latency {number + 1}/{context.rounds} {system.title} at {rate:,.0f} msg/s: p99 {dot['p99']} ms"
            )
    return [
        Latency(
            system=name,
            load=load,
            rate=round(rates[name], 1),
            highest=round(highest[name], 1),
            dot=_middle([dot for dot, _ in pairs]),
            lag=_middle([lag for _, lag in pairs]),
        )
        for name, pairs in found.items()
    ]


def _middle(quantiles: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: round(median(one[name] for one in quantiles), 2) for name in quantiles[0]}
