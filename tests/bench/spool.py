"""The spool's own rate: enqueue, begin_attempt and end_attempt by many producers in one process.

python tests/bench/spool.py [messages] [octets] [producers] [asyncio|uvloop] [profile] [folder=PATH]
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from relay.mail.envelope import Envelope, Recipient
from relay.mail.event import EventKind
from relay.ports import AttemptEnd, AttemptStart, NewMessage, RecipientResult, SystemClock
from relay.store.spool import SqliteSpool


async def run(folder: Path, count: int, size: int, producers: int, wrap: Callable[[SqliteSpool], None]) -> None:
    """Prints messages a second, CPU a message, operations a commit and how long each call took."""
    sizes: list[int] = []
    commits: list[float] = []

    def observe(operations: int, seconds: float) -> None:
        sizes.append(operations)
        commits.append(seconds)

    clock = SystemClock()
    spool = SqliteSpool.open(folder, 0, clock, file_threshold=65_536, observe=observe)
    wrap(spool)
    content = b"Subject: bench\r\n\r\n" + b"x" * size
    envelope = Envelope("sender@client.example", (Recipient("somebody@sink.example"),))
    done = RecipientResult(0, "somebody@sink.example", EventKind.DELIVERED, "250 2.0.0 Ok: queued as 4711")
    calls: dict[str, list[float]] = {"enqueue": [], "begin": [], "end": []}

    async def producer(messages: int) -> None:
        for _ in range(messages):
            started = time.perf_counter()
            message = NewMessage(spool.new_id(), "bench", "app", envelope, content, clock.now())
            await spool.enqueue(message)
            queued = time.perf_counter()
            begun = await spool.begin_attempt(
                AttemptStart(message.id, (0,), "direct", "sink.example", max(clock.now(), message.received_at))
            )
            assert begun.recipients == (0,)
            started_at = time.perf_counter()
            await spool.end_attempt(AttemptEnd(message.id, begun.id, clock.now(), "mx.sink.example", "", (done,)))
            ended = time.perf_counter()
            calls["enqueue"].append(queued - started)
            calls["begin"].append(started_at - queued)
            calls["end"].append(ended - started_at)

    cpu, wall = _cpu(), time.perf_counter()
    await asyncio.gather(*(producer(count // producers) for _ in range(producers)))
    cpu, wall = _cpu() - cpu, time.perf_counter() - wall
    await spool.close()
    made = count // producers * producers
    print(f"{made} messages of {size} octets, {producers} producers: {made / wall:.0f} messages/s", end=", ")
    print(f"{cpu / made * 1e6:.0f} us CPU a message, {sum(sizes) / len(sizes):.1f} operations a commit", end=", ")
    print(f"{sum(commits) / len(commits) * 1e3:.2f} ms a commit")
    for name, seconds in calls.items():
        seconds.sort()
        print(f"  {name:8} median {seconds[made // 2] * 1e3:.2f} ms, 99 % {seconds[made * 99 // 100] * 1e3:.2f} ms")


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class WriterProfile:
    """Profiles the writer thread's batches: cProfile sees one thread at a time."""

    def __init__(self) -> None:
        self.profile = cProfile.Profile()

    def wrap(self, spool: SqliteSpool) -> None:
        real = spool._writer._commit
        spool._writer._commit = lambda batch: self.profile.runcall(real, batch)  # type: ignore[method-assign]

    def show(self) -> None:
        pstats.Stats(self.profile).sort_stats("tottime").print_stats(14)


def main() -> None:
    words = [word for word in sys.argv[1:] if word.isdigit()]
    count, size, producers = (int(word) for word in (*words, *("20000", "4096", "20")[len(words) :]))
    parent = next((word.partition("=")[2] for word in sys.argv if word.startswith("folder=")), None)
    folder = Path(tempfile.mkdtemp(prefix="spool-bench-", dir=parent))
    profile = WriterProfile()
    start = asyncio.run if "asyncio" in sys.argv else uvloop.run
    try:
        start(run(folder, count, size, producers, profile.wrap if "profile" in sys.argv else lambda spool: None))
    finally:
        shutil.rmtree(folder)
    if "profile" in sys.argv:
        profile.show()


if __name__ == "__main__":
    main()
