"""Questions to a spool, asked on a read-only connection: what is due, what is stored, what the operator sees."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import apsw

from relay.mail.envelope import Envelope, Recipient
from relay.mail.lifecycle import State
from relay.ports import HandedOn, QueuedMessage, QueuedRecipient
from relay.store.doubts import doubt_of
from relay.store.ids import ID_BITS_BELOW_TIME, to_text
from relay.store.rows import microseconds, query, report_digest, value

IN_FILE: Final = "file"

_WAITING = (
    "SELECT r.message, r.n, r.address, r.notify, r.orcpt, r.attempts, r.next_at, r.via, r.told, r.awaits,"
    " r.remote_id, r.doubt,"
    " m.account, m.username, m.reverse_path, m.options, m.size, m.received_at, m.tags"
    " FROM recipient r JOIN message m ON m.id = r.message"
)
_THESE = _WAITING + (  # noqa: S608 - our own text
    " WHERE r.message = ?1 AND r.state < 10 AND r.n IN (SELECT value FROM json_each(?2)) ORDER BY r.n"
)
_DUE = _WAITING + (  # noqa: S608
    " WHERE r.state < 2 AND r.next_at > ?1 AND r.next_at <= coalesce("
    "  (SELECT next_at FROM recipient WHERE state < 2 AND next_at > ?1 AND next_at <= ?2"
    "   ORDER BY next_at LIMIT 1 OFFSET ?3), ?2)"
    " ORDER BY r.next_at, r.message, r.n"
)

_URGENT = _WAITING + (
    " WHERE r.state < 2 AND r.priority > 0 AND r.next_at <= ?"
    " ORDER BY r.priority DESC, r.next_at, r.message, r.n LIMIT ?"
)

_HANDED_ON = _WAITING.replace("SELECT ", "SELECT r.state, ", 1) + (  # noqa: S608
    " WHERE r.remote_id <> '' AND r.remote_id IN (SELECT value FROM json_each(?)) AND (r.state >= 10 OR r.awaits <> '')"
)
_REPORTED: Final = "SELECT 1 FROM report WHERE digest = ?"
_ATTEMPTS_OF: Final = (
    "SELECT message, transport, recipients FROM attempt WHERE message IN (SELECT value FROM json_each(?))"
    " ORDER BY message, id"
)

_SENT_TO = _WAITING.replace("SELECT ", "SELECT r.state, ", 1) + " WHERE r.message = ? ORDER BY r.n"


@dataclass(frozen=True, slots=True)
class Counts:
    """Recipients by state and messages unfinished; `oldest` is the received time of the oldest of those."""

    recipients: dict[str, int]
    messages: int
    oldest: float | None


def content(connection: apsw.Connection, number: int) -> bytes | str | None:
    """The stored bytes, IN_FILE when they are a file, None when they are gone."""
    rows = query(connection, "SELECT content FROM body WHERE message = ?", (number,))
    if not rows:
        return None
    stored: bytes | None = rows[0][0]
    return IN_FILE if stored is None else stored


def ids_with_files(connection: apsw.Connection) -> Iterator[str]:
    for (number,) in query(connection, "SELECT message FROM body WHERE content IS NULL"):
        yield to_text(number)


def due(connection: apsw.Connection, after: float, until: float, limit: int) -> list[QueuedMessage]:
    """See ports.Spool.due."""
    return _messages(query(connection, _DUE, (microseconds(after), microseconds(until), limit - 1)))


def urgent(connection: apsw.Connection, until: float, limit: int) -> list[QueuedMessage]:
    """See ports.Spool.urgent."""
    return _messages(query(connection, _URGENT, (microseconds(until), limit)))


def waiting(connection: apsw.Connection, number: int, indexes: Sequence[int]) -> QueuedMessage | None:
    """Those of these recipients of a message that are not finished, or None."""
    found = _messages(query(connection, _THESE, (number, json.dumps(indexes))))
    return found[0] if found else None


def digests(connection: apsw.Connection, since: float, limit: int) -> list[tuple[bytes, int, float]]:
    """Digest, id and time of the last `limit` that came in since then, oldest first.

    Ids grow with time, so only the right edge is read.
    """
    rows = query(
        connection,
        "SELECT digest, id, received_at FROM message WHERE id >= ? AND digest <> x'' ORDER BY id DESC LIMIT ?",
        (max(0, int(since * 1000)) << ID_BITS_BELOW_TIME, limit),
    )
    return [(digest, number, received_at / 1e6) for digest, number, received_at in reversed(rows)]


def finished(connection: apsw.Connection, before: float, limit: int) -> tuple[int, ...]:
    """The oldest messages from before then that are finished and no dead letter; nothing makes them anything else.

    Ids grow with time, so they stand at the left edge; what still waits there is stepped over.
    """
    rows = query(
        connection,
        "SELECT id FROM message WHERE id < ? AND id NOT IN (SELECT message FROM body)"
        " AND id NOT IN (SELECT message FROM dead) ORDER BY id LIMIT ?",
        (int(before * 1000) << ID_BITS_BELOW_TIME, limit),
    )
    return tuple(number for (number,) in rows)


def handed_on(connection: apsw.Connection, remote_ids: Sequence[str]) -> list[HandedOn]:
    """Recipients that were handed on under one of these names."""
    rows = query(connection, _HANDED_ON, (json.dumps(remote_ids),))
    taken_by = _last_ways(connection, {number for _, number, *_ in rows})
    return [HandedOn(_messages([rest])[0], State(state), taken_by.get((rest[0], rest[1]), "")) for state, *rest in rows]


def reported(connection: apsw.Connection, keys: Sequence[str]) -> set[str]:
    """Those that were taken before, as far as they are remembered."""
    return {key for key in keys if value(connection, _REPORTED, (report_digest(key),))}


def _last_ways(connection: apsw.Connection, numbers: Iterable[int]) -> dict[tuple[int, int], str]:
    """By message and recipient the candidate of the last attempt, which is the one that gave the remote id."""
    attempts = query(connection, _ATTEMPTS_OF, (json.dumps(list(numbers)),))
    return {(number, n): way for number, way, indexes in attempts for n in json.loads(indexes)}


def sent_to(connection: apsw.Connection, number: int) -> list[HandedOn]:
    """All recipients of a message, whatever became of them."""
    rows = query(connection, _SENT_TO, (number,))
    return [HandedOn(_messages([rest])[0], State(state)) for state, *rest in rows]


def _messages(rows: Iterable[Any]) -> list[QueuedMessage]:
    messages: dict[int, tuple[Any, list[QueuedRecipient]]] = {}
    for row in rows:
        number, n, address, notify, orcpt, attempts, next_at, via, told, awaits, remote_id, doubt, *message = row
        recipient = Recipient(address, tuple(notify.split(",")) if notify else (), orcpt)
        one = QueuedRecipient(
            n, recipient, attempts, next_at / 1e6, via, bool(told), awaits, remote_id, doubt_of(doubt)
        )
        messages.setdefault(number, (message, []))[1].append(one)
    return [_queued(number, message, recipients) for number, (message, recipients) in messages.items()]


def _queued(number: int, message: Any, waiting: list[QueuedRecipient]) -> QueuedMessage:
    account, username, reverse_path, options, size, received_at, tags = message
    envelope = Envelope(reverse_path, tuple(w.recipient for w in waiting), **(json.loads(options) if options else {}))
    return QueuedMessage(
        id=to_text(number),
        account=account,
        username=username,
        envelope=envelope,
        size=size,
        received_at=received_at / 1e6,
        tags=tuple(json.loads(tags)) if tags else (),
        due=tuple(waiting),
    )


def next_due_at(connection: apsw.Connection, after: float) -> float | None:
    due_at = value(
        connection, "SELECT min(next_at) FROM recipient WHERE state < 2 AND next_at > ?", (microseconds(after),)
    )
    return due_at / 1e6 if due_at is not None else None


def counts(connection: apsw.Connection) -> Counts:
    """Reads only what is unfinished, by the partial indexes."""
    states = {"queued": 0, "deferred": 0, "held": 0}
    for state, number in query(connection, "SELECT state, count(*) FROM recipient WHERE state < 2 GROUP BY state"):
        states[State(state).name.lower()] = number
    states["held"] = value(connection, "SELECT count(*) FROM recipient WHERE state = 2")
    [(unfinished, first)] = query(connection, "SELECT count(*), min(message) FROM body")
    oldest = value(connection, "SELECT received_at FROM message WHERE id = ?", (first,))
    return Counts(states, unfinished, oldest / 1e6 if oldest is not None else None)


def listing(
    connection: apsw.Connection, *, account: str = "", domain: str = "", limit: int = 100
) -> Iterable[dict[str, Any]]:
    """Unfinished messages, oldest first, one dictionary a message."""
    rows = connection.execute(
        "SELECT id, account, reverse_path, size, received_at FROM message WHERE id IN (SELECT message FROM body)"
        " AND (?1 = '' OR account = ?1) AND (?2 = '' OR id IN"
        " (SELECT message FROM recipient WHERE state < 10 AND substr(lower(address), -(length(?2) + 1)) = '@' || ?2))"
        " ORDER BY id LIMIT ?3",
        (account, domain.lower(), limit),
    )
    for number, owner, reverse_path, size, received_at in rows:
        yield {
            "id": to_text(number),
            "account": owner,
            "from": reverse_path,
            "size": size,
            "received_at": iso(received_at),
            "recipients": recipients(connection, number),
        }


def recipients(connection: apsw.Connection, number: int) -> list[dict[str, Any]]:
    rows = query(
        connection,
        "SELECT n, address, state, attempts, next_at, reply, remote_id, via, doubt"
        " FROM recipient WHERE message = ? ORDER BY n",
        (number,),
    )
    return [
        {
            "address": address,
            "state": State(state).name.lower(),
            "attempts": attempts,
            "next_at": iso(next_at) if state < State.HELD else None,
            "reply": reply,
            "remote_id": remote_id,
            "via": via or None,
            "doubt": json.loads(doubt) if doubt else None,
        }
        for _, address, state, attempts, next_at, reply, remote_id, via, doubt in rows
    ]


def describe(connection: apsw.Connection, number: int) -> dict[str, Any] | None:
    """One message with recipients, attempts and events, or None. `seq` counts attempts and events together."""
    rows = query(
        connection,
        "SELECT account, username, reverse_path, size, received_at, client_message_id, tags, options FROM message"
        " WHERE id = ?",
        (number,),
    )
    if not rows:
        return None
    account, username, reverse_path, size, received_at, client_message_id, tags, options = rows[0]
    return {
        "id": to_text(number),
        "account": account,
        "username": username,
        "from": reverse_path,
        "size": size,
        "received_at": iso(received_at),
        "message_id": client_message_id,
        "tags": json.loads(tags) if tags else [],
        "options": json.loads(options) if options else {},
        "recipients": recipients(connection, number),
        "attempts": [
            {
                "seq": seq,
                "started_at": iso(started_at),
                "ended_at": iso(ended_at) if ended_at is not None else None,
                "transport": transport,
                "destination": destination,
                "host": host,
                "tls": tls,
                "recipients": json.loads(indexes),
                "asks": bool(asks),
            }
            for seq, started_at, ended_at, transport, destination, host, tls, indexes, asks in query(
                connection,
                "SELECT id, started_at, ended_at, transport, destination, host, tls, recipients, asks FROM attempt"
                " WHERE message = ? ORDER BY id",
                (number,),
            )
        ],
        "events": [
            {"seq": seq, "at": iso(at), "recipient": n if n >= 0 else None, "kind": kind, "reply": reply}
            for seq, at, n, kind, reply in query(
                connection, "SELECT seq, at, n, kind, reply FROM event WHERE message = ? ORDER BY seq", (number,)
            )
        ],
    }


def iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat(timespec="milliseconds")
