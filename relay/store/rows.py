"""Many rows, few statements.

On the loop a statement a row, prepared once, is the least work. But each SQLite call hands over the interpreter lock,
which a busy loop is slow to give back to the writer's thread: so what is more than a few rows goes in chunks. The texts
repeat (there are two sizes of chunks), so the connection's statement cache serves them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import apsw

_CHUNKS: Final = (64, 16)
_FEW: Final = min(_CHUNKS)

Row = Sequence[Any]


def microseconds(seconds: float) -> int:
    """A time as it is stored. Rounded, so that a stored time read as seconds is stored the same again."""
    return round(seconds * 1_000_000)


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """As many as there are, then the few that are left."""
    start = 0
    for size in _CHUNKS:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size
    if start < len(rows):
        yield rows[start:]


@lru_cache(maxsize=256)
def _placeholders(count: int, width: int) -> str:
    one = "(" + ",".join("?" * width) + ")"
    return ",".join([one] * count)


@lru_cache(maxsize=64)
def _insert_one(into: str, width: int) -> str:
    return f"INSERT INTO {into} VALUES {_placeholders(1, width)}"  # noqa: S608 - our own text


@lru_cache(maxsize=64)
def _for_one(columns: str, statement: str) -> str:
    """The statement for one row, with its values in the place of `v`; `""` where it asks more of `v` than its values.

    Spares SQLite a table of its own for `v`, and one for what is to be changed.
    """
    for place, name in enumerate(columns.split(", "), 1):
        statement = re.sub(rf"\bv\.{name}\b|\bSELECT {name} FROM v\b", f"?{place}", statement)
    statement = re.sub(r"(?: FROM|,) v(?= WHERE\b)", "", statement)
    return "" if re.search(r"\bv\b", statement) else statement


def query(connection: apsw.Connection, text: str, bindings: Sequence[Any] = ()) -> list[Any]:
    """All rows of a question; the schema is STRICT, so their types are what the SQL says."""
    return connection.execute(text, bindings).fetchall()


def value(connection: apsw.Connection, text: str, bindings: Sequence[Any] = ()) -> Any:
    """The first column of the first row, None without one."""
    return connection.execute(text, bindings).get


def insert(connection: apsw.Connection, into: str, rows: Sequence[Row]) -> None:
    """`into` is `table(column, ...)`."""
    for chunk in _chunks(rows):
        width = len(chunk[0])
        if len(chunk) < _FEW:
            connection.executemany(_insert_one(into, width), chunk)
        else:
            text = f"INSERT INTO {into} VALUES {_placeholders(len(chunk), width)}"  # noqa: S608 - our own text
            connection.execute(text, list(chain.from_iterable(chunk)))


def update(connection: apsw.Connection, columns: str, statement: str, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """Run `statement` with `v(columns)` holding the rows; returns what it RETURNs."""
    returned: list[tuple[Any, ...]] = []
    for chunk in _chunks(rows):
        one = _for_one(columns, statement) if len(chunk) < _FEW else ""
        if one:
            returned += connection.executemany(one, chunk).fetchall()
        else:
            text = f"WITH v({columns}) AS (VALUES {_placeholders(len(chunk), len(chunk[0]))}) {statement}"
            returned += connection.execute(text, list(chain.from_iterable(chunk))).fetchall()
    return returned


def report_digest(key: str) -> bytes:
    """Under which a report is remembered."""
    return hashlib.blake2b(key.encode("utf-8"), digest_size=16).digest()
