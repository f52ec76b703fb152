"""Cases, the machine's facts, the relay's configuration, and processes; none of it needs Postfix."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import threading
from pathlib import Path

import pytest

from bench.cases import CASES, SESSIONS, scaled, select
from bench.client import Load, Supply
from bench.figures import Round
from bench.machine import busy_seconds, cpu_model, filesystem
from bench.process import BenchError, Child, cpu_seconds, free_port, run
from bench.relay_server import RelayServer
from bench.source import quantiles
from relay.settings import load_settings

MOUNTS = """\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
35 21 0:30 / /tmp rw - tmpfs tmpfs rw
36 21 254:1 / /srv/mail\\040spool rw shared:7 - xfs /dev/vdb rw
37 36 254:2 / /srv/mail\\040spool rw - btrfs /dev/vdc rw
garbage
"""


def test_no_name_selects_every_case():
    assert select([]) == CASES


def test_cases_keep_their_order_whatever_the_order_of_names():
    assert [case.name for case in select(["large", "kept"])] == ["kept", "large"]


def test_an_unknown_case_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match="no case 'fast'; there are: kept, single"):
        select(["kept", "fast"])


def test_scaling_keeps_proportions_and_leaves_a_message_for_each_session():
    kept, large = CASES[0], next(case for case in CASES if case.name == "large")
    assert scaled(kept, 400).messages == 400
    assert scaled(large, 10 * kept.messages).messages == 10 * large.messages
    assert scaled(large, 1).messages == SESSIONS


def test_only_the_dkim_case_sends_from_the_domain_that_has_a_key():
    assert [case.name for case in CASES if case.sender.endswith("@bench.example")] == ["dkim"]


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/home/bench", "ext4 on /dev/vda"),
        ("/tmp/bench", "tmpfs on tmpfs"),
        ("/tmpfile", "ext4 on /dev/vda"),
        ("/srv/mail spool/queue", "btrfs on /dev/vdc"),
    ],
)
def test_filesystem_is_the_one_mounted_nearest_above_the_folder(folder, expected):
    assert filesystem(MOUNTS, Path(folder)) == expected


def test_cpu_is_named_as_the_kernel_names_it():
    assert cpu_model("processor\t: 0\nmodel name\t: Example 9000\nmodel name\t: Other\n") == "Example 9000"
    assert cpu_model("") == os.uname().machine


def test_busy_time_leaves_out_idle_iowait_and_what_guests_count_twice():
    ticks = os.sysconf("SC_CLK_TCK")
    values = [1, 2, 4, 1000, 1000, 8, 16, 32, 500, 500]
    line = "cpu  " + " ".join(str(value * ticks) for value in values)
    assert busy_seconds(f"{line}\ncpu0 9 9 9 9 9 9 9 9 9 9\n") == 63.0


def test_quantiles_are_milliseconds_and_nothing_for_no_figures():
    assert quantiles([value / 1000 for value in range(1, 101)]) == {
        "p50": 51.0,
        "p90": 91.0,
        "p99": 100.0,
        "max": 100.0,
    }
    assert quantiles([]) == {}


def test_each_message_of_a_supply_has_its_own_id_and_the_size_asked_for():
    load = Load("127.0.0.1", 25, messages=3, sessions=1, size=4096, sender="a@b.example", recipient="c@d.example")
    supply = Supply(load)
    messages = [message for message, _ in itertools.takewhile(lambda one: one is not None, iter(supply.next, None))]
    heads, bodies = zip(*(message.split(b"\r\n\r\n", 1) for message in messages), strict=True)
    assert len(set(heads)) == 3
    assert {len(body.removesuffix(b".\r\n")) for body in bodies} == {4096}
    assert all(body.endswith(b"\r\n.\r\n") for body in bodies)


def test_the_configuration_written_for_the_relay_is_valid_and_durable(tmp_path):
    program = tmp_path / "relay"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    relay = RelayServer(tmp_path / "work", program, workers=2)
    relay.prepare()
    settings = load_settings(tmp_path / "work" / "relay.toml")
    assert settings.server.var == tmp_path / "work" / "var"
    assert settings.smarthost["sink"].port == relay.sink.port
    assert {listener.name: listener.port for listener in settings.listener} | {
        "http": settings.http.port
    } == relay.ports
    assert all(listener.address == "127.0.0.1" for listener in settings.listener)
    # The tuning is the program's own: what every user gets.
    assert settings.model_fields_set <= {"server", "log", "http", "inbound", "listener", "smarthost", "route"}


def test_a_program_that_fails_is_reported_with_its_last_words():
    with pytest.raises(BenchError, match="it failed with code 3: the reason"):
        run(["/bin/sh", "-c", "echo early >&2; echo the reason >&2; exit 3"], "it")


def test_a_program_that_is_not_there_is_reported_by_name(tmp_path):
    with pytest.raises(BenchError, match=r"cannot be started: .*nothing-here"):
        run([str(tmp_path / "nothing-here")], "it")


@pytest.fixture
def sleeper(tmp_path):
    """A child that lives and does nothing."""
    child = Child(["/bin/sleep", "20"], tmp_path / "log")
    yield child
    child.stop()


def test_a_bound_port_with_nobody_behind_it_is_not_served(sleeper):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with pytest.raises(BenchError, match=f"does not answer on port {port}"):
            sleeper.wait_for_port(port, timeout=0.2, patience=0.1)


@pytest.mark.parametrize(("greeting", "served"), [(b"220 ready\r\n", True), (b"421 not now\r\n", False), (b"", False)])
def test_a_port_is_served_when_somebody_greets_with_220(sleeper, greeting, served):
    def greet():
        with listening.accept()[0] as client:
            client.sendall(greeting)
            client.shutdown(socket.SHUT_WR)
            client.recv(100)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        greeter = threading.Thread(target=greet)
        greeter.start()
        with contextlib.nullcontext() if served else pytest.raises(BenchError, match="does not answer"):
            timeout, patience = (60, 60) if served else (0.3, 0.2)
            sleeper.wait_for_port(listening.getsockname()[1], timeout=timeout, patience=patience)
        greeter.join()


def test_a_child_that_ends_early_is_reported_with_its_log(tmp_path):
    child = Child(["/bin/sh", "-c", "exit 7"], tmp_path / "child.log")
    with pytest.raises(BenchError, match=r"ended with code 7; see .*child\.log"):
        child.wait_for_port(free_port(), timeout=60)


def test_cpu_seconds_count_children_that_have_ended(tmp_path):
    over = tmp_path / "over"
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    script = "import pathlib, subprocess, sys, time\n"
    script += f"subprocess.run([sys.executable, '-c', {burn!r}]); pathlib.Path({str(over)!r}).touch(); time.sleep(20)"
    child = Child([sys.executable, "-S", "-c", script], tmp_path / "log")
    try:
        assert _comes(over.exists)
        assert cpu_seconds(child.pid) >= 0.28
    finally:
        child.stop()


def _comes(fact, timeout=60.0):
    pause = threading.Event()
    return any(fact() or pause.wait(0.02) for _ in range(int(timeout / 0.02)))


def test_raw_figures_hold_every_value_the_table_is_made_of():
    assert set(Round.__slots__) == {
        "case",
        "system",
        "number",
        "messages",
        "seconds",
        "cpu",
        "others",
        "dot_ms",
        "peak",
    }
