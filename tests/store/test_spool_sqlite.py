"""SqliteSpool: what is its own and no contract: files, the lock, the schema, the disk and the commits."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest
from spool_kit import CONTENT, START, THRESHOLD, Bench, ManualClock, done

from relay.mail.errors import StoreError
from relay.ports import AttemptStart
from relay.store import bodies as bodies_module
from relay.store.bodies import BodyFiles
from relay.store.ids import IdSource, spool_of, to_number, to_text
from relay.store.spool import SqliteSpool, open_read_only
from relay.store.spool_read import listing
from relay.store.spool_write import PULL_IN
from relay.store.writer import GroupCommit

BIG = b"Subject: big\r\n\r\n" + b"x" * THRESHOLD
HERE = Path(__file__).parent


# --- promise 1 -----------------------------------------------------------------------------------------------


def test_another_process_sees_a_message_as_soon_as_enqueue_returns(bench):
    for content in (CONTENT, BIG):
        message_id = bench.enqueue(content=content)
        reader = open_read_only(bench.folder / "3.db")
        assert reader.execute("SELECT 1 FROM message WHERE id = ?", (to_number(message_id),)).get == 1
        reader.close()


def test_every_commit_is_synced(bench):
    """In WAL mode NORMAL would be consistent and not durable. 2 is FULL."""
    connection = bench.spool._writer._connection
    assert connection.pragma("synchronous") == 2
    assert connection.pragma("journal_mode") == "wal"


def test_what_waits_during_a_commit_goes_into_the_next_together(tmp_path):
    sizes = []

    async def scene():
        clock = ManualClock()
        spool = SqliteSpool.open(
            tmp_path, 3, clock, file_threshold=THRESHOLD, observe=lambda size, seconds: sizes.append(size)
        )
        one = Bench(tmp_path, clock, None)
        one.spool = spool
        await asyncio.gather(*(spool.enqueue(one.message()) for _ in range(200)))
        await spool.close()

    asyncio.run(scene())
    assert sum(sizes) == 200
    assert len(sizes) < 50


# --- files ---------------------------------------------------------------------------------------------------


def test_a_body_above_the_threshold_is_a_file_until_the_last_recipient_ends(bench):
    small, big = bench.enqueue(content=b"x" * THRESHOLD), bench.enqueue("a@x.example", "b@x.example", content=BIG)
    assert bench.body_files() == [big]
    bench.finish(big, 0)
    assert bench.body_files() == [big]
    bench.finish(big, 1)
    bench.finish(small)
    assert bench.body_files() == []


def test_a_file_is_removed_after_the_commit_and_never_before(bench, monkeypatch):
    message_id = bench.enqueue(content=BIG)
    begun = bench.begin(message_id)
    seen = []
    real = bench.spool._bodies.remove

    def remove(ids):
        reader = open_read_only(bench.folder / "3.db")
        seen.append((list(ids), reader.execute("SELECT count(*) FROM body").get))
        reader.close()
        real(ids)

    monkeypatch.setattr(bench.spool._bodies, "remove", remove)
    bench.end(message_id, begun.id, done(0))
    bench.enqueue()
    assert [one for one in seen if one[0]] == [([message_id], 0)]


def test_the_file_of_a_message_that_was_not_stored_is_removed(bench):
    with pytest.raises(StoreError):
        bench.run(bench.spool.enqueue(bench.message(content=BIG, account="\ud800")))
    assert bench.body_files() == []


def test_files_no_row_names_are_removed_at_start_and_the_others_stay(bench):
    message_id = bench.enqueue(content=BIG)
    bodies = BodyFiles(bench.folder / "3.bodies")
    orphan = bench.spool.new_id()
    bodies.write(orphan, BIG)
    bodies.path(orphan).with_suffix(".new").write_bytes(b"half")
    assert len(bench.body_files()) == 3
    bench.restart()
    assert bench.body_files() == [message_id]
    assert bench.run(bench.spool.read_content(message_id)) == BIG


def test_a_file_that_is_gone_is_a_store_error(bench):
    message_id = bench.enqueue(content=BIG)
    BodyFiles(bench.folder / "3.bodies").path(message_id).unlink()
    with pytest.raises(StoreError, match="cannot read the message body"):
        bench.run(bench.spool.read_content(message_id))


def test_a_body_that_cannot_be_written_is_a_store_error_and_leaves_nothing(bench, monkeypatch):
    message = bench.message(content=BIG)

    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bodies_module.os, "write", full)
    with pytest.raises(StoreError, match="No space left"):
        bench.run(bench.spool.enqueue(message))
    monkeypatch.undo()
    assert bench.body_files() == []
    assert bench.due() == []
    bench.run(bench.spool.enqueue(message))
    assert bench.due_ids() == [message.id]


def test_a_body_and_its_folders_are_synced_before_the_write_returns(tmp_path, monkeypatch):
    """Also for a thread that finds the subfolder made by another, which has not synced it yet."""
    synced, real = [], os.fsync
    monkeypatch.setattr(
        bodies_module.os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))
    )
    bodies = BodyFiles(tmp_path / "b")
    bodies.write("00000000000000ff", b"x")
    folder = str(tmp_path / "b")
    assert synced == [folder, f"{folder}/ff/00000000000000ff.new", f"{folder}/ff"]
    gate, arrived = threading.Event(), threading.Event()

    def slow(fd):
        if os.readlink(f"/proc/self/fd/{fd}") == folder and not arrived.is_set():
            arrived.set()
            gate.wait(10)
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    synced.clear()
    monkeypatch.setattr(bodies_module.os, "fsync", slow)
    first = threading.Thread(target=bodies.write, args=("00000000000001ee", b"x"))
    second = threading.Thread(target=bodies.write, args=("00000000000002ee", b"x"))
    first.start()
    assert arrived.wait(10)
    second.start()
    second.join(0.05)
    assert synced == []
    gate.set()
    first.join()
    second.join()
    assert synced[0] == folder


def test_nobody_else_may_read_the_spool(bench):
    bench.enqueue(content=BIG)
    for path in [bench.folder, *bench.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


# --- start ---------------------------------------------------------------------------------------------------


def test_a_second_server_is_refused_and_a_third_may_come_after_the_first(bench):
    script = (
        "import asyncio, sys, pathlib\n"
        "from relay.ports import SystemClock\n"
        "from relay.store.spool import SqliteSpool\n"
        "async def main():\n"
        "    spool = SqliteSpool.open(pathlib.Path(sys.argv[1]), 3, SystemClock(), file_threshold=1)\n"
        "    await spool.close()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script, str(bench.folder)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "StoreError" in refused.stderr
    assert "another server uses this spool" in refused.stderr
    bench.close()
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 0


def test_a_schema_of_a_newer_program_is_refused_and_the_lock_given_back(bench):
    bench.close()
    connection = apsw.Connection(str(bench.folder / "3.db"))
    version = connection.pragma("user_version")
    connection.pragma("user_version", version + 1)
    for _ in range(2):
        with pytest.raises(StoreError, match="run the newer sendrelay"):
            bench.open()
    connection.pragma("user_version", version)
    connection.close()
    bench.open()


@pytest.mark.parametrize(
    "damage", [b"this is no database, by no means one" * 300, b"SQLite format 3\x00" + b"x" * 9000]
)
def test_a_file_that_is_no_spool_is_refused_in_one_line(bench, damage):
    bench.close()
    for path in bench.folder.glob("3.db*"):
        path.unlink()
    (bench.folder / "3.db").write_bytes(damage)
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot open the spool") as caught:
            bench.open()
        assert "\n" not in str(caught.value)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "spool").write_bytes(b"")
    with asyncio.Runner() as runner, pytest.raises(StoreError, match="cannot use the spool folder"):
        Bench(tmp_path / "spool", ManualClock(), runner).open()


def test_a_bodies_folder_that_is_a_file_is_refused_and_the_lock_given_back(bench):
    bench.close()
    (bench.folder / "3.bodies").rmdir()
    (bench.folder / "3.bodies").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot open the spool"):
        bench.open()
    (bench.folder / "3.bodies").unlink()
    bench.open()


def test_a_start_without_a_message_recovers_nothing(bench):
    assert bench.spool.recovered == 0


# --- a full disk ---------------------------------------------------------------------------------------------


def test_a_full_disk_is_a_store_error_and_over_when_there_is_room_again(bench):
    connection = bench.spool._writer._connection
    kept = [bench.enqueue() for _ in range(3)]
    begun = bench.begin(kept[0])
    pages = connection.pragma("page_count")
    connection.pragma("max_page_count", pages)
    fill = [bench.message(content=b"x" * 900) for _ in range(100)]

    async def all_at_once():
        return await asyncio.gather(*map(bench.spool.enqueue, fill), return_exceptions=True)

    results = bench.run(all_at_once())
    refused = [one.id for one, result in zip(fill, results, strict=True) if isinstance(result, StoreError)]
    assert refused
    assert any("full" in str(result) for result in results if isinstance(result, StoreError))
    assert not set(refused) & set(bench.due_ids())
    connection.pragma("max_page_count", 1 << 30)
    kept += [one.id for one in fill if one.id not in refused]
    bench.end(kept[0], begun.id, done(0))
    again = bench.enqueue()
    assert set(bench.due_ids()) == {*kept[1:], again}
    bench.restart()
    assert set(bench.due_ids()) == {*kept[1:], again}


def test_a_file_that_may_not_grow_is_a_store_error_and_over_when_it_may(tmp_path):
    """The same with the system's own refusal, in a process of its own: EFBIG from every write."""
    script = HERE / "spool_full_disk.py"
    told = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "spool")], capture_output=True, text=True, check=False, timeout=60
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.split() == ["stored", "refused", "refused", "stored", "all"]


