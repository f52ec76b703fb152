"""Table: the figures as lines for a terminal or a text file. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from bench.cases import Case
from bench.figures import Round, Spread, Summary, ratio, spread, summary

QUIET: Final = 0.1
_HEAD: Final = ("case", "system", "msg/s", "(range)", "CPU s/1,000", "others", "final dot p50/p99 ms")


def render(cases: Sequence[Case], titles: Mapping[str, str], rounds: Sequence[Round]) -> str:
    """Three lines a case: each system's medians, then relay / Postfix. `titles` are the systems by name, in order."""
    rows: list[Sequence[str]] = [_HEAD]
    for case in cases:
        first = case.title
        for name, title in titles.items():
            found = summary(rounds, case.name, name)
            if found is not None:
                rows.append((first, title, *_cells(found)))
                first = ""
        rows += _ratio_rows(rounds, case)
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(_line(row, widths) for row in rows)


def disturbance(rounds: Sequence[Round]) -> str:
    """One line on what else ran; a warning where it was so much that rates cannot be relied on."""
    shares = spread(one.others for one in rounds)
    text = f"Other programs took {shares.median:.0%} of the CPU in the median round, {shares.high:.0%} in the worst."
    if shares.high <= QUIET:
        return text
    return f"{text}\nThe machine was busy: do not quote these rates; repeat on a quiet one."


def _cells(found: Summary) -> tuple[str, str, str, str, str]:
    rate = found.rate
    dots = f"{found.dot_ms['p50']:.1f} / {found.dot_ms['p99']:.1f}" if found.dot_ms else ""
    return (
        f"{rate.median:,.0f}",
        f"({rate.low:,.0f}-{rate.high:,.0f})",
        f"{found.cpu.median:.2f}",
        f"{found.others.median:.0%}",
        dots,
    )


def _ratio_rows(rounds: Sequence[Round], case: Case) -> list[Sequence[str]]:
    rate = ratio(rounds, case.name, lambda one: one.rate)
    cpu = ratio(rounds, case.name, lambda one: one.cpu_per_1000)
    if rate is None:
        return []
    return [("", "ratio", f"{rate.median:.2f}x", _range(rate), f"{cpu.median:.2f}x" if cpu else "", "", "")]


def _range(values: Spread) -> str:
    return f"({values.low:.2f}-{values.high:.2f})"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.ljust(width) if column < 2 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
