"""Tables: one for each part of a run. In: the document. Out: Table values. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Final

from bench.backlog import BODY, Backlog
from bench.document import Document
from bench.features import FEATURES, PREFIX
from bench.figures import Round, faster, ratio, summary
from bench.history import EMPTY, FULL, History
from bench.idle import Idle
from bench.latency import Latency
from bench.table import Table, between, rates, times

TITLES: Final = {"relay": "relay", "postfix": "Postfix"}


def tables(document: Document) -> Iterator[Table]:
    """Of what was measured, in order."""
    if document.rounds:
        yield replace(rates(document.cases, TITLES, document.rounds), notes=_faster(document.rounds))
    if document.latency:
        yield latency_table(document.latency)
    if document.backlog:
        yield backlog_table(document.backlog)
    if document.history:
        yield history_table(document.history)
    if document.features:
        yield feature_table(document.features)
    if document.idle:
        yield idle_table(document.idle)


def _faster(rounds: list[Round]) -> tuple[str, ...]:
    won, pairs = faster(rounds)
    return (f"The relay was the faster one in {won} of {pairs} pairs of rounds.",) if pairs else ()


def latency_table(found: list[Latency]) -> Table:
    """Two lines a load."""
    rows = []
    for one in found:
        dot, lag = one.dot, one.lag
        rows.append((
            one.load, TITLES.get(one.system, one.system), f"{one.rate:,.0f}", f"{one.highest:,.0f}",
            f"{dot['p50']:.1f}", f"{dot['p99']:.1f}", f"{lag['p99']:.1f}",
        ))  # fmt: skip
    head = ("load", "system", "msg/s", "highest msg/s", "dot p50 ms", "dot p99 ms", "from when due p99 ms")
    return Table("Latency at half load", head, rows, left=2)


def backlog_table(found: list[Backlog]) -> Table:
    """One figure a line, a column for each system."""
    lines: list[tuple[str, Callable[[Backlog], str]]] = [
        ("messages queued", lambda one: f"{one.queued:,}"),
        ("how they were made", lambda one: one.made),
        ("made, msg/s", lambda one: f"{one.fill_rate:,.0f}"),
        ("from the start until a port greets, s", lambda one: f"{one.greeting:.1f}"),
        ("from the start until all serves, s", lambda one: f"{one.serving:.1f}"),
        ("memory of all processes then, MB", lambda one: f"{one.memory:,.0f}"),
        ("memory of all processes at most, MB", lambda one: f"{one.memory_most:,.0f}"),
        ("largest process at most, MB", lambda one: f"{one.largest:,.0f}"),
        ("drained from the start on, msg/s", lambda one: f"{one.rate:,.0f}"),
        ("new mail meanwhile, dot p50 / p99 ms", lambda one: f"{one.new_dot['p50']:.1f} / {one.new_dot['p99']:.1f}"),
    ]
    rows: list[list[str]] = [[words, *(figure(one) for one in found)] for words, figure in lines]
    head = ["", *(one.system for one in found)]
    if len(found) == 2:
        mine, other = found
        head.append("ratio")
        of_rates = {"drained from the start on, msg/s": times(mine.rate / other.rate)}
        rows = [[*row, of_rates.get(row[0], "")] for row in rows]
    return Table(f"Restart with a long queue (bodies of {BODY:,} octets, one next hop)", head, rows)


def history_table(found: History) -> Table:
    """Both spools, and their ratio."""
    case = found.rounds[0].case
    rows = []
    for name in (EMPTY, FULL):
        one = summary(found.rounds, case, name)
        assert one is not None
        figures = (f"{one.rate.median:,.0f}", f"({one.rate.low:,.0f}-{one.rate.high:,.0f})", f"{one.cpu.median:.2f}")
        rows.append((name, *figures, f"{found.ready[name]:.1f}", f"{one.peak:.0f}"))
    rate, cpu = _pair(found.rounds, case, FULL, EMPTY)
    rows.append(("ratio", *rate, cpu, "", ""))
    title = f"{found.messages:,} finished messages in the spool ({found.spool_mb:,.0f} MB)"
    return Table(title, ("spool", "msg/s", "(range)", "CPU s/1,000", "start s", "peak MB"), rows)


def feature_table(rounds: list[Round]) -> Table:
    """A line a feature: without it, with it, and the difference."""
    rows = []
    for feature in FEATURES:
        case = PREFIX + feature.name
        off, on = summary(rounds, case, "off"), summary(rounds, case, "on")
        if off is None or on is None:
            continue
        (rate, spread), _ = _pair(rounds, case, "on", "off")
        usual = "on" if feature.usual else "asked for"
        more = _difference(rounds, case, lambda one: one.cpu_per_1000 * 1000)
        figures = (f"{off.rate.median:,.0f}", f"{on.rate.median:,.0f}", rate, spread, f"{off.cpu.median:.2f}",
                   f"{on.cpu.median:.2f}", f"{more:+,.0f}")  # fmt: skip
        rows.append((feature.title, usual, *figures))
    head = ("feature", "usual", "msg/s off", "msg/s on", "on / off", "(range)", "CPU off", "CPU on", "us a message")
    return Table("What features cost", head, rows, left=2)


def idle_table(found: list[Idle]) -> Table:
    """A line a look."""
    rows = [
        (
            one.system,
            one.when,
            f"{one.processes}",
            f"{one.together:.0f}",
            f"{one.worker:.0f}",
            f"{one.cpu:.1%}",
            f"{one.session / 1000:.1f}" if one.session is not None else "",
        )
        for one in found
    ]
    head = ("system", "when", "processes", "MB together", "MB a worker", "CPU of a core", "kB an open session")
    return Table("Idle", head, rows, left=2)


def _pair(rounds: list[Round], case: str, mine: str, other: str) -> tuple[tuple[str, str], str]:
    """Ratio and range of the rates, and the ratio of CPU seconds."""
    rate = ratio(rounds, case, lambda one: one.rate, mine, other)
    cpu = ratio(rounds, case, lambda one: one.cpu_per_1000, mine, other)
    return (times(rate.median), between(rate)) if rate else ("", ""), times(cpu.median) if cpu else ""


def _difference(rounds: list[Round], case: str, figure: Callable[[Round], float]) -> float:
    """The median over pairs that ran one after the other."""
    values = {(one.system, one.number): figure(one) for one in rounds if one.case == case}
    return median(value - values["off", number] for (system, number), value in values.items() if system == "on")
