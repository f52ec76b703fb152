"""Faults: nothing is armed unless the environment says so, and one process dies where it says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay import faults


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    faults.arm({})


def code_of(body: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        body()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def passages(name: str, count: int, **environment: str) -> int:
    def body() -> None:
        faults.arm(environment)
        for _ in range(count):
            faults.point(name)

    return code_of(body)


def test_nothing_happens_unless_it_is_armed() -> None:
    assert passages("before-commit", 3) == 0
    assert passages("before-commit", 3, RELAY_FAULT="after-commit") == 0


def test_the_process_dies_at_the_passage_asked_for() -> None:
    assert passages("before-commit", 1, RELAY_FAULT="before-commit") == 137
    assert passages("before-commit", 2, RELAY_FAULT="before-commit:3") == 0
    assert passages("before-commit", 3, RELAY_FAULT="before-commit:3") == 137


def test_only_the_process_that_takes_the_token_dies(tmp_path: Path) -> None:
    token = tmp_path / "once"
    token.touch()
    given = {"RELAY_FAULT": "before-commit", "RELAY_FAULT_ONCE": str(token)}
    assert passages("before-commit", 1, **given) == 137
    assert not token.exists()
    assert passages("before-commit", 1, **given) == 0
