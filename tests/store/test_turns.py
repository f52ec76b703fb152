"""Turns: one at a time by a file, waited for without holding up the loop, free again whatever ended its holder."""

from __future__ import annotations

import asyncio
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from relay.mail.errors import StoreError
from relay.store.turns import FileTurn


def test_two_parts_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "run" / "crm.lock"
    order: list[str] = []

    async def hold(name: str) -> None:
        async with FileTurn(path)():
            order.append(f"{name} in")
            await asyncio.sleep(0)
            order.append(f"{name} out")

    async def main() -> None:
        await asyncio.gather(hold("a"), hold("b"))

    asyncio.run(main())
    assert order == ["a in", "a out", "b in", "b out"]


def test_who_is_cancelled_while_it_waits_or_holds_gives_it_back(tmp_path: Path) -> None:
    turn = FileTurn(tmp_path / "crm.lock")

    async def hold() -> None:
        async with turn():
            await asyncio.Event().wait()

    async def main() -> None:
        tasks = [asyncio.create_task(hold()) for _ in range(2)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(60), turn():
            pass

    asyncio.run(main())


def test_the_turn_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    path = tmp_path / "crm.lock"
    path.touch()
    text = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", text, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert holder.stdout is not None
    assert holder.stdout.readline()

    async def main() -> None:
        waiting = asyncio.create_task(_once(FileTurn(path)))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        holder.kill()
        await asyncio.wait_for(waiting, 60)

    asyncio.run(main())
    holder.communicate()


async def _once(turn: FileTurn) -> None:
    async with turn():
        pass


def test_a_lock_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crm.lock").mkdir()
    with pytest.raises(StoreError, match=r"crm\.lock: cannot use the lock"):
        asyncio.run(_once(FileTurn(tmp_path / "crm.lock")))

    def full(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", full)
    with pytest.raises(StoreError, match=r"other\.lock: cannot be locked \(No locks available\)"):
        asyncio.run(_once(FileTurn(tmp_path / "other.lock")))
