"""Chart: messages a second of both systems, case by case, as an SVG 1.1 drawing. In: the document. Out: text. Pure.

Each case has a scale of its own, for a message of 25 MB and one of 4 KB share none: the longer bar is the faster
system, the number at its right how many times. Colours are from the Okabe-Ito palette, which colour-blind readers can
tell apart; the text has the reader's own colour scheme.
"""

from __future__ import annotations

from html import escape
from typing import Final

from bench.document import Document
from bench.figures import ratio, summary
from bench.machine import Machine
from bench.table import times
from bench.tables import TITLES

_WIDTH: Final = 900
_LEFT: Final = 400
_BAR: Final = 320
_HEIGHT: Final = 16
_ROW: Final = 2 * _HEIGHT + 16
_TOP: Final = 64
_BOTTOM: Final = 44
_COLOURS: Final = {"relay": "#0072b2", "postfix": "#e69f00"}
_STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.small{font-size:11px}.big{font-weight:600}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}}"
)


def chart(document: Document) -> str:
    """Cases in which both systems were measured."""
    cases = [
        case for case in document.cases if all(summary(document.rounds, case.name, name) is not None for name in TITLES)
    ]
    height = _TOP + len(cases) * _ROW + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
        ' role="img" aria-labelledby="title">',
        '<title id="title">Messages a second, relay and Postfix</title>',
        f"<style>{_STYLE}</style>",
        _text(0, 18, "Messages a second, accepted, on disk and delivered; longer is better", "big"),
        *_legend(document),
    ]
    for place, case in enumerate(cases):
        parts += _bars(document, case.name, case.title, _TOP + place * _ROW)
    parts += [_text(0, height - 10, machine_line(document.machine, document.date), "small"), "</svg>"]
    return "\n".join(parts) + "\n"


def machine_line(machine: Machine, date: str) -> str:
    """Where and when, in one line."""
    return (
        f"{machine.cpu}, {machine.cores} core(s), {machine.memory_gib:.1f} GiB, {machine.distribution},"
        f" Linux {machine.kernel}, fsync {machine.fsync_ms:.2f} ms, commit {machine.commit or 'unknown'}, {date}"
    )


def _legend(document: Document) -> list[str]:
    parts, x = [], 0
    for name, title in TITLES.items():
        version = document.versions.get(title, title)
        parts += [_bar(x, 30, 12, 12, _COLOURS[name]), _text(x + 18, 41, version)]
        x += 30 + 8 * len(version)
    return parts


def _bars(document: Document, case: str, title: str, top: int) -> list[str]:
    found = {name: summary(document.rounds, case, name) for name in TITLES}
    medians = {name: one.rate.median for name, one in found.items() if one is not None}
    longest = max(medians.values()) or 1.0
    parts = [_text(0, top + _HEIGHT + 5, title)]
    for place, (name, median) in enumerate(medians.items()):
        y, width = top + place * (_HEIGHT + 2), round(_BAR * median / longest)
        parts.append(_bar(_LEFT, y, max(width, 1), _HEIGHT, _COLOURS[name]))
        parts.append(_text(_LEFT + width + 6, y + 12, f"{median:,.{0 if median >= 20 else 1}f}", "small"))
    both = ratio(document.rounds, case, lambda one: one.rate)
    if both is not None:
        parts.append(_text(_WIDTH - 90, top + _HEIGHT + 5, times(both.median), "big"))
    return parts


def _bar(x: int, y: int, width: int, height: int, colour: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{colour}"/>'


def _text(x: int, y: int, words: str, kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return f'<text x="{x}" y="{y}"{mark}>{escape(words)}</text>'
