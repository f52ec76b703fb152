"""Reading the documentation: tables and links of Markdown pages."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
_CELLS = re.compile(r"(?<!\\)\|")


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands below `## heading`, up to the next heading of that rank."""
    _, found, rest = text.partition(f"\n## {heading}\n")
    assert found, f"no section {heading!r}"
    return rest.partition("\n## ")[0]


def table(text: str) -> list[list[str]]:
    """The cells of every table row of `text`, without heads and rules; code marks stay."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in _CELLS.split(line)[1:-1]] for line in lines]
    rules = [number for number, row in enumerate(rows) if all(re.fullmatch(r":?-+:?", cell) for cell in row)]
    return [row for number, row in enumerate(rows) if number not in rules and number + 1 not in rules]


def names(text: str) -> list[str]:
    """The first cell of every row, without its code marks."""
    return [row[0].strip("`") for row in table(text)]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text)
