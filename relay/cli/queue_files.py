"""The spools on disk, read beside the server: which there are, and what a question finds in one. Raises StoreError."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import apsw

from relay.mail.errors import StoreError
from relay.settings import Settings
from relay.store.ids import spool_of
from relay.store.spool import open_read_only
from relay.store.spool_files import SpoolPaths, spools

_Answer = TypeVar("_Answer")


def files(settings: Settings) -> list[Path]:
    """Databases of all spools there are. Raises StoreError."""
    return [paths.database for paths in spools(settings.server.var / "spool")]


def read(path: Path, question: Callable[[apsw.Connection], _Answer]) -> _Answer:
    """What `question` finds in a spool. Raises StoreError."""
    with closing(open_read_only(path)) as connection:
        try:
            return question(connection)
        except apsw.Error as error:
            raise StoreError(f"{path}: cannot read the spool: {error}; try again, or restore it from a copy") from error


def spool(message_id: str) -> int:
    try:
        return spool_of(message_id)
    except ValueError:
        raise StoreError(
            f"{message_id!r} is no message id; it has 16 hex digits, as in `250 2.0.0 Ok: queued as`"
        ) from None


def database(settings: Settings, spool: int) -> Path:
    return SpoolPaths(settings.server.var / "spool", spool).database


def file_of(settings: Settings, message_id: str) -> Path | None:
    """The database a message lives in; None where there is no such spool. Raises StoreError."""
    path = database(settings, spool(message_id))
    return path if path in files(settings) else None
