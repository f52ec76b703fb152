"""The table of known attacks names those that are tried, and no others."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_table_and_the_names_of_tests_have_the_same_numbers() -> None:
    table = (ROOT / "SECURITY.md").read_text().partition("## Known attacks")[2]
    listed = set(re.findall(r"^\| (\d\.\d+) \|", table, re.MULTILINE))
    names = [
        name
        for path in (ROOT / "tests").glob("*/test_known_attacks*.py")
        for name in re.findall(r"^def (test_2_\w+)", path.read_text(), re.MULTILINE)
    ]
    assert listed == {number.replace("_", ".") for name in names for number in re.findall(r"2_\d+", name)}
