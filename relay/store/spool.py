"""SqliteSpool: the spool of one worker, one file, group commit. Implements ports.Spool.

Comes in: NewMessage, AttemptStart, AttemptEnd. Goes out: after the fsync, what the engine needs to go on.
`synchronous=FULL`: in WAL mode NORMAL is consistent but not durable. Raises StoreError, one line with the fix.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from relay.mail.errors import StoreError
from relay.mail.outcome import AfterDoubt
from relay.ports import (
    AttemptBegun,
    AttemptEnd,
    AttemptStart,
    Clock,
    Contact,
    HandedOn,
    NewMessage,
    News,
    QueuedMessage,
    QueuedRecipient,
    Told,
    Watch,
)
from relay.store import contacts, spool_read, spool_verbs, spool_write
from relay.store import dead as letters
from relay.store.bodies import BodyFiles, IncomingFile, StoredFile
from relay.store.ids import IdSource, to_number, to_text
from relay.store.migrations import migrate, migrations_of
from relay.store.rows import microseconds, value
from relay.store.spool_files import SpoolPaths, take_lock
from relay.store.spool_verbs import Act, Acted, Change
from relay.store.writer import GroupCommit

_PAGE_SIZE: Final = 8192
_CHANGED_AT_A_TIME: Final = 200
# apsw forgets a statement after so many others, each row counted: enough for some commits without new mail.
_STATEMENTS: Final = 300
_T = TypeVar("_T")


class SqliteSpool:
    """Open with `SqliteSpool.open` inside the running loop; close with `await close()`."""

    def __init__(
        self,
        paths: SpoolPaths,
        connection: apsw.Connection,
        lock: int,
        clock: Clock,
        file_threshold: int,
        observe: Callable[[int, float], None],
        *,
        in_doubt: AfterDoubt,
        repeats: Collection[str],
    ) -> None:
        self._paths = paths
        self._lock = lock
        self._clock = clock
        self._file_threshold = file_threshold
        self._bodies = BodyFiles(paths.bodies)
        last = value(connection, "SELECT coalesce(max(id), 0) FROM message")
        self._ids = IdSource(paths.number, clock, floor=last)
        self.recovered = spool_write.recover(connection, clock.now(), in_doubt=in_doubt, repeats=repeats)
        self._bodies.remove_orphans([*spool_read.ids_with_files(connection), *letters.files(connection)])
        self._watched = contacts.Watched()
        batch = self._batch = spool_write.Batch(
            clock, self._bodies, spool_write.last_sequence(connection), self._watched
        )
        loop = asyncio.get_running_loop()
        self._reader = open_read_only(paths.database)
        self._writer = GroupCommit(
            connection, batch.apply, batch.committed, loop, observe, clock.monotonic, spool_write.is_cheap
        )
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="spool-reader")
        self._files = ThreadPoolExecutor(4, thread_name_prefix="spool-bodies")

    @classmethod
    def open(
        cls,
        folder: Path,
        number: int,
        clock: Clock,
        *,
        file_threshold: int,
        observe: Callable[[int, float], None] = lambda size, seconds: None,
        in_doubt: AfterDoubt = "retry",
        repeats: Collection[str] = (),
    ) -> SqliteSpool:
        """Lock, create or migrate, recover. Raises StoreError.

        `in_doubt`: what becomes of the recipients of interrupted attempts. `repeats`: candidates that carry a repeated
        call out once.
        """
        paths = SpoolPaths(folder, number)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = take_lock(paths.lock)
        except OSError as error:
            raise StoreError(
                f"{folder}: cannot use the spool folder: {error.strerror}; check owner and mode"
            ) from error
        connection = None
        try:
            connection = _connect(paths.database)
            return cls(paths, connection, lock, clock, file_threshold, observe, in_doubt=in_doubt, repeats=repeats)
        except BaseException as error:
            if connection is not None:
                connection.close()
            os.close(lock)
            if isinstance(error, apsw.Error | OSError):
                raise StoreError(f"{paths.database}: cannot open the spool: {error}; check the file") from error
            raise

    async def close(self) -> None:
        await self._writer.close()
        self._reading.shutdown()
        self._files.shutdown()
        self._reader.close()
        os.close(self._lock)

    # --- ports.Spool ---------------------------------------------------------------------------------------

    def new_id(self) -> str:
        return to_text(self._ids.next())

    async def enqueue(self, message: NewMessage) -> QueuedMessage:
        in_file = message.size > self._file_threshold or message.tail is not None
        operation = spool_write.Enqueue(message, in_file)
        await (self._store(operation) if in_file else self._writer.submit(operation))
        return queued(message)

    async def _store(self, operation: spool_write.Enqueue | letters.Again) -> Any:
        """The body first, where it is a file."""
        message, in_file = operation.message, operation.in_file
        if in_file:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._files, self._write_body, message)
        try:
            return await self._writer.submit(operation)
        except StoreError:
            if in_file:
                self._bodies.remove([message.id])
            raise

    def incoming(self) -> IncomingFile:
        return self._bodies.receive()

    def _write_body(self, message: NewMessage) -> None:
        if message.tail is None:
            self._bodies.write(message.id, message.content)
        else:
            assert isinstance(message.tail.incoming, IncomingFile)
            self._bodies.assemble(message.id, message.content, message.tail.incoming, message.tail.skip)

    async def begin_attempt(self, start: AttemptStart) -> AttemptBegun:
        begun: AttemptBegun = await self._writer.submit(start)
        return begun

    async def end_attempt(self, end: AttemptEnd) -> QueuedMessage | None:
        await self._writer.submit(end)
        return queued(end.notice) if end.notice else None

    async def read_content(self, message_id: str) -> bytes:
        content = await self._stored_content(message_id)
        if content is not None:
            return content
        return await asyncio.get_running_loop().run_in_executor(self._reading, self._bodies.read, message_id)

    async def open_content(self, message_id: str) -> bytes | StoredFile:
        content = await self._stored_content(message_id)
        if content is not None:
            return content
        open_file, path = partial(StoredFile, threads=self._files), self._bodies.path(message_id)
        return await asyncio.get_running_loop().run_in_executor(self._files, open_file, path)

    async def _stored_content(self, message_id: str) -> bytes | None:
        """None where it is in a file."""
        content = await self._read(spool_read.content, to_number(message_id))
        if content is None:
            raise StoreError(f"message {message_id} has no stored content")
        return None if isinstance(content, str) else content

    async def due(self, after: float, until: float, limit: int) -> list[QueuedMessage]:
        return await self._read(spool_read.due, after, until, limit)

    async def urgent(self, until: float, limit: int) -> list[QueuedMessage]:
        return await self._read(spool_read.urgent, until, limit)

    async def pull_in(self, latest: float) -> int:
        pulled: int = await self._writer.submit(spool_write.PullIn(latest))
        return pulled

    async def next_due_at(self, after: float) -> float | None:
        return await self._read(spool_read.next_due_at, after)

    # --- the operator --------------------------------------------------------------------------------------

    async def counts(self) -> spool_read.Counts:
        """How much waits, and since when."""
        return await self._read(spool_read.counts)

    async def message(self, message_id: str) -> dict[str, Any] | None:
        """Everything known of a message, as `relay queue show` prints it."""
        return await self._read(spool_read.describe, to_number(message_id))

    async def act(self, act: Act) -> list[Acted]:
        """What a verb of the operator means, and, but for a dry run, did; what is in flight is marked and left.

        Chosen a stretch at a time by the reader, changed some at a time by the writer: mail goes on in between.
        """
        acted: list[Acted] = []
        place = None if act.after is None else (to_number(act.after[0]), act.after[1])
        more = True
        while more and len(acted) < act.limit:
            try:
                found, place = await self._read(spool_verbs.find, act, place, act.limit - len(acted))
            except ValueError as error:
                raise StoreError(f"{error}; it has 16 hex digits, as in `250 2.0.0 Ok: queued as`") from None
            more = place is not None
            acted += [one.acted for one in found] if act.dry_run else await self._change(act, found)
        return acted

    async def _change(self, act: Act, found: list[spool_verbs.Found]) -> list[Acted]:
        acted: list[Acted] = []
        now = microseconds(self._clock.now())
        for start in range(0, len(found), _CHANGED_AT_A_TIME):
            few, later = found[start : start + _CHANGED_AT_A_TIME], found[start + _CHANGED_AT_A_TIME :]
            keys = tuple((one.number, one.acted.index) for one in few)
            acted += await self._writer.submit(Change(act, keys, now - len({one.number for one in later})))
        return acted

    async def waiting(self, message_id: str, indexes: Sequence[int]) -> QueuedMessage | None:
        """A message, without its content, with those of these recipients that are not finished."""
        return await self._read(spool_read.waiting, to_number(message_id), tuple(indexes))

    async def end_waiting(self, end: AttemptEnd) -> bool:
        """End recipients without an attempt, with the notice; False, and nothing done, where one waits no more."""
        ended: bool = await self._writer.submit(spool_write.EndWaiting(end))
        return ended

    async def digests(self, since: float, limit: int) -> list[tuple[bytes, int, float]]:
        """Digest, id and time received of the last `limit` messages that came in since then, oldest first."""
        return await self._read(spool_read.digests, since, limit)

    async def handed_on(self, remote_ids: Sequence[str]) -> list[HandedOn]:
        """Recipients that ended under one of these names of theirs at a next hop."""
        return await self._read(spool_read.handed_on, tuple(remote_ids))

    async def sent_to(self, message_id: str) -> list[HandedOn]:
        """All recipients of a message, ended or not; nothing where the spool does not know it any more."""
        return await self._read(spool_read.sent_to, to_number(message_id))

    async def reported(self, keys: Sequence[str]) -> set[str]:
        """Those of these keys of later news that are on disk."""
        return await self._read(spool_read.reported, tuple(keys))

    async def report(self, news: Sequence[News]) -> list[bool]:
        """Write later news with its notices, once each; says of each whether it was new and changed anything."""
        written: list[bool] = await self._writer.submit(spool_write.Reported(tuple(news)))
        return written

    async def dead(
        self, selection: spool_verbs.Selection, after: str | None, limit: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Dead letters after the message `after`, and from where to go on, None at the end."""
        found: list[dict[str, Any]] = []
        place = to_number(after) if after else 0
        while len(found) < limit:
            some, next_place = await self._read(letters.find, selection, place, limit - len(found))
            found += some
            if next_place is None:
                return found, None
            place = next_place
        return found, to_text(place)

    async def dead_letter(self, message_id: str) -> tuple[letters.DeadLetter, bytes] | None:
        """One with its content, or None. Raises StoreError where its file cannot be read."""
        letter = await self._read(letters.letter, to_number(message_id))
        if letter is None or letter.content is not None:
            return None if letter is None else (letter, letter.content or b"")
        read = self._bodies.read
        return letter, await asyncio.get_running_loop().run_in_executor(self._reading, read, message_id)

    async def send_again(self, dead_id: str, message: NewMessage) -> bool:
        """Store a message made of a dead letter; False, and nothing stored, where one was before."""
        stored: bool = await self._store(letters.Again(dead_id, message, len(message.content) > self._file_threshold))
        if not stored:
            self._bodies.remove([message.id])
        return stored

    async def bury(self, before: float, largest: int, limit: int) -> int:
        """Forget dead letters that ended before `before`, and the oldest beyond `largest` octets; returns how many."""
        numbers = await self._read(letters.to_bury, before, largest, limit)
        gone: int = await self._writer.submit(letters.Bury(numbers)) if numbers else 0
        return gone

    # --- contacts ------------------------------------------------------------------------------------------

    def watch(self, watches: Sequence[Watch]) -> None:
        """What marketing platforms hear of from now on."""
        self._watched.follow(watches)

    async def contacts_due(self, name: str, until: float, limit: int) -> list[Contact]:
        return await self._read(contacts.due, name, until, limit)

    async def contacts_told(self, told: Sequence[Told]) -> None:
        await self._writer.submit(contacts.Tell(tuple(told)))

    async def contacts_waiting(self, name: str) -> int:
        return await self._read(contacts.waiting, name)

    async def contact_erase(self, names: Sequence[str], address: str) -> None:
        await self._writer.submit(contacts.Erase(tuple(names), address, self._clock.now()))

    async def contacts_again(self, name: str) -> int:
        """Returns how many are due now."""
        found, after = await self._writer.submit(contacts.TellAgain(name, self._clock.now(), ""))
        while after:
            more, after = await self._writer.submit(contacts.TellAgain(name, self._clock.now(), after))
            found += more
        return int(found)

    async def contacts_forget(self, name: str) -> int:
        """Returns how many will never be told."""
        gone = last = await self._writer.submit(contacts.Forget(name))
        while last == contacts.STRETCH:
            last = await self._writer.submit(contacts.Forget(name))
            gone += last
        return int(gone)

    # --- housekeeping --------------------------------------------------------------------------------------

    @property
    def taken(self) -> int:
        """Messages stored since it was opened, notices among them."""
        return self._batch.taken

    async def prune(self, before: float, limit: int) -> int:
        """Forget what was finished and received before `before`, at most `limit` messages; returns how many.

        The reader finds it: to step over a long queue of that age would hold up the writer, and all mail.
        """
        finished = await self._read(spool_read.finished, before, limit)
        gone: int = await self._writer.submit(spool_write.Prune(finished, before, limit))
        return gone

    async def _read(self, function: Callable[..., _T], *arguments: Any) -> _T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._reading, function, self._reader, *arguments)
        except apsw.Error as error:
            raise StoreError(f"{self._paths.database}: cannot read the spool: {error}; check the disk") from error


