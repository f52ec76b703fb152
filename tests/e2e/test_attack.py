"""The attack of `make attack`, small: a good client is served, and the attackers are told to go."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.process import BenchError, needed


def test_a_good_client_is_served_while_others_attack(tmp_path: Path) -> None:
    try:
        needed("smtp-sink", "postfix")
    except BenchError as missing:
        pytest.skip(str(missing))
    relay = Path(sys.executable).with_name("relay")
    command = [sys.executable, "-m", "bench.attack", "--relay", relay, "--work", tmp_path]
    sizes = ["--slow", "30", "--hostile", "30", "--seconds", "2"]
    done = subprocess.run([*command, *sizes], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"under attack: (1\d|2\d) messages", done.stdout)
    assert "hostile 421" in done.stdout
    assert "slow 220 30" in done.stdout