# --- the writer ----------------------------------------------------------------------------------------------


def test_a_rollback_that_failed_is_made_up_for(tmp_path):
    """Or every later commit would fail inside the transaction that was left open."""

    async def scene():
        connection = apsw.Connection(str(tmp_path / "x.db"))
        connection.execute("CREATE TABLE t(v)")

        def apply(connection, values):
            connection.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
            return list(values)

        loop = asyncio.get_running_loop()
        writer = GroupCommit(connection, apply, lambda: None, loop, lambda size, seconds: None, lambda: 0.0)
        await writer.submit(1)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (99)")
        assert await writer.submit(2) == 2
        assert connection.execute("SELECT v FROM t").fetchall() == [(1,), (2,)]
        await writer.close()

    asyncio.run(scene())


def test_a_lock_held_by_somebody_else_fails_a_commit_once_and_not_once_an_operation(tmp_path):
    async def scene():
        connection, other = (apsw.Connection(str(tmp_path / "x.db")) for _ in range(2))
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t(v)")
        calls = []

        def apply(connection, values):
            calls.append(len(values))
            connection.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
            return list(values)

        loop = asyncio.get_running_loop()
        observed = []
        writer = GroupCommit(
            connection, apply, lambda: None, loop, lambda size, seconds: observed.append(size), lambda: 0.0
        )
        other.execute("BEGIN IMMEDIATE")
        futures = [writer.submit(number) for number in range(50)]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert all(isinstance(result, StoreError) for result in results)
        assert calls == []
        other.execute("ROLLBACK")
        assert await writer.submit(7) == 7
        await writer.close()
        other.close()

    asyncio.run(scene())


