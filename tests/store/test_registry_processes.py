"""Several processes on one registry: commands beside each other, beside a server, and killed in mid commit."""

import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass

import pytest

from relay.store.registry import REGISTRY_FILE, Registry
from relay.store.registry_admin import RegistryAdmin

HASH = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0$first"


@dataclass
class StoppedClock:
    """A time that never moves."""

    def now(self) -> float:
        return 1000.0

    def monotonic(self) -> float:
        return 1000.0


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python of its own; pipes for both sides."""
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


WRITER = f"""
    import sys
    from pathlib import Path
    from relay.mail.errors import StoreError
    from relay.mail.session import SenderRights
    from relay.ports import SystemClock
    from relay.store.registry_admin import RegistryAdmin

    name = sys.argv[2]
    print("ready", flush=True)
    sys.stdin.readline()
    won = 0
    for number in range(10):
        with RegistryAdmin.open(Path(sys.argv[1]), SystemClock()) as admin:
            admin.add_credential(f"{{name}}-{{number}}", name, {HASH!r}, SenderRights())
        with RegistryAdmin.open(Path(sys.argv[1]), SystemClock()) as admin:
            try:
                admin.add_credential(f"shared-{{number}}", "shared", {HASH!r}, SenderRights())
                won += 1
            except StoreError as error:
                assert "taken" in str(error), error
    print(won)
"""


def test_writers_in_several_processes_lose_nothing_and_share_nothing(tmp_path):
    """Four commands at once from an empty folder: the migration runs once, each name has one winner."""
    writers = [start(WRITER, tmp_path, name) for name in ("w1", "w2", "w3", "w4")]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    registry = Registry(tmp_path / REGISTRY_FILE)
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    while any(writer.poll() is None for writer in writers):
        registry.refresh()  # a server reading all along disturbs nobody
    outputs = [writer.communicate(timeout=60) for writer in writers]
    assert [error for _, error in outputs] == [""] * 4
    assert sum(int(output) for output, _ in outputs) == 10
    registry.refresh(5)
    expected = {f"{name}-{number}" for name in ("w1", "w2", "w3", "w4", "shared") for number in range(10)}
    assert all(registry.find_credential(name) for name in expected)
    with RegistryAdmin.open(tmp_path, StoppedClock()) as admin:
        assert {one.username for one in admin.credentials()} == expected
    registry.close()


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from relay.mail.session import SenderRights
    from relay.ports import SystemClock
    from relay.store.registry_admin import RegistryAdmin

    admin = RegistryAdmin.open(Path(sys.argv[1]), SystemClock())
    connection = admin._file._connection
    connection.pragma("cache_size", 1)  # pages spill into the file before the commit
    connection.execute("BEGIN EXCLUSIVE; UPDATE credential SET disabled_at = 1")
    for number in range(500):
        connection.execute(
            "INSERT INTO account (id, display_name, created_at) VALUES (?, ?, 0)", (f"a{number}", "x" * 200)
        )
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("loaded", [True, False])
def test_a_command_killed_in_mid_commit_is_rolled_back_by_the_reader(tmp_path, loaded):
    """The half-written change is undone, whether the server had the file open or opens it now."""
    with RegistryAdmin.open(tmp_path, StoppedClock()) as admin:
        admin.add_credential("app1", None, HASH, admin_rights())
    registry = Registry(tmp_path / REGISTRY_FILE)
    if loaded:
        registry.refresh()
    killed = start(KILLED, tmp_path)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / f"{REGISTRY_FILE}-journal").stat().st_size > 0
    registry.refresh()
    assert registry.find_credential("app1").account == "default"
    assert not (tmp_path / f"{REGISTRY_FILE}-journal").exists()
    with RegistryAdmin.open(tmp_path, StoppedClock()) as admin:
        assert [one.id for one in admin.accounts()] == ["default"]
    registry.close()


def admin_rights():
    from relay.mail.session import SenderRights

    return SenderRights()
