"""Again: a message that was here goes out as a new one: a dead letter to those it failed to reach, and what came back
to a return path to the sender it is for.

In: its facts and content, whom to send it to. Out: a NewMessage with an id and a trace field of its own, or the Reply
that refuses it. Its bytes stay as they are. Source: RFC 5321 §4.4 (Received), §6.3 (loops).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from relay.mail.dates import date_time
from relay.mail.envelope import Envelope, Recipient
from relay.mail.message import header_block, header_fields
from relay.mail.reply import Reply, reply
from relay.ports import DeliveryRequest, NewMessage, Origin

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
    if _loops(content, received):
        return _LOOP
    # The time its author gave it is over; the operator gives it another.
    envelope = replace(letter.envelope, expires_at=None, deliver_by=None, by_mode="", by_trace=False)
    if to:
        utf8 = envelope.smtputf8 or not all(map(str.isascii, to))
        envelope = replace(envelope, recipients=tuple(map(Recipient, dict.fromkeys(to))), smtputf8=utf8)
    return NewMessage(
        id=new_id,
        account=letter.account,
        username=letter.username,
        envelope=envelope,
        content=_trace(hostname, f"{letter.id} again", new_id, now) + content,
        received_at=now,
        client_message_id=letter.client_message_id,
        tags=letter.tags,
    )


def passed_on(
    origin: Origin, back: DeliveryRequest, content: bytes, new_id: str, hostname: str, received: int, now: float
) -> NewMessage | Reply:
    """What came `back`, for the sender of the message it is about. It ends there, whatever becomes of it."""
    if _loops(content, received):
        return _LOOP
    return NewMessage(
        id=new_id,
        account=origin.account,
        username="",
        envelope=Envelope(
            None,
            (Recipient(origin.sender, ("NEVER",)),),
            body_8bit=back.envelope.body_8bit,
            smtputf8=back.envelope.smtputf8 or not origin.sender.isascii(),
        ),
        content=_trace(hostname, f"{back.message_id} returned", new_id, now) + content,
        received_at=now,
    )


def _loops(content: bytes, received: int) -> bool:
    return sum(field.name == "received" for field in header_fields(header_block(content))) > received


def _trace(hostname: str, words: str, new_id: str, now: float) -> bytes:
    return f"Received: by {hostname} (Sendrelay, {words})\r\n\tid {new_id}; {date_time(now)}\r\n".encode()
