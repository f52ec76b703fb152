"""What goes into a spool transaction: operations as values, and Batch, which turns many into few statements."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import apsw

from relay import faults
from relay.mail.envelope import Envelope
from relay.mail.event import EventKind
from relay.mail.lifecycle import MAYBE_DELIVERED, State, next_state
from relay.ports import AttemptBegun, AttemptEnd, AttemptStart, Clock, NewMessage
from relay.store.bodies import BodyFiles
from relay.store.dead import Again, Bury
from relay.store.ids import ID_BITS_BELOW_TIME, to_number, to_text
from relay.store.rows import Row, insert, microseconds, query, update, value
from relay.store.spool_verbs import IN_FLIGHT, Acted, Change, changes, recheck

_MESSAGE: Final = "message(id, account, username, reverse_path, options, size, received_at, client_message_id, tags)"
_BODY: Final = "body(message, content)"
_RECIPIENT: Final = "recipient(message, n, address, notify, orcpt, state, attempts, next_at, reply, remote_id)"
_ATTEMPT: Final = "attempt(message, id, recipients, transport, destination, started_at)"
_EVENT: Final = "event(message, seq, at, n, kind, reply)"

_SETTLE: Final = (
    "UPDATE recipient SET state = v.state, attempts = attempts + v.tried, next_at = v.next_at,"
    " reply = v.reply, remote_id = v.remote_id, told = max(recipient.told, v.told)"
    " FROM v WHERE recipient.message = v.message AND recipient.n = v.n AND recipient.state < 10"
)
_CLOSE_ATTEMPT: Final = (
    "UPDATE attempt SET ended_at = v.ended_at, host = v.host, tls = v.tls"
    " FROM v WHERE attempt.message = v.message AND attempt.id = v.id"
)
_STILL_WAITING: Final = (
    "SELECT v.place, v.n FROM v JOIN recipient ON recipient.message = v.message AND recipient.n = v.n"
    " WHERE recipient.state < 2 AND recipient.next_at <= v.at AND recipient.via IN ('', v.way)"
)
_REROUTE: Final = (
    "UPDATE recipient SET via = v.via FROM v WHERE recipient.message = v.message AND recipient.n = v.n RETURNING 1"
)
_UNFINISHED: Final = (
    "SELECT count(*) FROM recipient r WHERE r.message = ? AND r.state < 10"  # noqa: S608 - our own text
    f" AND r.n IN (SELECT value FROM json_each(?)) AND NOT {IN_FLIGHT}"
)
_DROP_BODY: Final = (
    "DELETE FROM body WHERE message IN (SELECT message FROM v) AND NOT EXISTS"
    " (SELECT 1 FROM recipient WHERE recipient.message = body.message AND recipient.state < 10)"
    " RETURNING message, content IS NULL,"
    " EXISTS (SELECT 1 FROM recipient r WHERE r.message = body.message AND r.state IN (12, 13)),"
    " CASE WHEN EXISTS (SELECT 1 FROM recipient r WHERE r.message = body.message AND r.state IN (12, 13))"
    "  THEN content END"
)
_KEEP_DEAD: Final = (
    "INSERT INTO dead(message, ended_at, size, content)"
    " SELECT v.message, v.ended_at, m.size, v.content FROM v JOIN message m ON m.id = v.message RETURNING 1"
)
_SENT_AGAIN: Final = "UPDATE dead SET again = ? WHERE message = ? AND again IS NULL RETURNING 1"
_BURY: Final = "DELETE FROM dead WHERE message IN (SELECT m FROM v) RETURNING message, content IS NULL"


@dataclass(frozen=True, slots=True)
class Enqueue:
    message: NewMessage
    in_file: bool


@dataclass(frozen=True, slots=True)
class Prune:
    """Forget finished messages received before `before` (seconds since the epoch), at most `limit`, oldest first."""

    before: float
    limit: int


@dataclass(frozen=True, slots=True)
class PullIn:
    """Recipients put off until after `latest` (seconds since the epoch) are due at once."""

    latest: float


@dataclass(frozen=True, slots=True)
class EndWaiting:
    """End recipients that wait, without an attempt; nothing is written where one has ended or is in flight."""

    end: AttemptEnd


def envelope_options(envelope: Envelope) -> str:
    """What is not default, as JSON; `""` when all is."""
    options = {
        name: given
        for name in ("ret", "envid", "body_8bit", "smtputf8", "retry", "expires_at")
        if (given := getattr(envelope, name)) not in (None, False, "")
    }
    return json.dumps(options) if options else ""


@dataclass(slots=True)
class _Rows:
    """What one transaction writes, by table."""

    messages: list[Row] = field(default_factory=list)
    bodies: list[Row] = field(default_factory=list)
    recipients: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    settled: list[Row] = field(default_factory=list)
    closed: list[Row] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)


class Batch:
    """Applies the operations of one commit. Lives in the writer thread."""

    def __init__(self, clock: Clock, bodies: BodyFiles, floor: int) -> None:
        """`floor`: the highest number events and attempts have so far, for a clock may have jumped back."""
        self._clock = clock
        self._bodies = bodies
        self._sequence = max(microseconds(clock.now()), floor)
        self._finished_files: list[str] = []

    def apply(self, connection: apsw.Connection, operations: Sequence[Any]) -> list[Any]:
        """Rows of all operations first, in few statements; then what reads them: the operator's verbs and attempts."""
        rows = _Rows()
        for operation in operations:
            self._collect(rows, operation)
        self._write(connection, rows)
        results: list[Any] = [None] * len(operations)
        for place, operation in enumerate(operations):
            if isinstance(operation, Change):
                results[place] = self._act(connection, operation)
            elif isinstance(operation, Prune):
                results[place] = _prune(connection, operation)
            elif isinstance(operation, Again):
                results[place] = self._again(connection, operation)
            elif isinstance(operation, Bury):
                results[place] = self._bury(connection, operation)
            elif isinstance(operation, EndWaiting):
                results[place] = self._end_waiting(connection, operation)
            elif isinstance(operation, PullIn):
                results[place] = self._pull_in(connection, operation)
        starts = {place: start for place, start in enumerate(operations) if isinstance(start, AttemptStart)}
        for place, begun in self._begin(connection, starts):
            results[place] = begun
        return results

    def committed(self) -> None:
        """Body files go only after the commit that ended their message; an interrupted removal is an orphan."""
        self._bodies.remove(self._finished_files)

    def _write(self, connection: apsw.Connection, rows: _Rows) -> None:
        insert(connection, _MESSAGE, rows.messages)
        insert(connection, _BODY, rows.bodies)
        insert(connection, _RECIPIENT, rows.recipients)
        update(connection, "message, n, state, tried, next_at, reply, remote_id, told", _SETTLE, rows.settled)
        update(connection, "message, id, ended_at, host, tls", _CLOSE_ATTEMPT, rows.closed)
        insert(connection, _EVENT, rows.events)
        dropped = update(connection, "message", _DROP_BODY, [(message,) for message in rows.ended])
        self._finished_files = [to_text(message) for message, in_file, dead, _ in dropped if in_file and not dead]
        kept = [(message, content) for message, _, dead, content in dropped if dead]
        if kept:
            at = microseconds(self._clock.now())
            update(connection, "message, ended_at, content", _KEEP_DEAD, [(one[0], at, one[1]) for one in kept])

    def _collect(self, rows: _Rows, operation: Any) -> None:
        if isinstance(operation, Enqueue):
            self._enqueue(rows, operation.message, in_file=operation.in_file)
        elif isinstance(operation, AttemptEnd):
            self._end(rows, operation)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _enqueue(self, rows: _Rows, message: NewMessage, *, in_file: bool, words: str = "") -> None:
        number, envelope = to_number(message.id), message.envelope
        received_at = microseconds(message.received_at)
        tags = json.dumps(message.tags) if message.tags else ""
        rows.messages.append(
            (
                number,
                message.account,
                message.username,
                envelope.reverse_path,
                envelope_options(envelope),
                message.size,
                received_at,
                message.client_message_id,
                tags,
            )
        )
        rows.bodies.append((number, None if in_file else message.content))
        for n, recipient in enumerate(envelope.recipients):
            notify = ",".join(recipient.notify)
            state = int(State.QUEUED)
            rows.recipients.append(
                (number, n, recipient.address, notify, recipient.orcpt, state, 0, received_at, "", "")
            )
        rows.events.append((number, self._next(), received_at, -1, EventKind.QUEUED.value, words))

    def _begin(
        self, connection: apsw.Connection, starts: Mapping[int, AttemptStart]
    ) -> Iterator[tuple[int, AttemptBegun]]:
        """Attempts of recipients that still wait: a reader may have seen them before they ended or were cancelled."""
        keys = {place: (to_number(start.message_id), microseconds(start.started_at)) for place, start in starts.items()}
        asked = [
            (place, keys[place][0], n, keys[place][1], start.transport)
            for place, start in starts.items()
            for n in start.recipients
        ]
        waiting: dict[int, list[int]] = {}
        for place, n in update(connection, "place, message, n, at, way", _STILL_WAITING, asked):
            waiting.setdefault(place, []).append(n)
        rows: list[Row] = []
        for place, start in starts.items():
            indexes = tuple(sorted(waiting.get(place, ())))
            attempt = self._next() if indexes else 0
            if indexes:
                number, at = keys[place]
                rows.append((number, attempt, json.dumps(indexes), start.transport, start.destination, at))
            yield place, AttemptBegun(attempt, indexes)
        insert(connection, _ATTEMPT, rows)

    def _end(self, rows: _Rows, end: AttemptEnd) -> None:
        number, at = to_number(end.message_id), microseconds(end.ended_at)
        rows.closed.append((number, end.attempt_id, at, end.host, end.tls))
        for result in end.results:
            # In flight a recipient is QUEUED or DEFERRED, and both rows of the lifecycle table are one.
            state = next_state(State.QUEUED, result.kind)
            next_at = microseconds(result.next_at) if result.next_at is not None else 0
            rows.settled.append(
                (
                    number,
                    result.index,
                    int(state),
                    int(result.counts),
                    next_at,
                    result.reply,
                    result.remote_id,
                    int(result.told),
                )
            )
            rows.events.append((number, self._next(), at, result.index, result.kind.value, result.reply))
            if state.terminal:
                rows.ended.add(number)
        if end.notice is not None:
            self._enqueue(rows, end.notice, in_file=False)

    def _pull_in(self, connection: apsw.Connection, operation: PullIn) -> int:
        """Returns how many."""
        connection.execute(
            "UPDATE recipient SET next_at = ? WHERE next_at > ? AND state = ?",
            (microseconds(self._clock.now()), microseconds(operation.latest), int(State.DEFERRED)),
        )
        return connection.changes()

    def _act(self, connection: apsw.Connection, operation: Change) -> list[Acted]:
        found = recheck(connection, operation)
        done = changes(found, operation.act, operation.at, self._next)
        update(connection, "message, n, via", _REROUTE, done.ways)
        self._write_also(connection, _Rows(settled=done.settled, events=done.events, ended=done.ended))
        return [one.acted for one in found]

    def _end_waiting(self, connection: apsw.Connection, operation: EndWaiting) -> bool:
        """All of it or nothing: the notice names every one of them."""
        end, rows = operation.end, _Rows()
        indexes = [result.index for result in end.results]
        waiting = value(connection, _UNFINISHED, (to_number(end.message_id), json.dumps(indexes)))
        if waiting != len(indexes):
            return False
        self._end(rows, end)
        self._write_also(connection, rows)
        return True

    def _again(self, connection: apsw.Connection, operation: Again) -> bool:
        """Once for each dead letter, so that nothing can send one round and round."""
        marked = value(connection, _SENT_AGAIN, (to_number(operation.message.id), to_number(operation.dead)))
        if not marked:
            return False
        rows = _Rows()
        self._enqueue(rows, operation.message, in_file=operation.in_file, words=f"again, after {operation.dead}")
        self._write_also(connection, rows)
        return True

    def _bury(self, connection: apsw.Connection, operation: Bury) -> int:
        gone = update(connection, "m", _BURY, [(number,) for number in operation.numbers])
        self._finished_files += [to_text(message) for message, in_file in gone if in_file]
        return len(gone)

    def _write_also(self, connection: apsw.Connection, rows: _Rows) -> None:
        """More rows of the same transaction."""
        earlier = self._finished_files
        self._write(connection, rows)
        self._finished_files += earlier


