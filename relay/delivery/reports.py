"""Reports: what a next hop tells later of a message it took becomes an event, a state, and a notice to the sender.

Comes in: reports by the next hop's own name for the message. Goes out: rows in the spool, once each, with the DSN in
the same commit where a recipient has bounced after all; then the world is told. Raises StoreError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from relay.delivery.notices import notice
from relay.delivery.observer import Observer
from relay.mail.address import comparable
from relay.mail.dsn import RecipientStatus
from relay.mail.event import Event, EventKind
from relay.mail.lifecycle import TRANSITIONS
from relay.mail.reply import Reply, printable, reply
from relay.ports import Clock, HandedOn, MayTell, NewMessage, News, Report, Suppress, suppress_nothing, tells_all
from relay.settings import Settings

_REASON: Final = "it was handed on, and came back later"
_DELIVERED: Final = "the next mail host reported it delivered"
_ENDING: Final = (EventKind.DELIVERED, EventKind.BOUNCED)
_SUPPRESSING: Final = (EventKind.BOUNCED, EventKind.COMPLAINED)
_LONGEST_ANSWER: Final = 300
_UNIQUE: Final = 16
"""Characters from which an id is taken to be unique everywhere, and not only in its account."""


class Later(Protocol):
    """What of the spool is needed. Raises StoreError."""

    def new_id(self) -> str: ...

    async def handed_on(self, remote_ids: Sequence[str]) -> list[HandedOn]: ...

    async def reported(self, keys: Sequence[str]) -> set[str]: ...

    async def report(self, news: Sequence[News]) -> list[bool]: ...


class Reports:
    """Of one lane."""

    def __init__(
        self,
        spool: Later,
        settings: Callable[[], Settings],
        clock: Clock,
        tell: Callable[[Event, bool], None],
        observer: Observer,
        look: Callable[[], None],
        heard: Callable[[str], None],
        suppress: Suppress = suppress_nothing,
        may_tell: MayTell = tells_all,
    ) -> None:
        """`settings` gives those in force, `tell` hears what is on disk, and whether that ended the recipient.

        `look` brings notices from the spool; `heard` is told of every message there is a report of; `suppress` hears
        once of every bounce and complaint.
        """
        self._spool = spool
        self._settings = settings
        self._clock = clock
        self._tell_world = tell
        self._observer = observer
        self._look = look
        self._heard = heard
        self._suppress = suppress
        self._may_tell = may_tell

    async def take(self, reports: Sequence[Report]) -> list[bool]:
        """Says of each report whether its recipient is of this spool; when it returns they are on disk."""
        found = await self._spool.handed_on(tuple({one.remote_id for one in reports if one.remote_id}))
        known_here = _Known(found)
        joined = [(one, known_here.meant(one)) for one in reports]
        news = [(self._news(report, known), known) for report, known in joined if known is not None]
        await self._put_on_lists([(report, known) for report, known in joined if known is not None])
        written = await self._spool.report([one for one, _ in news]) if news else []
        for (one, known), new in zip(news, written, strict=True):
            self._heard(known.message.id)
            if new:
                self._tell(one, known)
        return [known is not None for _, known in joined]

    async def _put_on_lists(self, joined: Sequence[tuple[Report, HandedOn]]) -> None:
        """Before the reports are on disk: what comes again then is only said twice.

        What is on disk was put there, and an operator may have taken it off since: polls tell the same for days.
        """
        heard = [(report, known, _key(report, known)) for report, known in joined if report.kind in _SUPPRESSING]
        before = await self._spool.reported([key for _, _, key in heard]) if heard else set()
        for report, known, key in heard:
            if key not in before:
                address = known.recipient.recipient.address
                await self._suppress(known.message.account, address, report.kind, report.said, report.hard)

    def _news(self, report: Report, known: HandedOn) -> News:
        answer = _answer(report)
        at = report.at or self._clock.now()
        told = self._notice(known, report.kind, answer) if report.kind in _ENDING else None
        index = known.recipient.index
        return News(known.message.id, index, report.kind, _key(report, known), at, str(answer), told)

    def _notice(self, known: HandedOn, kind: EventKind, answer: Reply) -> NewMessage | None:
        """The text may be gone by now; the notice tells without it."""
        recipient, message, settings = known.recipient.recipient, known.message, self._settings()
        if kind not in TRANSITIONS.get(known.state, {}):
            return None
        if kind is EventKind.DELIVERED:
            # Who was handed on without a report to wait for was told so then.
            if not known.recipient.awaits or not recipient.wants_notice_of("SUCCESS"):
                return None
            status = RecipientStatus(recipient.address, recipient.orcpt, "delivered", answer, "", _DELIVERED)
        else:
            account = settings.account.get(message.account)
            wanted = account is None or account.later_bounces == "notice"
            if not (wanted and recipient.wants_failure_notice):
                return None
            status = RecipientStatus(recipient.address, recipient.orcpt, "failed", answer, "", _REASON)
        return notice(
            message,
            [status],
            b"",
            notice_id=self._spool.new_id(),
            hostname=settings.hostname,
            now=self._clock.now(),
            may_tell=self._may_tell,
        )

    def _tell(self, news: News, known: HandedOn) -> None:
        address = known.recipient.recipient.address
        detail = {"remote_id": known.remote_id}
        ended = news.kind in _ENDING and not known.state.terminal
        self._tell_world(Event(news.at, news.kind, news.message_id, address, news.reply, detail), ended)
        if news.notice is not None:
            self._observer.notice_queued(news.message_id, news.notice.id, news.notice.envelope.recipients[0].address)
            self._look()


def _key(report: Report, known: HandedOn) -> str:
    return f"{report.key} {known.recipient.index}"


class _Known:
    """Recipients that were handed on, by the next hop's name for the message; no search in a list for each report."""

    def __init__(self, found: Sequence[HandedOn]) -> None:
        self._alone: dict[str, list[HandedOn]] = {}
        self._named: dict[tuple[str, str], list[HandedOn]] = {}
        for each in found:
            self._alone.setdefault(each.remote_id, []).append(each)
            key = (each.remote_id, comparable(each.recipient.recipient.address))
            self._named.setdefault(key, []).append(each)

    def meant(self, report: Report) -> HandedOn | None:
        """By the address; a report that names none means the only one there is."""
        if report.recipient:
            found = self._named.get((report.remote_id, comparable(report.recipient)), [])
        else:
            found = self._alone.get(report.remote_id, [])
        found = [one for one in found if report.by in ("", one.taken_by)] or _of_others(report, found)
        return found[0] if found and (report.recipient or len(found) == 1) else None


def _of_others(report: Report, found: list[HandedOn]) -> list[HandedOn]:
    """What another candidate took: one callback may serve several, and a provider may get another name.

    Only where the id can be that of one message alone: every account may have a campaign 16.
    """
    return found if len(report.remote_id) >= _UNIQUE else []


def _answer(report: Report) -> Reply:
    said = report.said or report.kind.value
    if report.kind is EventKind.BOUNCED:
        return reply(550, "5.0.0", printable(f"Reported later: {said}", _LONGEST_ANSWER))
    return reply(250, "2.0.0", printable(f"Reported later: {said}", _LONGEST_ANSWER))
