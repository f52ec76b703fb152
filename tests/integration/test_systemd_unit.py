"""systemd/: the units are right, as tight as they say, and the server behaves as they assume.

Needs systemd-analyze and systemd-socket-activate (package `systemd`); what needs them is skipped where they are absent.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from relay.app import Sockets
from relay.cli.config_text import shipped_config
from relay.in_force import InForce
from relay.ports import SystemClock
from relay.settings import Settings
from relay.supervisor import Supervisor
from relay.telemetry.systemd import Notifier

UNITS = Path(__file__).resolve().parents[2] / "systemd"
SERVICE = UNITS / "sendrelay.service"
EXPOSURE_LIMIT = 2.0


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here; apt-get install systemd")
    return found


def _value(key: str) -> str:
    found = re.findall(rf"^{key}=(.*)$", SERVICE.read_text(), re.MULTILINE)
    return str(found[-1])


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """The units with a program that exists here; systemd-analyze looks for it."""
    for unit in (SERVICE, *UNITS.glob("*.socket")):
        text = unit.read_text().replace("ExecStart=/opt/sendrelay/bin/relay", "ExecStart=/bin/sh")
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def test_systemd_analyze_finds_nothing_to_say_about_the_units(copies: Path) -> None:
    command = [_tool("systemd-analyze"), "verify", "--man=no", *map(str, sorted(copies.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    ours = [line for line in done.stderr.splitlines() if "sendrelay" in line or str(copies) in line]
    assert (done.returncode, ours) == (0, [])


def test_the_drop_ins_of_the_page_are_right_too(copies: Path) -> None:
    page = (UNITS.parent / "docs/howto/systemd.md").read_text()
    examples = re.findall(r"^```ini\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert examples
    unit = copies / SERVICE.name
    unit.write_text("\n".join([unit.read_text(), *examples]))
    command = [_tool("systemd-analyze"), "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "sendrelay" in line]) == (0, [])


def test_the_service_is_confined(copies: Path) -> None:
    command = [_tool("systemd-analyze"), "security", "--offline=true", "--no-pager", str(copies / SERVICE.name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a file; systemd 250 or later can")
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) < EXPOSURE_LIMIT


def test_the_times_of_the_unit_leave_room_for_the_drain() -> None:
    drain = 2 * Settings().server.drain_timeout
    assert float(_value("TimeoutStopSec")) > drain + 10
    assert float(_value("WatchdogSec")) > drain
    assert _value("RestartPreventExitStatus") == "2"


def test_every_standard_listener_has_a_socket_unit_of_its_name_and_port() -> None:
    settings = Settings.model_validate(tomllib.loads(shipped_config()))
    units = {}
    for path in UNITS.glob("*.socket"):
        text = path.read_text()
        name, port = (re.search(rf"^{key}=(.+)$", text, re.MULTILINE) for key in ("FileDescriptorName", "ListenStream"))
        assert name is not None
        assert port is not None
        assert path.name == f"sendrelay-{name[1]}.socket"
        units[name[1]] = port[1]
    assert units == {one.name: f"{one.address}:{one.port}" for one in settings.listener}


def test_a_worker_that_is_not_ready_yet_leaves_the_watchdog_of_the_others_alone(tmp_path: Path) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}, os.getpid(), SystemClock())
    announced: list[bool] = []
    settings = Settings.model_validate({"server": {"workers": 2}})
    supervisor = Supervisor(InForce(lambda: settings), Sockets({}, []), notifier, lambda: announced.append(True))
    first, second = supervisor._children
    now = time.monotonic()
    for child in (first, second):
        # Running, as far as the supervisor knows; nothing here sends this pid a signal.
        child.pid, child.ready, child.heard_at = os.getpid(), True, now
    supervisor._look_around()
    second.ready = False
    supervisor._look_around()
    manager.setblocking(False)
    with manager:
        assert [manager.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
    assert announced == [True]


def _heard(manager: socket.socket, wanted: bytes, seconds: float = 60) -> bytes:
    manager.settimeout(seconds)
    while True:
        message = manager.recv(1000)
        if wanted in message:
            return message


@pytest.mark.parametrize("workers", [1, 2])
def test_the_service_manager_hears_of_readiness_life_and_end(tmp_path: Path, workers: int) -> None:
    """Type=notify, WatchdogSec, KillMode=mixed: SIGTERM to the main process alone ends all of it with 0."""
    config = _sandbox(tmp_path, workers)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"}
        with (tmp_path / "log").open("wb") as log:
            command = [sys.executable, "-m", "relay", "--config", str(config), "serve"]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            assert f"STATUS={workers} worker(s) serving".encode() in _heard(manager, b"READY=1")
            _heard(manager, b"WATCHDOG=1")
            process.send_signal(signal.SIGHUP)
            _heard(manager, b"WATCHDOG=1")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, (tmp_path / "log").read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(30)


def test_ports_bound_by_systemd_are_served(tmp_path: Path) -> None:
    activate = _tool("systemd-socket-activate")
    config = _sandbox(tmp_path, 1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [activate, "-l", f"127.0.0.1:{port}", "--fdname=submission", sys.executable, "-m", "relay"]
    with (tmp_path / "log").open("wb") as log:
        environment = os.environ | {"PYTHONPATH": str(UNITS.parent)}
        passed = [f"-E{name}={environment[name]}" for name in ("PATH", "PYTHONPATH")]
        process = subprocess.Popen(
            [*command[:1], *passed, *command[1:], "--config", str(config), "serve"], stdout=log, stderr=log
        )
    try:
        with _connected(port) as client:
            client.settimeout(60)
            assert client.recv(100).startswith(b"220 localhost ESMTP")
    finally:
        process.terminate()
        process.wait(60)
    assert f'"listener":"submission","address":"127.0.0.1","port":{port}' in (tmp_path / "log").read_text()


def _connected(port: int) -> socket.socket:
    """A connection, as soon as somebody listens."""
    end = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=60)
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.05)


def _sandbox(folder: Path, workers: int) -> Path:
    """A sandbox whose ports are the system's choice."""
    command = [sys.executable, "-m", "relay", "init", "--sandbox", "--var", str(folder / "var")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    config = folder / "var/relay.toml"
    text = re.sub(r"^port = \d+$", "port = 0", config.read_text(), flags=re.MULTILINE)
    config.write_text(text.replace("workers = 1", f"workers = {workers}") + "\n[http]\nport = 0\n")
    return config
