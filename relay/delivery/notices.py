"""Notices: the DSN for recipients that failed, as a new message that goes into the commit of their failure.

Never for a null sender (no notice about a notice, RFC 5321 §6.1), never for NOTIFY without FAILURE.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.mail import dsn
from relay.mail.dates import date_time
from relay.mail.dsn import NoticeFacts, RecipientStatus
from relay.mail.envelope import Envelope, Recipient
from relay.ports import NewMessage, QueuedMessage


def failure_notice(
    message: QueuedMessage,
    statuses: Sequence[RecipientStatus],
    original: bytes,
    *,
    notice_id: str,
    hostname: str,
    now: float,
) -> NewMessage | None:
    """The notice about `statuses`, or None where nobody wants one."""
    sender = message.envelope.reverse_path
    if sender is None or not statuses:
        return None
    facts = NoticeFacts(
        hostname=hostname,
        notice_id=notice_id,
        message_id=message.id,
        date=date_time(now),
        arrival_date=date_time(message.received_at),
        envelope=message.envelope,
    )
    content = dsn.build(facts, statuses, original)
    recipient = Recipient(sender, ("NEVER",))
    return NewMessage(
        id=notice_id,
        account=message.account,
        username="",
        envelope=Envelope(None, (recipient,), body_8bit=not content.isascii(), smtputf8=not sender.isascii()),
        content=content,
        received_at=now,
        client_message_id="",
    )