def test_cheap_operations_are_executed_on_the_loop_and_wait_for_a_lock_on_the_thread(tmp_path):
    """The loop must never sleep; the thread has the patience."""

    async def scene():
        connection, other = (apsw.Connection(str(tmp_path / "x.db")) for _ in range(2))
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t(v)")
        threads = []

        def apply(connection, values):
            threads.append(threading.current_thread().name)
            connection.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
            return list(values)

        loop = asyncio.get_running_loop()
        writer = GroupCommit(
            connection, apply, lambda: None, loop, lambda size, seconds: None, lambda: 0.0, lambda value: value < 10
        )
        assert await asyncio.gather(writer.submit(1), writer.submit(2)) == [1, 2]
        assert await writer.submit(10) == 10
        other.execute("BEGIN IMMEDIATE")
        waits = writer.submit(3)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        other.execute("ROLLBACK")
        assert await waits == 3
        assert threads == ["MainThread", "spool-writer", "spool-writer"]
        assert connection.execute("SELECT v FROM t").fetchall() == [(1,), (2,), (10,), (3,)]
        await writer.close()
        other.close()

    asyncio.run(scene())


# --- reading -------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_is_a_store_error(bench):
    bench.enqueue()
    bench.spool._reader.close()
    for question in (bench.spool.due(0.0, START, 1), bench.spool.next_due_at(0.0), bench.spool.counts()):
        with pytest.raises(StoreError, match="cannot read the spool"):
            bench.run(question)


def test_a_spool_that_was_never_there_cannot_be_read(tmp_path):
    with pytest.raises(StoreError, match="has the server ever run"):
        open_read_only(tmp_path / "7.db")


def test_a_listing_shows_what_is_unfinished_by_account_and_by_domain(bench):
    first = bench.enqueue("a@x.example", "b@y.example")
    second = bench.enqueue("c@Sub.x.example", account="other")
    ended = bench.enqueue("d@x.example")
    bench.finish(ended)
    bench.finish(first, 1)
    reader = open_read_only(bench.folder / "3.db")

    def ids(**wanted):
        return [message["id"] for message in listing(reader, **wanted)]

    assert ids() == [first, second]
    assert ids(limit=1) == [first]
    assert ids(account="other") == [second]
    assert ids(domain="x.example") == [first]
    assert ids(domain="X.EXAMPLE") == [first]
    assert ids(domain="y.example") == []
    assert ids(domain="sub.x.example") == [second]
    assert ids(domain="%") == ids(domain="_.example") == []
    [shown] = listing(reader, account="other")
    assert (shown["from"], shown["size"]) == ("a@b.example", len(CONTENT))
    assert shown["recipients"][0]["address"] == "c@Sub.x.example"
    reader.close()


