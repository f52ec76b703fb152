"""Dead letters: messages that ended with a recipient bounced or expired, and whose text is kept for a while.

In: a read-only connection and a selection; or a NewMessage made of a dead letter. Out: summaries, DeadLetter values,
operations for the writer. Questions walk along a stretch at a time, so that none holds up the reader.
Raises ValueError for what is no message id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import apsw

from relay.mail.envelope import Envelope, Recipient
from relay.ports import NewMessage
from relay.store.ids import to_number, to_text
from relay.store.rows import microseconds, query, value
from relay.store.spool_read import iso
from relay.store.spool_verbs import Selection

STRETCH: Final = 2000
_FAILED: Final = "r.state IN (12, 13)"  # relay/mail/lifecycle.py: BOUNCED, EXPIRED


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`envelope` holds the failed recipients alone; `content` None: a file; `again`: the message made of it already."""

    id: str
    account: str
    username: str
    envelope: Envelope
    client_message_id: str
    tags: tuple[str, ...]
    again: str | None
    content: bytes | None


@dataclass(frozen=True, slots=True)
class Again:
    """For the writer: spool a message made of a dead letter, unless one was before."""

    dead: str
    message: NewMessage
    in_file: bool


@dataclass(frozen=True, slots=True)
class Bury:
    """For the writer: forget the texts of these."""

    numbers: tuple[int, ...]


def find(
    connection: apsw.Connection, selection: Selection, after: int, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """One stretch: those that match, with their failed recipients, and from where to go on; None at the end."""
    last = _end_of_stretch(connection, selection, after)
    if last is None:
        return [], None
    conditions, bindings = _conditions(selection)
    rows = query(
        connection,
        "SELECT d.message, d.ended_at, d.size, d.again, m.account, m.reverse_path"  # noqa: S608 - our own text
        " FROM dead d INDEXED BY dead_listing CROSS JOIN message m ON m.id = d.message"
        f" WHERE d.message > ? AND d.message <= ?{''.join(conditions)} ORDER BY d.message LIMIT ?",
        [after, last, *bindings, limit],
    )
    found = [
        {
            "id": to_text(number),
            "ended_at": iso(ended_at),
            "size": size,
            "again": None if again is None else to_text(again),
            "account": account,
            "from": reverse_path,
            "recipients": _failed(connection, number),
        }
        for number, ended_at, size, again, account, reverse_path in rows
    ]
    return found, rows[-1][0] if len(rows) == limit else last


def _end_of_stretch(connection: apsw.Connection, selection: Selection, after: int) -> int | None:
    if selection.ids:
        last = max(map(to_number, selection.ids))
        return last if last > after else None
    text = (
        "SELECT max(message) FROM"
        " (SELECT message FROM dead INDEXED BY dead_listing WHERE message > ? ORDER BY message LIMIT ?)"
    )
    last_of_all: int | None = value(connection, text, (after, STRETCH))
    return last_of_all


def _conditions(chosen: Selection) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    bindings: list[Any] = []

    def also(condition: str, *values: Any) -> None:
        conditions.append(f" AND {condition}")
        bindings.extend(values)

    if chosen.ids:
        also("d.message IN (SELECT value FROM json_each(?))", json.dumps([to_number(one) for one in chosen.ids]))
    if chosen.account:
        also("m.account = ?", chosen.account)
    if chosen.domain:
        also(
            f"EXISTS (SELECT 1 FROM recipient r WHERE r.message = d.message AND {_FAILED}"  # noqa: S608
            " AND substr(lower(r.address), -(length(?) + 1)) = '@' || ?)",
            *[chosen.domain.lower()] * 2,
        )
    if chosen.sender:
        also("lower(coalesce(m.reverse_path, '')) = ?", "" if chosen.sender == "<>" else chosen.sender.lower())
    if chosen.before is not None:
        also("d.ended_at <= ?", microseconds(chosen.before))
    return conditions, bindings


def _failed(connection: apsw.Connection, number: int) -> list[dict[str, Any]]:
    rows = query(
        connection,
        f"SELECT address, state, reply FROM recipient r WHERE message = ? AND {_FAILED} ORDER BY n",  # noqa: S608
        (number,),
    )
    return [
        {"address": address, "state": "bounced" if state == 12 else "expired", "reply": reply}
        for address, state, reply in rows
    ]


def letter(connection: apsw.Connection, number: int) -> DeadLetter | None:
    """A dead letter with its content, None where there is none (any more)."""
    rows = query(
        connection,
        "SELECT m.account, m.username, m.reverse_path, m.options, m.client_message_id, m.tags, d.again, d.content"
        " FROM dead d JOIN message m ON m.id = d.message WHERE d.message = ?",
        (number,),
    )
    if not rows:
        return None
    account, username, reverse_path, options, client_message_id, tags, again, content = rows[0]
    recipients = tuple(
        Recipient(address, tuple(notify.split(",")) if notify else (), orcpt)
        for address, notify, orcpt in query(
            connection,
            f"SELECT address, notify, orcpt FROM recipient r WHERE message = ? AND {_FAILED} ORDER BY n",  # noqa: S608
            (number,),
        )
    )
    return DeadLetter(
        id=to_text(number),
        account=account,
        username=username,
        envelope=Envelope(reverse_path, recipients, **(json.loads(options) if options else {})),
        client_message_id=client_message_id,
        tags=tuple(json.loads(tags)) if tags else (),
        again=None if again is None else to_text(again),
        content=content,
    )


def to_bury(connection: apsw.Connection, before: float, largest: int, limit: int) -> tuple[int, ...]:
    """Those to forget now, oldest first: ended before `before`, or the first of more than `largest` octets together."""
    octets = value(connection, "SELECT coalesce(sum(size), 0) FROM dead INDEXED BY dead_listing")
    if octets <= largest:
        text = "SELECT message FROM dead INDEXED BY dead_listing WHERE ended_at < ? ORDER BY message LIMIT ?"
        return tuple(number for (number,) in query(connection, text, (microseconds(before), limit)))
    chosen = []
    text = "SELECT message, size FROM dead INDEXED BY dead_listing ORDER BY message LIMIT ?"
    for number, size in query(connection, text, (limit,)):
        if octets <= largest:
            break
        chosen.append(number)
        octets -= size
    return tuple(chosen)


def files(connection: apsw.Connection) -> Iterator[str]:
    """Those whose content is a file."""
    for (number,) in query(connection, "SELECT message FROM dead WHERE content IS NULL"):
        yield to_text(number)
