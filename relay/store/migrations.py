"""Migrations: numbered SQL files that bring one SQLite file to the newest schema.

In: an apsw connection and the files `relay/store/sql/NAME/0001_words.sql`, numbered without gaps. The version lives in
`PRAGMA user_version` and moves in the same transaction as its file's statements, so a crash leaves the file at a whole
version and two processes that start together apply each file once. A file that was ever released is never edited.
Files hold no BEGIN, COMMIT or journal PRAGMA. Raises StoreError for a schema newer than this program.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

import apsw

from relay.mail.errors import StoreError


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file; `number` counts from 1."""

    number: int
    name: str
    sql: str


def load_migrations(folder: Traversable) -> tuple[Migration, ...]:
    """The `NNNN_words.sql` files of `folder` in order. Raises ValueError where a number is missing or used twice."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    found = tuple(Migration(int(name[:4]), name, (folder / name).read_text("utf-8")) for name in names)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations are not numbered 1, 2, 3 ...: {names}")
    return found


def migrations_of(name: str) -> tuple[Migration, ...]:
    """The files of `relay/store/sql/NAME`."""
    return load_migrations(resources.files("relay.store") / "sql" / name)


def schema_version(connection: apsw.Connection) -> int:
    """How many migrations the file behind `connection` has; 0 for an empty one."""
    return int(connection.pragma("user_version"))


def migrate(connection: apsw.Connection, migrations: tuple[Migration, ...]) -> int:
    """Apply what is missing, in one transaction: nobody meets a schema in between. Returns how many were applied.

    Takes no write lock when nothing is missing. Raises StoreError for a schema this program does not know.
    """
    check_known(schema_version(connection), migrations)
    if schema_version(connection) == len(migrations):
        return 0
    with exclusive(connection):
        # Another process may have applied them while this one waited for the lock.
        missing = migrations[schema_version(connection) :]
        for migration in missing:
            connection.execute(migration.sql)
            connection.pragma("user_version", migration.number)
    return len(missing)


def check_known(version: int, migrations: tuple[Migration, ...]) -> None:
    """Raises StoreError when `version` comes from a newer program."""
    if version > len(migrations):
        raise StoreError(
            f"the store has schema {version}, this program knows {len(migrations)}; run the newer sendrelay again"
        )


@contextmanager
def exclusive(connection: apsw.Connection) -> Iterator[None]:
    """A transaction no other process reads or writes beside; rolled back when the body raises."""
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A failed COMMIT (disk full) may already have rolled back by itself.
        if not connection.get_autocommit():
            connection.execute("ROLLBACK")
        raise