# --- ids -----------------------------------------------------------------------------------------------------


def test_an_id_tells_which_spool_it_lives_in():
    for number in (0, 1, 255):
        assert spool_of(to_text(IdSource(number, ManualClock()).next())) == number


@pytest.mark.parametrize("number", [-1, 256])
def test_there_are_256_spools(number):
    with pytest.raises(ValueError, match="spool number"):
        IdSource(number, ManualClock())


def test_more_ids_than_a_millisecond_holds_go_into_the_next():
    source, clock = IdSource(1, ManualClock()), ManualClock()
    ids = [source.next() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert {spool_of(to_text(one)) for one in ids} == {1}
    assert (ids[-1] >> 20) - int(clock.now() * 1000) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0" * 17,
        "8000000000000000",
        "ffffffffffffffff",
        "-000000000000001",
        "+000000000000001",
        "000000000000000G",
        "00000000000000FF",
        " 00000000000001",
        "0x00000000000001",
        "0000_0000_000001",
        "0" * 15 + "\n",
    ],
)
def test_what_is_no_id_is_refused(text):
    with pytest.raises(ValueError, match="not a message id"):
        to_number(text)


def test_an_id_reads_back():
    for number in (0, 1, (1 << 63) - 1):
        assert to_number(to_text(number)) == number


# --- what must not get slow with the queue -------------------------------------------------------------------


@pytest.mark.parametrize(
    "question",
    [
        "SELECT count(*), min(message) FROM body",
        "SELECT message FROM body WHERE content IS NULL",
        "SELECT state, count(*) FROM recipient WHERE state < 2 GROUP BY state",
        "SELECT count(*) FROM recipient WHERE state = 2",
        "SELECT min(next_at) FROM recipient WHERE state < 2 AND next_at > 5",
    ],
)
def test_counting_reads_indexes_only(bench, question):
    """Asked every few seconds: with a large queue, reading the bodies' own pages would be gigabytes."""
    plan = bench.spool._reader.execute(f"EXPLAIN QUERY PLAN {question}").fetchall()
    steps = [row[3] for row in plan if row[3].startswith(("SCAN", "SEARCH"))]
    assert steps
    assert all("INDEX" in step for step in steps), steps


def test_pulling_in_reads_what_waits_and_none_of_the_history(bench):
    """The writer does it: a look at every row of a week's mail would hold up all mail for seconds."""
    bench.enqueue()
    plan = bench.spool._writer._connection.execute(f"EXPLAIN QUERY PLAN {PULL_IN}", (1, 2)).fetchall()
    assert ["recipient_due" in step[3] for step in plan] == [True]


def test_pruning_steps_over_a_long_queue_in_the_reader_and_not_in_the_writer(bench):
    """In the writer it would hold up all mail, each time anew."""

    async def queue():
        await asyncio.gather(*(bench.spool.enqueue(bench.message()) for _ in range(2000)))

    bench.run(queue())
    bench.finish(bench.enqueue(), 0)
    steps = []

    def thousand_more():
        steps.append(1000)
        return False

    bench.spool._writer._connection.set_progress_handler(thousand_more, 1000)
    assert bench.run(bench.spool.prune(START + 500, 200)) == 1
    assert sum(steps) <= 3000


def test_an_interrupted_attempt_is_held_where_the_operator_wants_to_decide(tmp_path):
    async def scene():
        clock = ManualClock()
        spool = SqliteSpool.open(tmp_path, 3, clock, file_threshold=THRESHOLD)
        one = Bench(tmp_path, clock, None)
        one.spool = spool
        message = one.message()
        await spool.enqueue(message)
        await spool.begin_attempt(AttemptStart(message.id, (0,), "direct", "d.example", clock.now()))
        await spool.close()
        spool = SqliteSpool.open(tmp_path, 3, clock, file_threshold=THRESHOLD, in_doubt="hold")
        [recipient] = (await spool.message(message.id))["recipients"]
        assert recipient["state"] == "held"
        assert "it may have been delivered" in recipient["reply"]
        assert await spool.next_due_at(0.0) is None
        await spool.close()

    asyncio.run(scene())