def queued(message: NewMessage) -> QueuedMessage:
    """A message just committed, with all its recipients due at once."""
    since = message.since
    return QueuedMessage(
        id=message.id,
        account=message.account,
        username=message.username,
        envelope=message.envelope,
        size=message.size,
        received_at=message.received_at,
        tags=message.tags,
        due=tuple(
            [QueuedRecipient(index, recipient, 0, since) for index, recipient in enumerate(message.envelope.recipients)]
        ),
        content=message.content if message.tail is None else None,
    )


def open_read_only(path: Path) -> apsw.Connection:
    """A reader beside the writer. Raises StoreError."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(5000)
    except apsw.Error as error:
        raise StoreError(f"{path}: cannot read the spool: {error}; has the server ever run?") from error
    return connection


def _connect(path: Path) -> apsw.Connection:
    previous = os.umask(0o077)
    try:
        connection = apsw.Connection(str(path), statementcachesize=_STATEMENTS)
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
    finally:
        os.umask(previous)
    return connection


def _prepare(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(5000)
    connection.execute(f"PRAGMA page_size={_PAGE_SIZE}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA wal_autocheckpoint=4000")
    connection.execute("PRAGMA cache_size=-65536")
    connection.execute("PRAGMA temp_store=MEMORY")
    migrate(connection, migrations_of("spool"))
