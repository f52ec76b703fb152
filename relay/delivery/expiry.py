"""Expiry: the operator ends recipients as expired, and their sender is told in the same commit (promise 2).

Comes in: a message's id and the last answers of recipients that wait. Goes out: their end, its events and the notice in
one commit; or nothing, where one of them ended or was begun meanwhile. Raises StoreError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from relay.delivery.notices import Contents, notice, original
from relay.delivery.observer import Observer
from relay.mail.dsn import RecipientStatus
from relay.mail.event import Event, EventKind
from relay.mail.reply import Reply, printable, reply
from relay.ports import (
    AttemptEnd,
    Clock,
    EventSink,
    MayTell,
    NewMessage,
    QueuedMessage,
    QueuedRecipient,
    RecipientResult,
    tells_all,
)
from relay.settings import Settings

_REASON: Final = "its delivery was ended by the operator of the mail system"
_LONGEST_ANSWER: Final = 300


class Waiting(Contents, Protocol):
    """What of the spool is needed. Raises StoreError."""

    def new_id(self) -> str: ...

    async def waiting(self, message_id: str, indexes: Sequence[int]) -> QueuedMessage | None:
        """The message with those of these recipients that are not finished."""
        ...

    async def end_waiting(self, end: AttemptEnd) -> bool:
        """All of it, or False where one of them has ended or is in flight."""
        ...


class Expiry:
    """Of one lane."""

    def __init__(
        self,
        spool: Waiting,
        settings: Callable[[], Settings],
        clock: Clock,
        events: EventSink,
        observer: Observer,
        may_tell: MayTell = tells_all,
    ) -> None:
        """`settings` gives those in force."""
        self._spool = spool
        self._settings = settings
        self._clock = clock
        self._events = events
        self._observer = observer
        self._may_tell = may_tell

    async def end(self, message_id: str, answers: Mapping[int, str]) -> bool:
        """End these recipients (index to last answer) together; False, and nothing done, where not all wait."""
        message = await self._spool.waiting(message_id, tuple(answers))
        if message is None or len(message.due) != len(answers):
            return False
        now = self._clock.now()
        verdicts = {waiting.index: _verdict(answers[waiting.index]) for waiting in message.due}
        told = await self._notice(message, verdicts, now)
        results = tuple(
            RecipientResult(one.index, one.recipient.address, EventKind.EXPIRED, str(verdicts[one.index]), counts=False)
            for one in message.due
        )
        if not await self._spool.end_waiting(AttemptEnd(message_id, 0, now, "", "", results, told)):
            return False
        for result in results:
            self._events.event(Event(now, result.kind, message_id, result.address, result.reply))
        if told is not None:
            self._observer.notice_queued(message_id, told.id, told.envelope.recipients[0].address)
        return True

    async def _notice(self, message: QueuedMessage, verdicts: Mapping[int, Reply], now: float) -> NewMessage | None:
        statuses = [_status(one, verdicts[one.index]) for one in message.due if one.recipient.wants_failure_notice]
        if message.envelope.reverse_path is None or not statuses:
            return None
        settings = self._settings()
        return notice(
            message,
            statuses,
            await original(self._spool, message, settings.delivery.returned_size, self._observer),
            notice_id=self._spool.new_id(),
            hostname=settings.hostname,
            now=now,
            largest=settings.delivery.returned_size,
            may_tell=self._may_tell,
        )


def _verdict(last_answer: str) -> Reply:
    """RFC 3463 §3.5: X.4.7, delivery time expired."""
    last = f"; the last answer was: {last_answer}" if last_answer else ""
    return reply(554, "5.4.7", printable(f"Expired by the operator{last}", _LONGEST_ANSWER))


def _status(waiting: QueuedRecipient, verdict: Reply) -> RecipientStatus:
    return RecipientStatus(
        address=waiting.recipient.address,
        orcpt=waiting.recipient.orcpt,
        action="failed",
        reply=verdict,
        remote="",
        reason=_REASON,
    )
