"""The fuzzer's targets run, on its seeds: `make fuzz` looks for what breaks them, this for whether they work."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "fuzz"
TARGETS = re.findall(r'^    "(\w+)": \(\d+, \d+\),$', (FOLDER / "run.py").read_text(encoding="utf-8"), re.MULTILINE)
_EACH = """
import sys
sys.path.insert(0, {folder!r})
import run
target = run._target({name!r})
if hasattr(target, "every"):
    target.every = 0
seeds = list(target.seeds())
for seed in seeds:
    target(seed)
print(len(seeds), len(target.counts), getattr(target, "readers", 1))
"""


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_passes_and_every_reader_has_one(name: str) -> None:
    code = _EACH.format(folder=str(FOLDER), name=name)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert told.returncode == 0, told.stderr
    seeds, counted, readers = map(int, told.stdout.split())
    assert seeds > 20
    assert counted >= readers


def test_every_target_is_one_of_the_run() -> None:
    modules = {path.stem for path in FOLDER.glob("*.py") if re.search(r"^def target\(", path.read_text(), re.MULTILINE)}
    assert modules == set(TARGETS)
    assert len(TARGETS) > 5
