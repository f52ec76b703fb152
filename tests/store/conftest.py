"""A spool of each engine, opened in a folder of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from spool_kit import Bench, ManualClock

ENGINES = {"sqlite": Bench}


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        one = ENGINES[request.param](tmp_path / "spool", ManualClock(), runner)
        one.open()
        yield one
        one.close()
