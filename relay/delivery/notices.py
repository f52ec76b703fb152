"""Notices: what a sender is told of recipients, as a new message that goes into the commit of what it tells.

Never for a null sender (no notice about a notice, RFC 5321 §6.1), and only of what was asked for: failures unless
NOTIFY leaves them out, delays and successes by NOTIFY=DELAY and SUCCESS. Who was handed to a next hop that speaks DSN
is told of by that (RFC 3461 §5.2.1). Source: RFC 3461 §5.2, §6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

from relay.delivery.observer import Observer
from relay.delivery.verdict import reason
from relay.mail import dsn
from relay.mail.dates import date_time
from relay.mail.dsn import Action, NoticeFacts, RecipientStatus
from relay.mail.envelope import Envelope, Recipient
from relay.mail.errors import StoreError
from relay.mail.event import EventKind
from relay.mail.frozen import frozen
from relay.mail.reply import Reply
from relay.policy.deadline import is_late, owes_relayed
from relay.policy.retry import gives_up_at
from relay.ports import (
    LONG,
    DeliveryReport,
    MayTell,
    NewMessage,
    QueuedMessage,
    QueuedRecipient,
    RecipientResult,
    Stored,
    tells_all,
)
from relay.settings import DeliverySettings, RetrySettings

_HANDED_ON: Final = {EventKind.SENT, EventKind.DELIVERED}
_ENDED: Final = {EventKind.BOUNCED, EventKind.EXPIRED}
_WAITS: Final = {EventKind.DEFERRED, EventKind.IN_DOUBT}


class Told(NamedTuple):
    """A result, changed where its recipient's sender is told of the delay, and what the notice says of it."""

    result: RecipientResult
    status: RecipientStatus | None


@frozen
class Notifier:
    """Who is told what of one attempt."""

    delivery: DeliverySettings
    profile: RetrySettings
    message: QueuedMessage
    report: DeliveryReport
    now: float

    def tell(self, waiting: QueuedRecipient, result: RecipientResult, reply: Reply) -> Told:
        """`reply` is the last word on the recipient."""
        recipient = waiting.recipient
        if result.kind in _ENDED:
            return Told(
                result, self._status(waiting, result, reply, "failed") if recipient.wants_failure_notice else None
            )
        if result.kind in _HANDED_ON:
            owed = recipient.wants_notice_of("SUCCESS") and not self.report.dsn
            owed = owed or owes_relayed(self.message.envelope, recipient, passed_on=self.report.by)
            return Told(result, self._status(waiting, result, reply, "relayed") if owed else None)
        if result.kind in _WAITS and self._is_late(waiting):
            return Told(replace(result, told=True), self._status(waiting, result, reply, "delayed"))
        return Told(result, None)

    def _is_late(self, waiting: QueuedRecipient) -> bool:
        age = self.profile.delay_notice
        notify, whom = waiting.recipient.notify, self.delivery.delay_notices
        if self.message.envelope.by_mode == "N":
            # The client said itself when it is late.
            asked = not notify or "DELAY" in notify
            return asked and whom != "off" and not waiting.told and is_late(self.message.envelope, self.now)
        asked = "DELAY" in notify or (whom == "all" and not notify)
        return bool(age) and asked and whom != "off" and not waiting.told and self.now >= self.message.since + age

    def _status(
        self, waiting: QueuedRecipient, result: RecipientResult, reply: Reply, action: Action
    ) -> RecipientStatus:
        until = date_time(gives_up_at(self.profile, self.message.since)) if action == "delayed" else ""
        words = {"delayed": "it is tried again", "relayed": "the next mail host took it"}
        return RecipientStatus(
            address=result.address,
            orcpt=waiting.recipient.orcpt,
            action=action,
            reply=reply,
            remote=self.report.host,
            reason=words.get(action) or reason(result, reply),
            until=until,
        )


class Contents(Protocol):
    """What of the spool is needed. Raises StoreError."""

    async def read_content(self, message_id: str) -> bytes: ...

    async def open_content(self, message_id: str) -> bytes | Stored: ...


async def original(spool: Contents, message: QueuedMessage, largest: int, observer: Observer) -> bytes:
    """As much of a message as a notice may return: all of up to `largest` octets, else its start.

    A notice without it is better than none: where it cannot be read there is nothing.
    """
    try:
        if message.size <= max(largest, LONG):
            return await spool.read_content(message.id)
        stored = await spool.open_content(message.id)
        if isinstance(stored, bytes):
            return stored
        try:
            return await stored.read(0, LONG)
        finally:
            stored.close()
    except StoreError as error:
        observer.store_failed(error)
        return b""


def notice(
    message: QueuedMessage,
    statuses: Sequence[RecipientStatus],
    original: bytes,
    *,
    notice_id: str,
    hostname: str,
    now: float,
    largest: int = 0,
    may_tell: MayTell = tells_all,
) -> NewMessage | None:
    """The notice about `statuses`, or None where nobody wants one, or its sender had too many.

    `original`: at least all of the header.

    A stranger's mail never comes back whole.
    """
    sender = message.envelope.reverse_path
    if sender is None or not statuses:
        return None
    room = may_tell(message)
    if room == "no":
        return None
    facts = NoticeFacts(
        hostname=hostname,
        notice_id=notice_id,
        message_id=message.id,
        date=date_time(now),
        arrival_date=date_time(message.received_at),
        envelope=message.envelope,
        last=room == "last",
    )
    whole = message.username and message.size <= largest
    content = dsn.build(facts, statuses, original, largest if whole else 0)
    recipient = Recipient(sender, ("NEVER",))
    return NewMessage(
        id=notice_id,
        account=message.account,
        username="",
        envelope=Envelope(
            None,
            (recipient,),
            body_8bit=not content.isascii(),
            smtputf8=not sender.isascii(),
            priority=message.envelope.priority,
            requiretls=message.envelope.requiretls,
        ),
        content=content,
        received_at=now,
        client_message_id="",
    )
