"""docs/reliability.md lists the fault points of the code, and the harness visits them all."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def in_the_code() -> set[str]:
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "relay").rglob("*.py"))
    return {name for text in texts for name in re.findall(r'faults\.point\("([a-z0-9-]+)"\)', text)}


def test_every_fault_point_is_listed_and_none_is_invented() -> None:
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    table = page[page.index("## The named points") : page.index("## What it has found")]
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE)) == in_the_code()


def test_the_harness_visits_every_fault_point() -> None:
    text = (ROOT / "tests/crash/scenarios.py").read_text(encoding="utf-8")
    points = text[text.index("POINTS = (") : text.index(")  # fmt: skip")]
    assert set(re.findall(r'"([a-z0-9-]+)"', points)) == in_the_code()
