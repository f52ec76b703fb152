"""Many rows, few statements: each SQLite call costs a hand-over of the interpreter lock, so batches go in chunks.

Statement texts repeat (chunk sizes are powers of two), so the connection's statement cache serves them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import apsw

_CHUNKS = (64, 16, 4, 1)

Row = Sequence[Any]


def microseconds(seconds: float) -> int:
    """A time as it is stored. Rounded, so that a stored time read as seconds is stored the same again."""
    return round(seconds * 1_000_000)


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    start = 0
    for size in _CHUNKS:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


@lru_cache(maxsize=256)
def _placeholders(count: int, width: int) -> str:
    one = "(" + ",".join("?" * width) + ")"
    return ",".join([one] * count)


def query(connection: apsw.Connection, text: str, bindings: Sequence[Any] = ()) -> list[Any]:
    """All rows of a question; the schema is STRICT, so their types are what the SQL says."""
    return connection.execute(text, bindings).fetchall()


def value(connection: apsw.Connection, text: str, bindings: Sequence[Any] = ()) -> Any:
    """The first column of the first row, None without one."""
    return connection.execute(text, bindings).get


def insert(connection: apsw.Connection, into: str, rows: Sequence[Row]) -> None:
    """`into` is `table(column, ...)`."""
    for chunk in _chunks(rows):
        text = f"INSERT INTO {into} VALUES {_placeholders(len(chunk), len(chunk[0]))}"  # noqa: S608 - our own text
        connection.execute(text, list(chain.from_iterable(chunk)))


def update(connection: apsw.Connection, columns: str, statement: str, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """Run `statement` with `v(columns)` holding the rows; returns what it RETURNs."""
    returned: list[tuple[Any, ...]] = []
    for chunk in _chunks(rows):
        text = f"WITH v({columns}) AS (VALUES {_placeholders(len(chunk), len(chunk[0]))}) {statement}"
        returned += connection.execute(text, list(chain.from_iterable(chunk))).fetchall()
    return returned
