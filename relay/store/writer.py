"""GroupCommit: one thread, one read-write connection, many operations a commit.

Whatever waits while a commit runs goes into the next one together. An operation's future is resolved after the
commit that holds it, never before; when the commit fails, all of them get StoreError and nothing was stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import apsw

from relay import faults
from relay.mail.errors import StoreError

_LARGEST_BATCH: Final = 512
_MOST_ON_THE_LOOP: Final = 64
_LOCK_TRIES: Final = 100
_SECONDS_BETWEEN_LOCK_TRIES: Final = 0.05
# The disk is full, failing or read-only, or the file is locked: one by one the operations would fail the same way.
_DISK_ERRORS: Final = (
    apsw.FullError,
    apsw.IOError,
    apsw.ReadOnlyError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.CantOpenError,
    apsw.BusyError,
)


@dataclass(slots=True)
class Operation:
    """What to write, and who waits for it."""

    value: Any
    future: asyncio.Future[Any]


Apply = Callable[[apsw.Connection, Sequence[Any]], list[Any]]
"""Executes values inside an open transaction and gives one result for each."""


class GroupCommit:
    """The writer of one database file. Call it from the loop's thread only.

    A few cheap operations are executed on the loop and only their COMMIT, which waits for the disk, on the thread:
    there each statement would wait anew for the interpreter lock, which the busy loop holds.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        apply: Apply,
        committed: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
        observe: Callable[[int, float], None],
        monotonic: Callable[[], float],
        cheap: Callable[[Any], bool] = lambda value: False,
    ) -> None:
        """`cheap`: whether an operation writes a few small rows and reads next to nothing."""
        self._connection = connection
        self._apply = apply
        self._committed = committed
        self._loop = loop
        self._observe = observe
        self._monotonic = monotonic
        self._cheap = cheap
        self._waiting: deque[Operation] = deque()
        self._running: asyncio.Future[None] | None = None
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._closed = False
        connection.set_busy_handler(self._wait_for_lock)
        self._thread.start()

    def submit(self, value: Any) -> asyncio.Future[Any]:
        """Join the next commit; the future gives the operation's result or StoreError."""
        future = self._loop.create_future()
        if self._closed:
            future.set_exception(StoreError("the spool is closed"))
            return future
        self._waiting.append(Operation(value, future))
        if self._running is None:
            self._running = self._loop.create_future()
            # What else this turn of the loop brings goes into the same commit.
            self._loop.call_soon(self._next)
        return future

    async def close(self) -> None:
        """Commit what is queued, then stop."""
        self._closed = True
        if self._running is not None:
            await self._running
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    # --- on the loop ---------------------------------------------------------------------------------------

    def _next(self) -> None:
        waiting = self._waiting
        if not waiting:
            assert self._running is not None
            self._running.set_result(None)
            self._running = None
            return
        batch = [waiting.popleft() for _ in range(min(len(waiting), _LARGEST_BATCH))]
        started = self._monotonic()
        results = self._executed(batch)
        self._work.put(partial(self._commit, batch, results, started))

    def _executed(self, batch: list[Operation]) -> list[Any] | None:
        """Their results, with the transaction left open; None where the thread has to do it all."""
        if len(batch) > _MOST_ON_THE_LOOP or not all(self._cheap(operation.value) for operation in batch):
            return None
        try:
            return self._execute(batch)
        except Exception:
            # The thread may wait for a lock, and finds the operation that is bad.
            return None

    def _ended(self, batch: list[Operation], results: list[Any], started: float) -> None:
        self._observe(len(batch), self._monotonic() - started)
        _resolve(batch, results)
        # After those who waited, so that what they ask for next is in the next commit.
        self._loop.call_soon(self._next)

    # --- on the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def _commit(self, batch: list[Operation], results: list[Any] | None, started: float) -> None:
        results = self._store(batch, results)
        self._loop.call_soon_threadsafe(self._ended, batch, results, started)

    def _store(self, batch: list[Operation], results: list[Any] | None = None) -> list[Any]:
        """Commit; `results`: of what was executed before."""
        try:
            results = self._execute(batch) if results is None else results
            self._end_transaction()
        except _DISK_ERRORS as error:
            failure = StoreError(f"commit failed: {error}")
            return [failure] * len(batch)
        except Exception as error:
            if len(batch) == 1:
                return [StoreError(f"commit failed: {type(error).__name__}: {error}")]
            # One operation is bad; the others must not suffer for it.
            return [result for operation in batch for result in self._store([operation])]
        return results

    # --- on either -----------------------------------------------------------------------------------------

    def _execute(self, batch: list[Operation]) -> list[Any]:
        connection = self._connection
        if not connection.get_autocommit():
            # The rollback of an earlier failure failed too.
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        with self._rolled_back():
            return self._apply(connection, [operation.value for operation in batch])

    def _end_transaction(self) -> None:
        with self._rolled_back():
            faults.point("before-commit")
            self._connection.execute("COMMIT")
        faults.point("after-commit")
        self._committed()

    @contextlib.contextmanager
    def _rolled_back(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if not self._connection.get_autocommit():
                self._connection.execute("ROLLBACK")
            raise

    def _wait_for_lock(self, times: int) -> bool:
        """Somebody else holds the file: the thread waits a while, the loop never."""
        if threading.current_thread() is not self._thread or times >= _LOCK_TRIES:
            return False
        time.sleep(_SECONDS_BETWEEN_LOCK_TRIES)
        return True


def _resolve(batch: list[Operation], results: list[Any]) -> None:
    for operation, result in zip(batch, results, strict=True):
        if operation.future.done():
            continue
        if isinstance(result, StoreError):
            operation.future.set_exception(result)
        else:
            operation.future.set_result(result)
