"""GroupCommit: one thread, one read-write connection, many operations a commit.

Whatever waits while a commit runs goes into the next one together. An operation's future is resolved after the
commit that holds it, never before; when the commit fails, all of them get StoreError and nothing was stored.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import apsw

from relay import faults
from relay.mail.errors import StoreError

_LARGEST_BATCH: Final = 512
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
    """The writer of one database file."""

    def __init__(
        self,
        connection: apsw.Connection,
        apply: Apply,
        committed: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
        observe: Callable[[int, float], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._apply = apply
        self._committed = committed
        self._loop = loop
        self._observe = observe
        self._monotonic = monotonic
        self._queue: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._closed = False
        self._thread.start()

    def submit(self, value: Any) -> asyncio.Future[Any]:
        """Join the next commit; the future gives the operation's result or StoreError."""
        future = self._loop.create_future()
        if self._closed:
            future.set_exception(StoreError("the spool is closed"))
        else:
            self._queue.put(Operation(value, future))
        return future

    async def close(self) -> None:
        """Commit what is queued, then stop."""
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _run(self) -> None:
        while True:
            batch, last = self._next_batch()
            if batch:
                started = self._monotonic()
                results = self._commit(batch)
                self._observe(len(batch), self._monotonic() - started)
                self._loop.call_soon_threadsafe(_resolve, batch, results)
            if last:
                return

    def _next_batch(self) -> tuple[list[Operation], bool]:
        first = self._queue.get()
        if first is None:
            return [], True
        batch = [first]
        while len(batch) < _LARGEST_BATCH:
            try:
                operation = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
            if operation is None:
                return batch, True
            batch.append(operation)
        return batch, False

    def _commit(self, batch: list[Operation]) -> list[Any]:
        try:
            return self._transaction(batch)
        except _DISK_ERRORS as error:
            failure = StoreError(f"commit failed: {error}")
            return [failure] * len(batch)
        except Exception as error:
            if len(batch) == 1:
                return [StoreError(f"commit failed: {type(error).__name__}: {error}")]
            # One operation is bad; the others must not suffer for it.
            return [result for operation in batch for result in self._commit([operation])]

    def _transaction(self, batch: list[Operation]) -> list[Any]:
        connection = self._connection
        if not connection.get_autocommit():
            # The rollback of an earlier failure failed too.
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        try:
            results = self._apply(connection, [operation.value for operation in batch])
            faults.point("before-commit")
            connection.execute("COMMIT")
        except BaseException:
            if not connection.get_autocommit():
                connection.execute("ROLLBACK")
            raise
        faults.point("after-commit")
        self._committed()
        return results


def _resolve(batch: list[Operation], results: list[Any]) -> None:
    for operation, result in zip(batch, results, strict=True):
        if operation.future.done():
            continue
        if isinstance(result, StoreError):
            operation.future.set_exception(result)
        else:
            operation.future.set_result(result)