def _prune(connection: apsw.Connection, operation: Prune) -> int:
    """Ids grow with time, so the oldest messages stand at the left edge; what still waits there is stepped over."""
    before = int(operation.before * 1000) << ID_BITS_BELOW_TIME
    finished = query(
        connection,
        "SELECT id FROM message WHERE id < ? AND id NOT IN (SELECT message FROM body)"
        " AND id NOT IN (SELECT message FROM dead) ORDER BY id LIMIT ?",
        (before, operation.limit),
    )
    for table, column in (("event", "message"), ("attempt", "message"), ("recipient", "message"), ("message", "id")):
        update(connection, "m", f"DELETE FROM {table} WHERE {column} IN (SELECT m FROM v) RETURNING 1", finished)  # noqa: S608
        faults.point("pruning")
    return len(finished)


def last_sequence(connection: apsw.Connection) -> int:
    """The highest number of an event or attempt of a message that may still get one."""
    newest = "SELECT coalesce(max((SELECT max({0}) FROM {1} WHERE {1}.message = body.message)), 0) FROM body"
    last_event = value(connection, newest.format("seq", "event"))
    last_attempt = value(connection, newest.format("id", "attempt"))
    return int(max(last_event, last_attempt))


def recover(connection: apsw.Connection, now: float, *, hold: bool = False) -> int:
    """After a crash: every attempt without an end may have reached its host. Returns how many there were.

    Its recipients are due again, or held for the operator, and the event says why (promise 3).
    """
    at = microseconds(now)
    with connection:
        faults.point("recovering")
        unfinished = query(connection, "SELECT message, id, recipients FROM attempt WHERE ended_at IS NULL")
        for message, attempt, recipients in unfinished:
            connection.execute("UPDATE attempt SET ended_at = ? WHERE message = ? AND id = ?", (at, message, attempt))
            for n in json.loads(recipients):
                _doubt(connection, message, n, at, State.HELD if hold else State.DEFERRED)
    return len(unfinished)


def _doubt(connection: apsw.Connection, message: int, n: int, at: int, state: State) -> None:
    words = f"attempt interrupted by a restart; {MAYBE_DELIVERED}"
    changed = value(
        connection,
        "UPDATE recipient SET state = ?, attempts = attempts + 1, next_at = ?, reply = ?"
        " WHERE message = ? AND n = ? AND state < 2 RETURNING 1",
        (int(state), 0 if state is State.HELD else at, words, message, n),
    )
    if changed:
        kind = EventKind.IN_DOUBT.value
        last = value(connection, "SELECT coalesce(max(seq), 0) FROM event WHERE message = ?", (message,))
        insert(connection, _EVENT, [(message, last + 1, at, n, kind, words)])
