"""Table: figures in columns, for a terminal or a page, and the one of the rates. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.cases import Case
from bench.figures import Round, Spread, Summary, ratio, spread, summary

QUIET: Final = 0.1
_HEAD: Final = ("case", "system", "msg/s", "(range)", "MB/s", "CPU s/1,000", "peak MB", "others", "dot p50/p99 ms")
_LARGE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """`left`: so many columns are words, the others figures. `notes` stand below."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    notes: Sequence[str] = ()


def text(table: Table) -> str:
    """For a terminal, without title and notes."""
    lines = [table.head, *table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.head))]
    return "\n".join(_line(line, widths, table.left) for line in lines)


def markdown(table: Table) -> str:
    """For a page, without title and notes."""
    marks = ["---" if column < table.left else "---:" for column in range(len(table.head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (table.head, marks, *table.rows))


def render(cases: Sequence[Case], titles: Mapping[str, str], rounds: Sequence[Round]) -> str:
    """The rates as text."""
    return text(rates(cases, titles, rounds))


def rates(cases: Sequence[Case], titles: Mapping[str, str], rounds: Sequence[Round]) -> Table:
    """Three lines a case: each system's medians, then relay / Postfix. `titles` are the systems by name, in order."""
    rows: list[Sequence[str]] = []
    for case in cases:
        first = case.title
        for name, title in titles.items():
            found = summary(rounds, case.name, name)
            if found is not None:
                rows.append((first, title, *_cells(case, found)))
                first = ""
        rows += _ratio_rows(rounds, case)
    return Table("Throughput", _HEAD, rows, left=2)


def disturbance(rounds: Sequence[Round]) -> str:
    """One line on what else ran; a warning where it was so much that rates cannot be relied on."""
    shares = spread(one.others for one in rounds)
    text = f"Other programs took {shares.median:.0%} of the CPU in the median round, {shares.high:.0%} in the worst."
    if shares.high <= QUIET:
        return text
    return f"{text}\nThe machine was busy: do not quote these rates; repeat on a quiet one."


def _cells(case: Case, found: Summary) -> tuple[str, ...]:
    rate = found.rate
    dots = f"{found.dot_ms['p50']:.1f} / {found.dot_ms['p99']:.1f}" if found.dot_ms else ""
    digits = 0 if rate.median >= 20 else 1
    return (
        f"{rate.median:,.{digits}f}",
        f"({rate.low:,.{digits}f}-{rate.high:,.{digits}f})",
        f"{rate.median * case.size / 1e6:,.0f}" if case.size >= _LARGE else "",
        f"{found.cpu.median:.2f}",
        f"{found.peak:.0f}",
        f"{found.others.median:.0%}",
        dots,
    )


def _ratio_rows(rounds: Sequence[Round], case: Case) -> list[Sequence[str]]:
    rate = ratio(rounds, case.name, lambda one: one.rate)
    cpu = ratio(rounds, case.name, lambda one: one.cpu_per_1000)
    if rate is None:
        return []
    return [("", "ratio", times(rate.median), between(rate), "", times(cpu.median) if cpu else "", "", "", "")]


def times(value: float) -> str:
    """A ratio."""
    return f"{value:.2f}x"


def between(values: Spread) -> str:
    """Its range."""
    return f"({values.low:.2f}-{values.high:.2f})"


def _line(row: Sequence[str], widths: Sequence[int], left: int) -> str:
    cells = [
        cell.ljust(width) if column < left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
