"""What can go wrong, one function each: brings a Stage into trouble under load and leaves it running and well."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from client import Clients, until_busy
from ledger import ClientLedger, Verdict, reconcile
from relay_process import RelayProcess
from sink import STAGES, Sink

POINTS = (
    "after-dot", "body-before-rename", "body-after-rename", "before-commit", "after-commit", "before-250",
    "attempt-begun", "before-message", "message-sent", "answer-read", "recorded", "recovering", "lane-opened",
    "pruning",
)  # fmt: skip


@dataclass
class Stage:
    """One relay, one next hop, and both ledgers."""

    folder: Path
    seed: int
    tree: Path | None = None
    workers: int = 2
    patience: float = 120.0
    kills: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.client = ClientLedger()
        self.sink = Sink(self.seed)
        self.sink.start()
        self.relay = RelayProcess(self.folder / "var", self.sink.port, workers=self.workers, tree=self.tree)
        self._crowds = 0

    def close(self) -> None:
        self.relay.signal(signal.SIGCONT)
        if self.relay.process is not None and self.relay.process.poll() is None:
            self.kills.append(self.relay.kill("all", self.dice))
        self.sink.stop()

    def clients(self, count: int = 4) -> Clients:
        self._crowds += 1
        return Clients(self.relay.ports, self.client, self.seed * 1000 + self._crowds, count)

    def drained(self) -> Verdict:
        """Let everything that waits go out, then compare the ledgers."""
        self.sink.faults, self.sink.later = {}, 0.0
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            missing = any(not self.sink.ledger.copies.get(recipient) for recipient in self.client.acknowledged)
            if not missing and not self.relay.waiting():
                break
            time.sleep(0.3)
        time.sleep(0.5)
        return reconcile(self.client, self.sink.ledger, self.kills)


@contextmanager
def stage(folder: Path, seed: int, tree: Path | None, patience: float, workers: int = 2) -> Iterator[Stage]:
    made = Stage(folder, seed, tree, workers, patience)
    try:
        yield made
    finally:
        made.close()


def random_kills(one: Stage, rounds: int) -> None:
    """SIGKILL at random moments, to everybody, one worker or the supervisor; the next hop misbehaves now and then."""
    one.relay.start()
    with one.clients():
        for number in range(rounds):
            one.sink.faults = {one.dice.choice(STAGES): 0.1} if number % 3 == 0 else {}
            one.sink.later = 0.2 if number % 5 == 0 else 0.0
            until_busy(one.client, 15)
            time.sleep(one.dice.uniform(0.0, 0.3))
            whom = one.dice.choice(("all", "all", "worker", "supervisor"))
            one.kills.append(one.relay.kill(whom, one.dice))
            if whom != "worker":
                one.relay.start()
        until_busy(one.client, 15)


def fault_point(one: Stage, point: str, passage: int) -> None:
    """One worker dies at a named point, the supervisor starts it again."""
    token = one.folder / "once"
    token.touch()
    fault = {"RELAY_FAULT": f"{point}:{passage}", "RELAY_FAULT_ONCE": str(token)}
    if point == "recovering":
        passage = 1
        fault["RELAY_FAULT"] = "recovering"
    one.relay.start(fault, ready=False)
    end = time.monotonic() + 30
    with one.clients():
        while token.exists():
            if time.monotonic() > end:
                raise TimeoutError(f"nobody came to {point} for the {passage}. time")
            time.sleep(0.02)
        one.kills.append(time.monotonic())
        one.relay.until_ready()
        until_busy(one.client, 20)


def stages_of_the_next_hop(one: Stage) -> None:
    """The next hop resets half of its connections at one stage after the other."""
    one.relay.start()
    for stage_name in STAGES:
        one.sink.faults = {stage_name: 0.5}
        with one.clients(2):
            until_busy(one.client, 25)
        time.sleep(0.3)


def shrinking(one: Stage) -> None:
    """4 workers, then 1, then 3: spools that no worker has any more are adopted and emptied."""
    for workers in (4, 1, 3):
        one.relay.configure(workers=workers)
        one.relay.start()
        one.sink.later = 1.0
        with one.clients():
            until_busy(one.client, 40)
        one.sink.later = 0.0
        one.kills.append(one.relay.kill("all", one.dice))
    one.relay.start()


def full_disk(one: Stage) -> None:
    """The disk fills up under load and has room again: no restart, nothing lost, nothing sent again and again.

    Needs a data folder on a filesystem of its own: see `small_filesystem`.
    """
    one.relay.start()
    ballast = one.relay.var / "ballast"
    with one.clients():
        until_busy(one.client, 40)
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 65_536)
            except OSError:
                pass
        time.sleep(4)
        ballast.unlink()
        one.kills.append(time.monotonic())
        until_busy(one.client, 40)


def dead_dns(one: Stage) -> None:
    """No resolver answers: mail is taken and kept, and goes out once there is a way."""
    way = one.relay._way
    one.relay.configure(way='mx_override = ""')
    one.relay.start()
    with one.clients(2):
        until_busy(one.client, 40)
    one.kills.append(one.relay.kill("all", one.dice))
    one.relay.configure(way=way)
    one.relay.start()


def clock_jumps(one: Stage) -> None:
    """The clock jumps six days ahead, then two hours back, while mail waits: nothing bounces, nothing stalls."""
    times = one.folder / "time"
    times.write_text("+0")
    one.sink.later = 1.0
    library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
    one.relay.start(
        {
            "LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(times), "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }
    )  # fmt: skip
    with one.clients(2):
        until_busy(one.client, 40)
        for jump in ("+6d", "-2h"):
            times.write_text(jump)
            time.sleep(3)
            until_busy(one.client, 20)


def power_cut(one: Stage) -> None:
    """What a disk holds when the power goes: kill -9 proves nothing about fsync, for the page cache survives it.

    The data folder is ext4 on a loop device whose file lies in memory (`power_cut_disk`); the relay is stopped in
    mid-load, the file is copied as the disk is that moment, and the relay goes on from the copy. Needs root.
    """
    disk = one.relay.var
    os.sync()  # the configuration is older than the accident
    one.sink.later = 1.0
    one.relay.start()
    with one.clients():
        until_busy(one.client, one.dice.randint(30, 150))
        one.relay.signal(signal.SIGSTOP)
        with one.client.lock:
            shutil.copyfile(disk.with_name("disk.img"), disk.with_name("copy.img"))
        one.kills.append(one.relay.kill("all", one.dice))
    _run("umount", str(disk))
    disk.with_name("copy.img").replace(disk.with_name("disk.img"))
    _run("mount", "-o", "loop", str(disk.with_name("disk.img")), str(disk))
    one.relay.start()


@contextmanager
def small_filesystem(folder: Path, megabytes: int) -> Iterator[None]:
    """`folder` as a filesystem of its own, in memory. Needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder))
    try:
        yield
    finally:
        _run("umount", "-l", str(folder))


@contextmanager
def power_cut_disk(folder: Path) -> Iterator[None]:
    """`folder/var` as ext4 on a loop device over `folder/disk.img`, which lies in memory. Needs root."""
    with small_filesystem(folder, 400):
        image, mounted = folder / "disk.img", folder / "var"
        with image.open("wb") as file:
            file.truncate(120 * 1024 * 1024)
        _run("mkfs.ext4", "-q", "-F", str(image))
        mounted.mkdir()
        _run("mount", "-o", "loop", str(image), str(mounted))
        try:
            yield
        finally:
            _run("umount", "-l", str(mounted))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PATH": _PATH})
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="relay-crash-"))


Scenario = Callable[[Stage], None]
