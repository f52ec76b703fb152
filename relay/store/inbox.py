"""Inbox: every message the sandbox MX took, with its envelope, in `<var>/inbox.db`.

In: InboxMessage and bytes. Out: the same. One writer keeps its connection; each reading opens its own, so the HTTP
interface (threads) and `relay inbox` (another process) read beside the server. A commit survives the death of the
process, not of the machine: nobody's mail lives here. Grows until `clear`. Raises StoreError.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import apsw

from relay.mail.errors import StoreError
from relay.mail.message import header_block
from relay.ports import InboxMessage

INBOX_FILE: Final = "inbox.db"

_HEADER_KEPT: Final = 65_536
_BUSY_MS: Final = 5000
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS message (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  received_at REAL NOT NULL,
  mail_from TEXT,
  rcpt_to TEXT NOT NULL,
  rcpt_lower TEXT NOT NULL,
  tls TEXT,
  cipher TEXT,
  helo TEXT NOT NULL,
  size INTEGER NOT NULL,
  header BLOB NOT NULL,
  content BLOB NOT NULL
);
"""
_COLUMNS: Final = "id, received_at, mail_from, rcpt_to, tls, cipher, helo, size, header"
_ADD: Final = """
INSERT INTO message (received_at, mail_from, rcpt_to, rcpt_lower, tls, cipher, helo, size, header, content)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id
"""
_MATCHING: Final = f"""
SELECT {_COLUMNS} FROM message
WHERE id > ?1 AND received_at >= ?2
  AND (?3 = '' OR EXISTS (SELECT 1 FROM json_each(rcpt_lower) WHERE value = ?3))
"""  # noqa: S608 -- the columns are a constant of this file


class Inbox:
    """Ports InboxWriter and InboxReader over one file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / INBOX_FILE
        self._writer: apsw.Connection | None = None

    def open(self) -> None:
        """Create or open the file for writing (mode 0600). Raises StoreError."""
        with _explained(self._path):
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = apsw.Connection(os.fspath(self._path))
            connection.set_busy_timeout(_BUSY_MS)
            _to_wal(connection)
            connection.pragma("synchronous", "normal")
            connection.execute(_SCHEMA)
            self._writer = connection

    def close(self) -> None:
        """Close the writer; reading still works."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def add(self, message: InboxMessage, content: bytes) -> int:
        """Store one message; returns its id. Ids are never used twice, `clear` or not."""
        assert self._writer is not None, "open() comes first"
        row = (
            message.received_at,
            message.mail_from,
            json.dumps(message.rcpt_to),
            json.dumps([address.lower() for address in message.rcpt_to]),
            message.tls,
            message.cipher,
            message.helo,
            len(content),
            header_block(content)[:_HEADER_KEPT],
            content,
        )
        with _explained(self._path):
            return int(self._writer.execute(_ADD, row).get)

    def list(self, *, to: str = "", limit: int = 50, after_id: int = 0, since: float = 0.0) -> Sequence[InboxMessage]:
        """Newest last. Without `after_id` and `since` the newest `limit`, with one of them the first after it.

        `to` is a recipient's whole address, in any case; `since` seconds since the epoch.
        """
        forward = bool(after_id or since)
        order = "id" if forward else "id DESC"
        rows = self._query(f"{_MATCHING} ORDER BY {order} LIMIT ?4", (after_id, since, to.lower(), limit))
        messages = [_message(row) for row in rows]
        return messages if forward else messages[::-1]

    def get(self, number: int) -> InboxMessage | None:
        """One message without its bytes."""
        rows = self._query(f"SELECT {_COLUMNS} FROM message WHERE id = ?", (number,))  # noqa: S608 -- a constant
        return _message(rows[0]) if rows else None

    def raw(self, number: int) -> bytes | None:
        """The bytes as they came in, transparency dots removed."""
        rows = self._query("SELECT content FROM message WHERE id = ?", (number,))
        return bytes(rows[0][0]) if rows else None

    def clear(self) -> int:
        """Delete everything; returns how many messages that were."""
        if not self._path.exists():
            return 0
        with _explained(self._path), closing(apsw.Connection(os.fspath(self._path), _READ_WRITE)) as connection:
            connection.set_busy_timeout(_BUSY_MS)
            connection.execute("DELETE FROM message")
            return connection.changes()

    def _query(self, text: str, bindings: tuple[Any, ...]) -> Sequence[tuple[Any, ...]]:
        if not self._path.exists():
            return []
        with _explained(self._path), closing(apsw.Connection(os.fspath(self._path), _READ_ONLY)) as connection:
            connection.set_busy_timeout(_BUSY_MS)
            return connection.execute(text, bindings).fetchall()


def _to_wal(connection: apsw.Connection) -> None:
    """Workers start at once on a new file, and SQLite's busy handler is not asked where each waits for the other."""
    end = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            connection.pragma("journal_mode", "wal")
            return
        except apsw.BusyError:
            if time.monotonic() > end:
                raise
            time.sleep(0.005)


_READ_ONLY: Final = apsw.SQLITE_OPEN_READONLY
_READ_WRITE: Final = apsw.SQLITE_OPEN_READWRITE


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (apsw.Error, OSError) as error:
        raise StoreError(f"{path}: {error}; check its owner, or delete it: it holds sandbox mail only") from error


def _message(row: tuple[Any, ...]) -> InboxMessage:
    number, received_at, mail_from, rcpt_to, tls, cipher, helo, size, header = row
    return InboxMessage(number, received_at, mail_from, tuple(json.loads(rcpt_to)), tls, cipher, helo, size, header)
