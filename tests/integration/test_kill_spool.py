"""A process that spools is killed at random moments; whatever it had told of is there afterwards (promises 1 and 3)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from spool_child import THRESHOLD

from relay.mail.errors import StoreError
from relay.ports import SystemClock
from relay.store.spool import SqliteSpool

KILLS = 24
CHILD = Path(__file__).with_name("spool_child.py")
WAITING = ("queued", "deferred")


@dataclass
class Told:
    """What the killed processes have told of."""

    digests: dict[str, str] = field(default_factory=dict)
    begun: set[tuple[str, int]] = field(default_factory=set)
    ended: set[tuple[str, int]] = field(default_factory=set)

    def read(self, lines: str) -> None:
        for line in lines.splitlines():
            match line.split():
                case ["enqueued", message_id, digest]:
                    assert message_id not in self.digests, "an id was given twice"
                    self.digests[message_id] = digest
                case ["begun", message_id, n]:
                    self.begun.add((message_id, int(n)))
                case ["ended", message_id, n]:
                    self.ended.add((message_id, int(n)))


def run_and_kill(folder: Path, seed: int, seconds: float, after: bytes) -> str:
    """The lines of a child that was killed `seconds` after it had said this."""
    with subprocess.Popen([sys.executable, str(CHILD), str(folder), str(seed)], stdout=subprocess.PIPE) as child:
        try:
            first = child.stdout.readline()
            assert first == b"open\n"
            os.set_blocking(child.stdout.fileno(), False)
            lines, end = first, 0.0
            while not end or time.monotonic() < end:
                lines += child.stdout.read() or b""
                if not end and after in lines:
                    end = time.monotonic() + seconds
                assert child.poll() is None
                time.sleep(0.001)
        finally:
            child.kill()
        os.set_blocking(child.stdout.fileno(), True)
        lines += child.stdout.read()
    return lines.rpartition(b"\n")[0].decode()


async def check(folder: Path, told: Told) -> int:
    spool = SqliteSpool.open(folder, 0, SystemClock(), file_threshold=THRESHOLD)
    try:
        for message_id, digest in told.digests.items():
            await check_message(spool, told, message_id, digest)
        check_files(folder, await spool.due(0.0, time.time() + 1e6, 1_000_000))
        return spool.recovered
    finally:
        await spool.close()


async def check_message(spool: SqliteSpool, told: Told, message_id: str, digest: str) -> None:
    found = await spool.message(message_id)
    assert found is not None, f"{message_id} was told of and is gone"
    states = [recipient["state"] for recipient in found["recipients"]]
    doubted = {event["recipient"] for event in found["events"] if event["kind"] == "in_doubt"}
    for n, state in enumerate(states):
        if (message_id, n) in told.ended:
            assert state == "delivered"
        elif (message_id, n) in told.begun:
            assert state == "delivered" or n in doubted
    if any(state in WAITING for state in states):
        content = await spool.read_content(message_id)
        assert hashlib.sha256(content).hexdigest() == digest
    else:
        try:
            await spool.read_content(message_id)
        except StoreError:
            return
        raise AssertionError("the body of a finished message is still there")


def check_files(folder: Path, waiting) -> None:
    """Exactly the bodies that somebody still needs."""
    needed = sorted(message.id for message in waiting if message.size > THRESHOLD)
    assert sorted(path.name for path in (folder / "0.bodies").glob("??/*")) == needed


def test_whatever_was_told_of_outlives_a_kill_at_any_moment(tmp_path):
    dice, told, recovered = random.Random(11), Told(), 0
    for number in range(KILLS):
        after = b"ended" if number % 2 else b"open"
        told.read(run_and_kill(tmp_path, number, dice.uniform(0.0, 0.15), after))
        recovered += asyncio.run(check(tmp_path, told))
    assert len(told.digests) > KILLS
    assert told.ended
    assert recovered
