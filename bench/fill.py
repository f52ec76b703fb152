"""fill.py: puts mail into a spool of the relay while no server runs, for the parts of the bench that need much of it.

Run by path with the interpreter of the relay under test, so it imports nothing of the bench. `queue` goes through the
spool's own door, as accepted mail does: group commit, fsync and all. `history` writes rows of finished messages by SQL
into the spool's own schema, as deliveries to a next hop leave them: for each message one row of `message`, `recipient`
and `attempt` and two of `event`. Out: the number of messages made, on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Final

import apsw
import uvloop

from relay.mail.envelope import Envelope, Recipient
from relay.ports import NewMessage, SystemClock
from relay.store.spool import SqliteSpool

_AT_A_TIME: Final = 512
_ROWS_A_TRANSACTION: Final = 200_000
_DAYS: Final = 6  # within the week a message is kept by default
_THRESHOLD: Final = 65_536
_SENDER: Final = "app@unsigned.example"
_LINE: Final = b"X" * 78 + b"\r\n"

# ?1: first number, ?2: last, ?3: milliseconds of number 0, ?4: milliseconds between two, ?5: the spool.
# Ids are those of relay/store/ids.py. In SQLite + binds closer than <<, and << as close as &.
_NUMBERS: Final = (
    "WITH RECURSIVE i(n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM i WHERE n < ?2),"
    " m(id, n, at) AS (SELECT ((CAST(?3 + n * ?4 AS INTEGER) << 8) + ?5 << 12) + (n & 4095), n,"
    " CAST(?3 + n * ?4 AS INTEGER) * 1000 FROM i)"
)
_TABLES: Final = (
    "INSERT INTO message(id, account, username, reverse_path, options, size, received_at, client_message_id, tags,"
    " digest) {numbers} SELECT id, 'default', 'app@bench.example', 'app@unsigned.example', '', 4535, at,"
    " '<' || n || '.history@bench.example>', '', randomblob(16) FROM m",
    "INSERT INTO recipient(message, n, address, notify, orcpt, state, attempts, next_at, reply, remote_id)"
    " {numbers} SELECT id, 0, 'someone' || n % 100000 || '@rcpt.example', '', NULL, 10, 1, 0, '250 2.0.0 Ok',"
    " lower(hex(randomblob(12))) FROM m",
    "INSERT INTO attempt(message, id, recipients, transport, destination, started_at, ended_at, host)"
    " {numbers} SELECT id, at + 1, '[0]', 'smarthost:sink', '', at + 2000, at + 9000, '127.0.0.1[127.0.0.1]:25' FROM m",
    "INSERT INTO event(message, seq, at, n, kind, reply) {numbers}"
    " SELECT m.id, m.at + e.column1, m.at + e.column2, e.column3, e.column4, e.column5 FROM m,"
    " (VALUES (0, 0, -1, 'queued', ''), (2, 9000, 0, 'sent', '250 2.0.0 Ok')) e",
)


async def queue(spool: SqliteSpool, count: int, size: int) -> None:
    """`count` messages of `size` octets of body, due at once."""
    body = b"\r\n" + _LINE * (size // len(_LINE)) + b"X" * (size % len(_LINE)) + b"\r\n"
    head = f"From: <{_SENDER}>\r\nTo: <someone@rcpt.example>\r\nSubject: bench\r\n".encode()
    envelope = Envelope(_SENDER, (Recipient("someone@rcpt.example"),))

    def message(number: int) -> NewMessage:
        name = f"<{number}.queue@bench.example>"
        content = head + f"Message-ID: {name}\r\n".encode() + body
        return NewMessage(spool.new_id(), "default", "app@bench.example", envelope, content, time.time(), name)

    for first in range(0, count, _AT_A_TIME):
        some = range(first, min(count, first + _AT_A_TIME))
        await asyncio.gather(*(spool.enqueue(message(number)) for number in some))


def history(database: Path, number: int, count: int, now: float) -> None:
    """`count` finished messages, evenly over the last days."""
    connection = apsw.Connection(str(database))
    try:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-262144")
        step = _DAYS * 86_400_000 / count
        for first in range(0, count, _ROWS_A_TRANSACTION):
            last = min(count, first + _ROWS_A_TRANSACTION) - 1
            with connection:
                for text in _TABLES:
                    place = (first, last, int((now - _DAYS * 86_400) * 1000), step, number)
                    connection.execute(text.format(numbers=_NUMBERS), place)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


async def _run(options: argparse.Namespace) -> None:
    spool = SqliteSpool.open(options.folder, options.number, SystemClock(), file_threshold=_THRESHOLD)
    try:
        if options.what == "queue":
            await queue(spool, options.count, options.size)
    finally:
        await spool.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="fill.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("queue", "history"))
    parser.add_argument("folder", type=Path, help="<var>/spool")
    parser.add_argument("number", type=int, help="of the spool")
    parser.add_argument("count", type=int)
    parser.add_argument("--size", type=int, default=1024, help="octets of body of a queued message")
    options = parser.parse_args()
    uvloop.run(_run(options))
    if options.what == "history" and options.count:
        history(options.folder / f"{options.number}.db", options.number, options.count, time.time())
    print(options.count)


if __name__ == "__main__":
    main()
