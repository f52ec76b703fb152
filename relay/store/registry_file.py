"""Registry file: `var/registry.db` as commands open it, to read and to change.

In: the state folder. Out: rows, and changes that are one exclusive transaction each in rollback-journal mode, so any
number of commands and servers share the file. Opening creates it (mode 0600, owned like its folder) and brings its
schema up to date. Raises StoreError, one line with the fix.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import apsw

from relay.mail.errors import StoreError
from relay.store.migrations import exclusive, migrate, migrations_of
from relay.store.registry import REGISTRY_FILE

_PATIENCE_MS: Final = 10_000


class RegistryFile:
    """An open registry; `close` once."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    def open(cls, var: Path) -> Self:
        """Creates folder and file where missing and applies migrations."""
        path = var / REGISTRY_FILE
        try:
            _create_private(path)
            connection = apsw.Connection(os.fspath(path), flags=apsw.SQLITE_OPEN_READWRITE)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}; run as the server's user or as root") from error
        except apsw.Error as error:
            raise StoreError(f"{path}: cannot open the registry ({error})") from error
        opened = cls(connection, path)
        try:
            with opened._errors():
                _configure(connection)
                migrate(connection, migrations_of("registry"))
        except BaseException:
            opened.close()
            raise
        return opened

    def close(self) -> None:
        self._connection.close()

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a statement gives; outside of `change` it is a transaction of its own."""
        with self._errors():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def change(self) -> Iterator[None]:
        """One transaction: everything inside, or nothing where it raises."""
        with self._errors(), exclusive(self._connection):
            yield

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except apsw.BusyError as error:
            raise StoreError(f"{self._path}: locked by another command; try again when it has ended") from error
        except apsw.ReadOnlyError as error:
            raise StoreError(f"{self._path}: not writable; run as the server's user or as root") from error
        except apsw.Error as error:
            raise StoreError(f"{self._path}: {error}; check disk and file, or restore a backup") from error


def _create_private(path: Path) -> None:
    """Make the file before SQLite would, readable by its owner only; root makes it the folder's owner's."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        return
    try:
        folder = path.parent.stat()
        if os.geteuid() == 0 and folder.st_uid != 0:
            # The server runs as the folder's owner and has to read what root's command creates.
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
    finally:
        os.close(descriptor)


def _configure(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(_PATIENCE_MS)
    # Rollback journal, not WAL: rarely written, read by many, and one file to back up.
    connection.pragma("journal_mode", "delete")
    # FULL, and the folder synced after the journal is gone: a `disable` must survive power loss.
    connection.pragma("synchronous", "extra")
    connection.pragma("foreign_keys", True)
    connection.pragma("secure_delete", True)  # a rotated hash leaves no copy in free pages
