"""The supervisor: whoever dies or hangs is replaced, not faster than it should be, and nobody outlives it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.app import Sockets
from relay.in_force import InForce
from relay.ports import SystemClock
from relay.settings import ServerSettings, Settings
from relay.supervisor import Supervisor
from relay.telemetry.systemd import Notifier

CHILD = Path(__file__).with_name("supervised.py")


@contextmanager
def supervised(folder: Path, behaviour: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(CHILD), str(folder), behaviour]
    metrics = folder / "metrics"
    metrics.mkdir()
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(true: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def starts(folder: Path, index: int) -> int:
    return len(list(folder.glob(f"{index}.*")))


def pid_of(folder: Path, name: str) -> int:
    return int((folder / name).read_text())


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_ready_is_said_once_every_worker_beats_and_sigterm_ends_all(tmp_path: Path) -> None:
    with supervised(tmp_path, "well") as process:
        until((tmp_path / "ready").exists)
        workers = [pid_of(tmp_path, "0.0"), pid_of(tmp_path, "1.0")]
        process.send_signal(signal.SIGHUP)
        until(lambda: (tmp_path / "hup0").exists() and (tmp_path / "hup1").exists())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not any(map(lives, workers))


def test_a_worker_that_is_killed_is_started_again_alone(tmp_path: Path) -> None:
    with supervised(tmp_path, "well") as process:
        until((tmp_path / "ready").exists)
        os.kill(pid_of(tmp_path, "0.0"), signal.SIGKILL)
        until(lambda: starts(tmp_path, 0) == 2)
        assert starts(tmp_path, 1) == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert "worker 0 ended with -9; starting it again" in process.stderr.read()


def test_a_worker_that_hangs_is_killed_and_started_again(tmp_path: Path) -> None:
    with supervised(tmp_path, "hang") as process:
        until(lambda: starts(tmp_path, 0) == 2)
        assert not lives(pid_of(tmp_path, "0.0"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.parametrize(("looked", "returncode"), [(90.0, None), (0.5, -signal.SIGKILL)], ids=["all", "alone"])
def test_a_machine_that_stood_still_costs_no_worker(looked: float, returncode: int | None) -> None:
    """A worker is silent for 90 seconds; so was the supervisor, or it looked half a second ago."""
    settings = Settings(server=ServerSettings(workers=2))
    supervisor = Supervisor(InForce(lambda: settings), Sockets({}, []), Notifier({}, 1, SystemClock()), lambda: None)
    now = time.monotonic()
    with subprocess.Popen(["/bin/sleep", "600"]) as worker:
        for child in supervisor._children:
            child.pid, child.ready, child.heard_at = worker.pid, True, now - 90
        supervisor._looked_at = now - looked
        supervisor._look_around()
        supervisor._look_around()
        if returncode is None:
            assert lives(worker.pid)
            worker.kill()
        else:
            assert worker.wait(60) == returncode


def test_a_crash_loop_slows_down(tmp_path: Path) -> None:
    with supervised(tmp_path, "crash") as process:
        until(lambda: starts(tmp_path, 0) >= 4)
        times = [(tmp_path / f"0.{number}").stat().st_mtime for number in range(4)]
        waits = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert waits[0] >= 0.2
        assert waits[1] >= 0.4
        assert waits[2] >= 0.8
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_bug_that_ends_a_worker_leaves_its_traceback(tmp_path: Path) -> None:
    with supervised(tmp_path, "bug") as process:
        until(lambda: starts(tmp_path, 0) >= 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr is not None
        said = process.stderr.read()
    assert "RuntimeError: a bug of the worker" in said
    assert "worker 0 ended with 1; starting it again" in said


def test_a_worker_with_something_to_fix_ends_the_start_with_2(tmp_path: Path) -> None:
    with supervised(tmp_path, "refuse") as process:
        assert process.wait(60) == 2
        assert not (tmp_path / "ready").exists()
        assert starts(tmp_path, 0) == 1
        # The other may have been told to end before it could write its pid.
        assert not (tmp_path / "1.0").exists() or not lives(pid_of(tmp_path, "1.0"))


def test_workers_end_when_their_supervisor_is_gone(tmp_path: Path) -> None:
    with supervised(tmp_path, "well") as process:
        until((tmp_path / "ready").exists)
        process.kill()
        process.wait()
        until(lambda: (tmp_path / "orphan0").exists() and (tmp_path / "orphan1").exists())
