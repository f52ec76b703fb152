"""What goes into a spool transaction: operations as values, and Batch, which turns many into few statements."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

import apsw

from relay import faults
from relay.mail.envelope import Envelope
from relay.mail.event import EventKind
from relay.mail.frozen import frozen
from relay.mail.lifecycle import MAYBE_DELIVERED, TRANSITIONS, State, next_state
from relay.mail.outcome import AfterDoubt
from relay.ports import AttemptBegun, AttemptEnd, AttemptStart, Clock, Doubt, NewMessage, News
from relay.store import contacts
from relay.store.bodies import BodyFiles
from relay.store.dead import Again, Bury
from relay.store.doubts import text_of
from relay.store.ids import to_number, to_text
from relay.store.rows import Row, insert, microseconds, query, report_digest, update, value
from relay.store.spool_verbs import IN_FLIGHT, Acted, Change, changes, recheck

_FEW_ROWS: Final = 16
_SMALL_BODY: Final = 65_536
_REPORTS_EACH: Final = 5  # delivered, opened, clicked ...

_MESSAGE: Final = (
    "message(id, account, username, reverse_path, options, size, received_at, client_message_id, tags, digest)"
)
_BODY: Final = "body(message, content)"
_RECIPIENT: Final = "recipient(message, n, address, notify, orcpt, state, attempts, next_at, reply, remote_id)"
_ATTEMPT: Final = "attempt(message, id, recipients, transport, destination, started_at, asks)"
_EVENT: Final = "event(message, seq, at, n, kind, reply)"

_SETTLED: Final = "message, n, state, tried, next_at, reply, remote_id, told, awaits, doubt"
_SETTLE: Final = (
    "UPDATE recipient SET state = v.state, attempts = attempts + v.tried, next_at = v.next_at,"
    " reply = v.reply, remote_id = v.remote_id, told = max(recipient.told, v.told), awaits = v.awaits,"
    " doubt = v.doubt"
    " FROM v WHERE recipient.message = v.message AND recipient.n = v.n AND recipient.state < 10"
)
_URGENT: Final = "UPDATE recipient SET priority = v.priority FROM v WHERE recipient.message = v.message"
_CLOSE_ATTEMPT: Final = (
    "UPDATE attempt SET ended_at = v.ended_at, host = v.host, tls = v.tls"
    " FROM v WHERE attempt.message = v.message AND attempt.id = v.id"
)
_STILL_WAITING: Final = (
    "SELECT v.place, v.n FROM recipient, v WHERE recipient.message = v.message AND recipient.n = v.n"
    " AND recipient.state < 2 AND recipient.next_at <= v.at AND (recipient.doubt <> '') = v.asks"
    " AND (v.asks OR recipient.via IN ('', v.way))"
)
# `state < 2` in so many words: else the index is not used, and the writer reads all the history there is.
PULL_IN: Final = (
    "UPDATE recipient SET next_at = ? WHERE next_at > ? AND state < 2"  # noqa: S608 - our own text
    f" AND state = {int(State.DEFERRED)}"
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
    " SELECT v.message, v.ended_at, m.size, v.content FROM message m, v WHERE m.id = v.message RETURNING 1"
)
_SENT_AGAIN: Final = "UPDATE dead SET again = ? WHERE message = ? AND again IS NULL RETURNING 1"
_BURY: Final = "DELETE FROM dead WHERE message IN (SELECT m FROM v) RETURNING message, content IS NULL"
_FORGET_REPORTS: Final = (
    "DELETE FROM report WHERE digest IN (SELECT digest FROM report WHERE at < ? ORDER BY at LIMIT ?) RETURNING 1"
)
_TAKEN: Final = "INSERT INTO report(digest, at) VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING 1"
_STATE: Final = "SELECT state FROM recipient WHERE message = ? AND n = ? AND (state >= 10 OR awaits <> '')"
_LATER: Final = "UPDATE recipient SET state = ?, reply = ?, awaits = '' WHERE message = ? AND n = ?"
_ADDRESS: Final = "SELECT address FROM recipient WHERE message = ? AND n = ?"
_CHANGING: Final = (EventKind.DELIVERED, EventKind.BOUNCED)


@frozen
class Enqueue:
    message: NewMessage
    in_file: bool


@frozen
class Prune:
    """Forget these messages, which are finished, and the oldest reports from before `before`.

    Of those at most so many as may belong to `limit` messages.
    """

    finished: tuple[int, ...]
    before: float
    limit: int


@frozen
class PullIn:
    """Recipients put off until after `latest` (seconds since the epoch) are due at once."""

    latest: float


@frozen
class EndWaiting:
    """End recipients that wait, without an attempt; nothing is written where one has ended or is in flight."""

    end: AttemptEnd


@frozen
class Reported:
    """Later news of recipients that had ended here."""

    news: tuple[News, ...]


_OPTIONS: Final = (
    "ret",
    "envid",
    "body_8bit",
    "smtputf8",
    "retry",
    "expires_at",
    "hold_until",
    "hold_request",
    "priority",
    "deliver_by",
    "by_mode",
    "by_trace",
    "requiretls",
    "binary",
    "submitter",
)
_given_options: Final = attrgetter(*_OPTIONS)
_DEFAULT_OPTIONS: Final[tuple[Any, ...]] = _given_options(Envelope(None, ()))


def is_cheap(operation: Any) -> bool:
    """Whether it is a few small rows at the end of their tables, or by key."""
    if isinstance(operation, Enqueue):
        recipients = len(operation.message.envelope.recipients)
        return recipients <= _FEW_ROWS and (operation.in_file or operation.message.size <= _SMALL_BODY)
    if isinstance(operation, AttemptStart):
        return len(operation.recipients) <= _FEW_ROWS
    if isinstance(operation, contacts.Tell):
        return len(operation.told) <= _FEW_ROWS
    return isinstance(operation, AttemptEnd) and len(operation.results) <= _FEW_ROWS


def envelope_options(envelope: Envelope) -> str:
    """What is not default, as JSON; `""` when all is."""
    given = _given_options(envelope)
    if given == _DEFAULT_OPTIONS:
        return ""
    asked = zip(_OPTIONS, given, _DEFAULT_OPTIONS, strict=True)
    return json.dumps({name: value for name, value, default in asked if value != default})


@dataclass(slots=True)
class _Rows:
    """What one transaction writes, by table."""

    messages: list[Row] = field(default_factory=list)
    bodies: list[Row] = field(default_factory=list)
    recipients: list[Row] = field(default_factory=list)
    priorities: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    settled: list[Row] = field(default_factory=list)
    closed: list[Row] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)
    noted: list[tuple[int, str, str, int]] = field(default_factory=list)


class Batch:
    """Applies the operations of one commit. Lives in the writer thread."""

    def __init__(self, clock: Clock, bodies: BodyFiles, floor: int, watched: contacts.Watched) -> None:
        """`floor`: the highest number events and attempts have so far, for a clock may have jumped back.

        `watched`: events that marketing platforms hear of. `taken` counts messages.
        """
        self._watched = watched
        self._clock = clock
        self._bodies = bodies
        self._sequence = max(microseconds(clock.now()), floor)
        self.taken = 0
        self._finished_files: list[str] = []
        self._collects: dict[type[Any], Callable[[_Rows, Any], None]] = {
            Enqueue: lambda rows, one: self._enqueue(rows, one.message, in_file=one.in_file),
            AttemptEnd: self._end,
        }
        self._verbs: dict[type[Any], Callable[[apsw.Connection, Any], Any]] = {
            Change: self._act,
            Prune: _prune,
            Again: self._again,
            Bury: self._bury,
            EndWaiting: self._end_waiting,
            Reported: self._report,
            PullIn: self._pull_in,
            **contacts.VERBS,
        }

    def apply(self, connection: apsw.Connection, operations: Sequence[Any]) -> list[Any]:
        """Rows of all operations first, in few statements; then what reads them: the operator's verbs and attempts."""
        rows = _Rows()
        for operation in operations:
            collect = self._collects.get(type(operation))
            if collect is not None:
                collect(rows, operation)
        self._write(connection, rows)
        results: list[Any] = [None] * len(operations)
        for place, operation in enumerate(operations):
            verb = self._verbs.get(type(operation))
            if verb is not None:
                results[place] = verb(connection, operation)
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
        update(connection, "message, priority", _URGENT, rows.priorities)
        update(connection, _SETTLED, _SETTLE, rows.settled)
        update(connection, "message, id, ended_at, host, tls", _CLOSE_ATTEMPT, rows.closed)
        insert(connection, _EVENT, rows.events)
        if rows.noted:
            self._watched.note(connection, rows.noted, self._clock.now())
        dropped = update(connection, "message", _DROP_BODY, [(message,) for message in rows.ended])
        self._finished_files = [to_text(message) for message, in_file, dead, _ in dropped if in_file and not dead]
        kept = [(message, content) for message, _, dead, content in dropped if dead]
        if kept:
            at = microseconds(self._clock.now())
            update(connection, "message, ended_at, content", _KEEP_DEAD, [(one[0], at, one[1]) for one in kept])

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _enqueue(self, rows: _Rows, message: NewMessage, *, in_file: bool, words: str = "") -> None:
        self.taken += 1
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
                message.digest,
            )
        )
        if envelope.priority:
            rows.priorities.append((number, envelope.priority))
        rows.bodies.append((number, None if in_file else message.content))
        due_at = microseconds(message.since)
        for n, recipient in enumerate(envelope.recipients):
            notify = ",".join(recipient.notify)
            state = int(State.QUEUED)
            rows.recipients.append((number, n, recipient.address, notify, recipient.orcpt, state, 0, due_at, "", ""))
        heard = self._watched.kinds
        if heard and EventKind.QUEUED in heard:
            rows.noted += ((number, one.address, EventKind.QUEUED.value, received_at) for one in envelope.recipients)
        rows.events.append((number, self._next(), received_at, -1, EventKind.QUEUED.value, words))

    def _begin(
        self, connection: apsw.Connection, starts: Mapping[int, AttemptStart]
    ) -> Iterator[tuple[int, AttemptBegun]]:
        """Attempts of recipients that still wait: a reader may have seen them before they ended or were cancelled."""
        keys = {place: (to_number(start.message_id), microseconds(start.started_at)) for place, start in starts.items()}
        asked = [
            (place, keys[place][0], n, keys[place][1], start.transport, int(start.asks))
            for place, start in starts.items()
            for n in start.recipients
        ]
        waiting: dict[int, list[int]] = {}
        for place, n in update(connection, "place, message, n, at, way, asks", _STILL_WAITING, asked):
            waiting.setdefault(place, []).append(n)
        rows: list[Row] = []
        for place, start in starts.items():
            indexes = tuple(sorted(waiting.get(place, ())))
            attempt = self._next() if indexes else 0
            if indexes:
                (number, at), people = keys[place], f"[{','.join(map(str, indexes))}]"
                rows.append((number, attempt, people, start.transport, start.destination, at, int(start.asks)))
            yield place, AttemptBegun(attempt, indexes)
        insert(connection, _ATTEMPT, rows)

    def _end(self, rows: _Rows, end: AttemptEnd) -> None:
        number, at, heard = to_number(end.message_id), microseconds(end.ended_at), self._watched.kinds
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
                    result.awaits,
                    text_of(result.doubt),
                )
            )
            rows.events.append((number, self._next(), at, result.index, result.kind.value, result.reply))
            if heard and result.kind in heard:
                rows.noted.append((number, result.address, result.kind.value, at))
            if state.terminal:
                rows.ended.add(number)
        if end.notice is not None:
            self._enqueue(rows, end.notice, in_file=False)

    def _pull_in(self, connection: apsw.Connection, operation: PullIn) -> int:
        """Returns how many."""
        connection.execute(PULL_IN, (microseconds(self._clock.now()), microseconds(operation.latest)))
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

    def _report(self, connection: apsw.Connection, operation: Reported) -> list[bool]:
        return [self._report_one(connection, each) for each in operation.news]

    def _report_one(self, connection: apsw.Connection, news: News) -> bool:
        """Once, and only where it is news: who is delivered stays so whatever is said again."""
        number, at = to_number(news.message_id), microseconds(news.at)
        if not value(connection, _TAKEN, (report_digest(news.key), microseconds(self._clock.now()))):
            return False
        rows = _Rows(events=[(number, self._next(), at, news.index, news.kind.value, news.reply)])
        if news.kind in self._watched.kinds:
            address = value(connection, _ADDRESS, (number, news.index))
            rows.noted += [(number, address, news.kind.value, at)] if address is not None else []
        if news.kind in _CHANGING:
            state = value(connection, _STATE, (number, news.index))
            after = TRANSITIONS.get(State(state), {}).get(news.kind) if state is not None else None
            if after is None:
                return False
            connection.execute(_LATER, (int(after), news.reply, number, news.index))
            rows.ended.add(number)
            if news.notice is not None:
                self._enqueue(rows, news.notice, in_file=False)
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
    """Returns how many messages; or, where there were more reports than belong to those, how many they would be of."""
    reports = query(connection, _FORGET_REPORTS, (microseconds(operation.before), operation.limit * _REPORTS_EACH))
    for table, column in (("event", "message"), ("attempt", "message"), ("recipient", "message"), ("message", "id")):
        text = f"DELETE FROM {table} WHERE {column} IN (SELECT m FROM v) RETURNING 1"  # noqa: S608 - our own text
        update(connection, "m", text, [(number,) for number in operation.finished])
        faults.point("pruning")
    return max(len(operation.finished), len(reports) // _REPORTS_EACH)


def last_sequence(connection: apsw.Connection) -> int:
    """The highest number of an event or attempt of a message that may still get one."""
    newest = "SELECT coalesce(max((SELECT max({0}) FROM {1} WHERE {1}.message = body.message)), 0) FROM body"
    last_event = value(connection, newest.format("seq", "event"))
    last_attempt = value(connection, newest.format("id", "attempt"))
    return int(max(last_event, last_attempt))


def recover(
    connection: apsw.Connection,
    now: float,
    *,
    in_doubt: AfterDoubt = "retry",
    repeats: Collection[str] = (),
) -> int:
    """After a crash: every attempt without an end may have reached its host. Returns how many there were.

    Its recipients are due again (`query`: for a question; by one of `repeats`: there alone), or held for the operator,
    and the event says why (promise 3). Who was only asked or waited about is as before: nothing was sent.
    """
    at = microseconds(now)
    with connection:
        faults.point("recovering")
        unfinished = query(
            connection, "SELECT message, id, recipients, transport, started_at FROM attempt WHERE ended_at IS NULL"
        )
        for message, attempt, recipients, transport, started_at in unfinished:
            connection.execute("UPDATE attempt SET ended_at = ? WHERE message = ? AND id = ?", (at, message, attempt))
            bound = in_doubt == "query" or transport in repeats
            indexes = json.loads(recipients)
            doubt = text_of(Doubt(transport, started_at / 1e6, together=len(indexes))) if bound else ""
            state = State.HELD if in_doubt == "hold" and not bound else State.DEFERRED
            for n in indexes:
                _doubt(connection, message, n, at, state, doubt)
    return len(unfinished)


def _doubt(connection: apsw.Connection, message: int, n: int, at: int, state: State, doubt: str) -> None:
    words = f"attempt interrupted by a restart; {MAYBE_DELIVERED}"
    changed = value(
        connection,
        "UPDATE recipient SET state = ?, attempts = attempts + 1, next_at = ?, reply = ?, doubt = ?"
        " WHERE message = ? AND n = ? AND state < 2 AND doubt = '' AND awaits = '' RETURNING 1",
        (int(state), 0 if state is State.HELD else at, words, doubt, message, n),
    )
    if changed:
        kind = EventKind.IN_DOUBT.value
        last = value(connection, "SELECT coalesce(max(seq), 0) FROM event WHERE message = ?", (message,))
        insert(connection, _EVENT, [(message, last + 1, at, n, kind, words)])
