"""Again: a dead letter becomes a new message for those it failed to reach.

In: the letter's facts and content, whom to send it to. Out: a NewMessage with an id and a trace field of its own, or
the Reply that refuses it. Its bytes stay as they are. Source: RFC 5321 §4.4 (Received), §6.3 (loops).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from relay.mail.dates import date_time
from relay.mail.envelope import Envelope, Recipient
from relay.mail.message import header_block, header_fields
from relay.mail.reply import Reply, reply
from relay.ports import NewMessage

_LOOP = reply(554, "5.4.6", "Too many Received fields: this message is in a loop")


class Letter(Protocol):
    """What of a dead letter is needed."""

    @property
    def id(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def username(self) -> str: ...
    @property
    def envelope(self) -> Envelope: ...
    @property
    def client_message_id(self) -> str: ...
    @property
    def tags(self) -> tuple[str, ...]: ...


def again(
    letter: Letter, content: bytes, to: Sequence[str], new_id: str, hostname: str, received: int, now: float
) -> NewMessage | Reply:
    """To its failed recipients, or to `to`. `received` is how many Received fields a message may have."""
    if sum(field.name == "received" for field in header_fields(header_block(content))) > received:
        return _LOOP
    # The time its author gave it is over; the operator gives it another.
    envelope = replace(letter.envelope, expires_at=None)
    if to:
        utf8 = envelope.smtputf8 or not all(map(str.isascii, to))
        envelope = replace(envelope, recipients=tuple(map(Recipient, dict.fromkeys(to))), smtputf8=utf8)
    trace = f"Received: by {hostname} (Sendrelay, {letter.id} again)\r\n\tid {new_id}; {date_time(now)}\r\n"
    return NewMessage(
        id=new_id,
        account=letter.account,
        username=letter.username,
        envelope=envelope,
        content=trace.encode() + content,
        received_at=now,
        client_message_id=letter.client_message_id,
        tags=letter.tags,
    )
