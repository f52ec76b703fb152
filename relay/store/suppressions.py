"""Suppressions: addresses accounts do not write to any more, in one file all workers and commands share.

In: accounts and addresses in any spelling. Out: entries that have not expired. A look-up is one indexed read without a
lock (WAL), made on the loop; a change is durable when it returns (synchronous=FULL) and may wait for another process:
it belongs on a thread. A file that is not there is an empty list; writing makes it. Raises StoreError.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw

from relay.mail.address import comparable
from relay.mail.errors import StoreError
from relay.ports import Clock, Suppression
from relay.store.migrations import check_known, exclusive, migrate, migrations_of

SUPPRESSION_FILE: Final = "suppressions.db"
_PATIENCE_MS: Final = 10_000
_FIND: Final = """
SELECT account, address, reason, words, created_at, expires_at FROM suppression
WHERE account = ?1 AND address = ?2 AND (expires_at IS NULL OR expires_at > ?3)
"""
_FIND_ALL: Final = _FIND.replace("= ?2", "IN (SELECT value FROM json_each(?2))")
_ALL: Final = """
SELECT account, address, reason, words, created_at, expires_at FROM suppression
WHERE (expires_at IS NULL OR expires_at > ?1) AND (?2 IS NULL OR account = ?2) ORDER BY account, address
"""
# By their letters bounce < complaint < manual.
_ADD: Final = """
INSERT INTO suppression (account, address, reason, words, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET reason = excluded.reason, words = excluded.words, expires_at = excluded.expires_at
WHERE excluded.reason >= suppression.reason
"""


class Suppressions:
    """One process's view of the list. Open it after a fork; look up on one thread, change on any."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._path = folder / SUPPRESSION_FILE
        self._clock = clock
        self._reader: apsw.Connection | None = None

    def find(self, account: str, address: str) -> Suppression | None:
        """What keeps the account from writing to the address."""
        return self.find_all(account, (address,)).get(address)

    def find_all(self, account: str, addresses: Sequence[str]) -> dict[str, Suppression]:
        """By address as it was given, what keeps the account from writing to those of these that are on its list."""
        with self._errors():
            reader = self._open_reader()
            if reader is None:
                return {}
            keys = {address: comparable(address) for address in addresses}
            # Most messages have one recipient, and JSON costs more than the look-up then.
            asked = (_FIND, keys[addresses[0]]) if len(keys) == 1 else (_FIND_ALL, json.dumps(list(keys.values())))
            rows: list[tuple[Any, ...]] = reader.execute(asked[0], (account, asked[1], self._clock.now())).fetchall()
            found = {row[1]: Suppression(*row) for row in rows}
            return {address: found[key] for address, key in keys.items() if key in found} if found else {}

    def add(self, entries: Iterable[Suppression]) -> int:
        """Put on the list; an address that is on it already keeps the graver reason: `manual`, then `complaint`.

        Returns how many are new or changed. One transaction: all or nothing.
        """
        with self._errors(), self._writing() as connection, exclusive(connection):
            connection.execute("DELETE FROM suppression WHERE expires_at <= ?", (self._clock.now(),))
            before = connection.total_changes()
            for one in entries:
                row = (one.account, comparable(one.address), one.reason, one.words, one.created_at, one.expires_at)
                connection.execute(_ADD, row)
            return connection.total_changes() - before

    def remove(self, account: str, address: str) -> bool:
        """Take off the list; False where it was not on it."""
        with self._errors(), self._writing() as connection, exclusive(connection):
            connection.execute(
                "DELETE FROM suppression WHERE account = ? AND address = ?", (account, comparable(address))
            )
            return connection.changes() > 0

    def entries(self, account: str | None = None) -> list[Suppression]:
        """All of an account, or of everybody."""
        with self._errors():
            reader = self._open_reader()
            if reader is None:
                return []
            return [Suppression(*row) for row in reader.execute(_ALL, (self._clock.now(), account))]

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    def _open_reader(self) -> apsw.Connection | None:
        if self._reader is None:
            if not self._path.exists():
                return None
            # Not read-only: after a crash only a writable connection can bring the log in.
            reader = apsw.Connection(os.fspath(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
            reader.set_busy_timeout(_PATIENCE_MS)
            version = int(reader.pragma("user_version"))
            check_known(version, migrations_of("suppression"))
            if version == 0:
                reader.close()
                return None
            reader.pragma("query_only", True)
            self._reader = reader
        return self._reader

    @contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        created = not self._path.exists()
        connection = apsw.Connection(os.fspath(self._path))
        try:
            if created:
                os.chmod(self._path, 0o600)
                if os.geteuid() == 0:
                    owner = os.stat(self._path.parent)
                    os.chown(self._path, owner.st_uid, owner.st_gid)
            connection.set_busy_timeout(_PATIENCE_MS)
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "full")
            migrate(connection, migrations_of("suppression"))
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (apsw.Error, OSError) as error:
            raise StoreError(
                f"{self._path}: cannot use the suppression list ({error}); check its owner and the disk"
            ) from error
