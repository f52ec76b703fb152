"""Inbox opened by several processes at once, as workers do at a first start."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

from relay.store.inbox import Inbox

PROCESSES = 6
ROUNDS = 40


def open_all(folders: list[Path], barrier: Barrier) -> None:
    for folder in folders:
        barrier.wait(30)
        inbox = Inbox(folder)
        inbox.open()
        inbox.close()


def test_workers_that_make_the_file_together_all_get_it(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(ROUNDS)]
    for folder in folders:
        folder.mkdir()
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    processes = [context.Process(target=open_all, args=(folders, barrier)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
