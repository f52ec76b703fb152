"""Rounds: each case on each system in turn, warmed up, counted exactly, and measured.

The systems take turns within every round and the first one changes, so that a machine that slows down slows both.
In: running systems. Out: Round values. Raises BenchError at the first lost, doubled or refused message.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from bench.cases import Case
from bench.feed import System, feed
from bench.figures import Round
from bench.ledger import count_problems, ledger_problems
from bench.machine import busy_seconds
from bench.memory import forget_peaks, largest_peak
from bench.process import BenchError

# After the last message has arrived: its result is written, its queue file removed, and a doubled one would come.
SETTLE: Final = 0.5


Turn = tuple[Case, System]
"""A system with its load."""
T = TypeVar("T")


def order(turns: Sequence[T], number: int) -> list[T]:
    """Who goes when in round `number`: rotated by one each time."""
    first = number % len(turns)
    return [*turns[first:], *turns[:first]]


def run_case(
    case: Case, systems: Sequence[System], rounds: int, folder: Path, say: Callable[[str], None]
) -> list[Round]:
    """Each system under the same case."""
    return run_turns([(case, system) for system in systems], rounds, folder, say)


def run_turns(turns: Sequence[Turn], rounds: int, folder: Path, say: Callable[[str], None]) -> list[Round]:
    """Warm-up with a ledger, then `rounds` timed ones, then a last look at the counters."""
    for case, system in turns:
        _warm_up(case, system, folder)
        system.sink.restart()
    results = []
    for number in range(rounds):
        for case, system in order(turns, number):
            result = _timed(case, system, number, folder)
            results.append(result)
            say(f"{case.name} {number + 1}/{rounds} {system.title}: {result.rate:,.0f} msg/s")
    for case, system in turns:
        demand(count_problems(system.sink.count(), rounds * case.messages * case.arrivals), case, system)
    return results


def _warm_up(case: Case, system: System, folder: Path) -> None:
    wanted = case.warm_up * case.arrivals
    system.sink.restart(ledger=True)
    feed(case, system, case.warm_up, folder)
    system.sink.wait_until(wanted)
    time.sleep(SETTLE)
    problems = count_problems(system.sink.count(), wanted)
    if case.arrivals == 1:
        problems += ledger_problems(system.sink.ledger(), case.warm_up, signed=case.signed)
    demand(problems, case, system)


def _timed(case: Case, system: System, number: int, folder: Path) -> Round:
    messages = case.messages * case.arrivals
    forget_peaks(system.pids())
    before = _look(system)
    fed = feed(case, system, case.messages, folder)
    ended = system.sink.wait_until((number + 1) * messages)
    time.sleep(SETTLE)
    demand(count_problems(system.sink.count() - number * messages, messages), case, system)
    after = _look(system)
    return Round(
        case=case.name,
        system=system.name,
        number=number,
        messages=case.messages,
        seconds=ended - fed.began,
        cpu=after.system - before.system,
        others=others(before, after, len(os.sched_getaffinity(0))),
        dot_ms=fed.dot_ms,
        peak=largest_peak(system.pids()),
    )


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds used so far: of the whole machine, of the system under test, of all that belongs to the bench."""

    at: float
    machine: float
    system: float
    bench: float


def _look(system: System) -> Usage:
    mine = system.cpu_seconds()
    ends = system.sink.cpu_seconds() + sum(os.times()[:4])
    return Usage(time.monotonic(), busy_seconds(Path("/proc/stat").read_text()), mine, mine + ends)


def others(before: Usage, after: Usage, cores: int) -> float:
    """The share of the machine that went to programs outside the bench; never negative, whatever ticks round to."""
    elsewhere = (after.machine - before.machine) - (after.bench - before.bench)
    return max(0.0, elsewhere / ((after.at - before.at) * cores))


def demand(problems: list[str], case: Case, system: System) -> None:
    if problems:
        raise BenchError(f"{system.title}, case {case.name}: {'; '.join(problems)}")
