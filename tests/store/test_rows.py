"""Rows: a few go by a statement each, many by few statements, and both do the same."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import pytest

from relay.store.rows import insert, query, update

_SET = "UPDATE thing SET word = v.word FROM v WHERE thing.id = v.id AND thing.word <> 'kept' RETURNING id"
_FIND = "SELECT v.place, thing.word FROM thing, v WHERE thing.id = v.id"
_DROP = "DELETE FROM thing WHERE id IN (SELECT id FROM v) RETURNING word"
_DROP_PAIRS = "DELETE FROM thing WHERE (id, word) IN (SELECT id, word FROM v) RETURNING id"
_JOINED = "SELECT v.id FROM v JOIN thing ON thing.id = v.id"

_sizes = pytest.mark.parametrize("size", [1, 3, 15, 16, 17, 64, 95])


@pytest.fixture
def connection() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE thing (id INTEGER PRIMARY KEY, word TEXT) STRICT")
    insert(connection, "thing(id, word)", [(number, f"word {number}") for number in range(200)])
    yield connection
    connection.close()


@_sizes
def test_every_row_is_inserted(connection: apsw.Connection, size: int) -> None:
    rows = [(1000 + number, f"new {number}") for number in range(size)]
    insert(connection, "thing(id, word)", rows)
    assert query(connection, "SELECT id, word FROM thing WHERE id >= 1000 ORDER BY id") == rows


@_sizes
def test_each_row_changes_its_own_and_what_is_returned_is_of_all(connection: apsw.Connection, size: int) -> None:
    connection.execute("UPDATE thing SET word = 'kept' WHERE id = 0")
    done = update(connection, "id, word", _SET, [(number, f"set {number}") for number in range(size)])
    assert sorted(done) == [(number,) for number in range(1, size)]
    assert query(connection, "SELECT id, word FROM thing WHERE word LIKE 'set %' ORDER BY id") == [
        (number, f"set {number}") for number in range(1, size)
    ]


@_sizes
def test_a_question_is_answered_for_each_row(connection: apsw.Connection, size: int) -> None:
    rows = [(place, 199 - place) for place in range(size)]
    assert sorted(update(connection, "place, id", _FIND, rows)) == [
        (place, f"word {199 - place}") for place in range(size)
    ]


@_sizes
@pytest.mark.parametrize(
    ("columns", "statement"), [("id", _DROP), ("id, word", _DROP_PAIRS), ("id", _JOINED)], ids=["one", "pairs", "join"]
)
def test_only_what_the_rows_name_is_touched(
    connection: apsw.Connection, size: int, columns: str, statement: str
) -> None:
    rows = [(number, f"word {number}")[: columns.count(",") + 1] for number in range(size)]
    assert len(update(connection, columns, statement, rows)) == size
    left = query(connection, "SELECT count(*) FROM thing")
    assert left == [(200 if statement == _JOINED else 200 - size,)]


def test_no_rows_are_no_statement(connection: apsw.Connection) -> None:
    insert(connection, "thing(id, word)", [])
    assert update(connection, "id", _DROP, []) == []
    assert query(connection, "SELECT count(*) FROM thing") == [(200,)]
