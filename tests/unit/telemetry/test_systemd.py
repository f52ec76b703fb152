"""What systemd hears from us and what we take from it, over real Unix sockets and real descriptors."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.telemetry.systemd import Notifier, inherited_sockets

_PID = 4711


class _Clock:
    def now(self) -> float:
        return 1_000_000.0

    def monotonic(self) -> float:
        return 12.5


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        yield listening


def _notifier(**environment: str) -> Notifier:
    return Notifier(environment, _PID, _Clock())


def test_states_are_one_datagram_each(manager: socket.socket) -> None:
    """READY, RELOADING with its time, STOPPING and WATCHDOG arrive as sd_notify(3) writes them."""
    notifier = _notifier(NOTIFY_SOCKET=manager.getsockname())
    assert all((notifier.ready("Serving 4 ports"), notifier.reloading(), notifier.watchdog(), notifier.stopping()))
    assert [manager.recv(4096) for _ in range(4)] == [
        b"READY=1\nSTATUS=Serving 4 ports",
        b"RELOADING=1\nMONOTONIC_USEC=12500000",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_status_cannot_smuggle_a_state(manager: socket.socket) -> None:
    """A line break in a status text would be read as another assignment."""
    _notifier(NOTIFY_SOCKET=manager.getsockname()).status("queue 3\nMAINPID=1")
    assert manager.recv(4096) == b"STATUS=queue 3 MAINPID=1"


def test_abstract_socket_is_reached() -> None:
    """A leading @ stands for the NUL of Linux' abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = f"sendrelay-test-{os.getpid()}-{time.monotonic_ns()}"
        listening.bind("\0" + name)
        listening.settimeout(60)
        assert _notifier(NOTIFY_SOCKET="@" + name).ready()
        assert listening.recv(4096) == b"READY=1"


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234", "/nowhere/at/all"])
def test_without_a_manager_nothing_happens(address: str) -> None:
    """Started by hand, or with a socket that is gone, the answer is False and no exception."""
    assert not _notifier(NOTIFY_SOCKET=address).ready()


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(_PID)}, 15.0),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog_interval_is_half_of_what_is_allowed(environment: dict[str, str], interval: float | None) -> None:
    """Twice as often as asked, and never in the name of another process."""
    assert _notifier(NOTIFY_SOCKET="/run/notify", **environment).watchdog_interval == interval
    assert _notifier(**environment).watchdog_interval is None


_CHILD = """
import json, os
from relay.telemetry.systemd import inherited_sockets
environment = dict(os.environ, LISTEN_PID=str(os.getpid()))
found = inherited_sockets(environment, os.getpid())
facts = [(s.name, s.socket.getsockname()[1], s.socket.getblocking(), s.socket.get_inheritable()) for s in found]
print(json.dumps(facts))
"""


def test_sockets_arrive_with_their_names() -> None:
    """Two listening sockets at descriptors 3 and 4, as systemd hands them over; a file between is skipped."""
    with socket.create_server(("127.0.0.1", 0)) as smtp, socket.create_server(("127.0.0.1", 0)) as http:
        null = os.open(os.devnull, os.O_RDONLY)
        order = [smtp.fileno(), null, http.fileno()]
        script = ("import os, sys\n"
                  "fds = [os.dup2(int(fd), 100 + i) for i, fd in enumerate(sys.argv[1:])]\n"
                  "[os.dup2(fd, 3 + i, inheritable=True) for i, fd in enumerate(fds)]\n" + _CHILD)  # fmt: skip
        output = subprocess.run(
            [sys.executable, "-c", script, *map(str, order)],
            env={"LISTEN_FDS": "3", "LISTEN_FDNAMES": "submission:odd:http", "PYTHONPATH": str(Path.cwd())},
            pass_fds=order,
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        os.close(null)
        assert json.loads(output) == [
            ["submission", smtp.getsockname()[1], False, False],
            ["http", http.getsockname()[1], False, False],
        ]


def test_sockets_of_another_process_are_left_alone() -> None:
    """LISTEN_PID names the process they are for; a worker that inherited the variables takes none."""
    assert inherited_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, _PID) == ()
    assert inherited_sockets({}, _PID) == ()
