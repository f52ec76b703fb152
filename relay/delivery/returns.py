"""Returns: what came back to the return path of a message becomes events and states, and goes on to its sender.

Comes in: mail that was returned, read (mail/returned.py). Goes out: rows in the spool, once each, and who is to have
the mail itself. Unlike a provider's report it is a notice already, so none is made. Raises StoreError.
Source: RFC 3464 §2.3.3 (actions), RFC 3461 §4.1 (who wants to hear of what).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol

from relay.mail.address import comparable
from relay.mail.event import Event, EventKind
from relay.mail.reply import Reply, printable, reply
from relay.mail.returned import ReportedRecipient
from relay.ports import HandedOn, News, Origin, ReturnedMail, Suppress, suppress_nothing
from relay.settings import Settings

_KINDS: Final = {"failed": EventKind.BOUNCED, "delayed": EventKind.DELAYED, "delivered": EventKind.DELIVERED}
_WISHES: Final[dict[str, Literal["FAILURE", "DELAY", "SUCCESS"]]] = {"failed": "FAILURE", "delayed": "DELAY"}
_ENDING: Final = (EventKind.DELIVERED, EventKind.BOUNCED)

Joined = tuple[ReportedRecipient, HandedOn]


class Later(Protocol):
    """What of the spool is needed. Raises StoreError."""

    async def sent_to(self, message_id: str) -> list[HandedOn]: ...

    async def report(self, news: Sequence[News]) -> list[bool]: ...


class Returns:
    """Of one lane."""

    def __init__(
        self,
        spool: Later,
        settings: Callable[[], Settings],
        tell: Callable[[Event, bool], None],
        suppress: Suppress = suppress_nothing,
    ) -> None:
        """`settings` gives those in force; `tell` hears what is on disk, and whether that ended the recipient."""
        self._spool = spool
        self._settings = settings
        self._tell = tell
        self._suppress = suppress

    async def take(self, mail: ReturnedMail) -> Origin | Literal["gone", "early"]:
        """When it returns an Origin, what was reported is on disk. `gone`: the message is not known any more.

        `early`: it came back before the answer that it had been taken was on disk.
        """
        known = await self._spool.sent_to(mail.message_id)
        if mail.index is not None:
            known = [one for one in known if one.recipient.index == mail.index]
        if not known:
            return "gone"
        joined = _joined(mail, known)
        if mail.patient and any(_under_way(one) for _, one in joined):
            return "early"
        await self._write(mail, joined)
        message = known[0].message
        wanted = not joined or any(self._wants(reported.action, one) for reported, one in joined)
        return Origin(message.account, (message.envelope.reverse_path or "") if wanted else "")

    async def _write(self, mail: ReturnedMail, joined: Sequence[Joined]) -> None:
        news = [_news(mail, *one) for one in joined if one[0].action in _KINDS]
        states = {one.recipient.index: one for _, one in joined}
        for one in news:
            known = states[one.index]
            await self._suppress(known.message.account, known.recipient.recipient.address, one.kind, one.reply)
        written = await self._spool.report(news) if news else []
        for one, new in zip(news, written, strict=True):
            if new:
                known = states[one.index]
                ended = one.kind in _ENDING and not known.state.terminal
                address = known.recipient.recipient.address
                self._tell(Event(one.at, one.kind, one.message_id, address, one.reply, {"returned": mail.key}), ended)

    def _wants(self, action: str, known: HandedOn) -> bool:
        settings, recipient = self._settings(), known.recipient.recipient
        wish = _WISHES.get(action, "SUCCESS")
        if recipient.notify:
            return recipient.wants_notice_of(wish)
        account = settings.account.get(known.message.account)
        if wish == "FAILURE":
            return account is None or account.later_bounces == "notice"
        return wish == "DELAY" and settings.delivery.delay_notices == "all"


def _joined(mail: ReturnedMail, known: Sequence[HandedOn]) -> list[Joined]:
    """Each recipient of ours with what is reported of it; where several things are, with the gravest.

    A return path of one recipient's own says whom it is about, whatever an alias made of the address.
    """
    found: dict[int, Joined] = {}
    by_address = {comparable(one.recipient.recipient.address): one for one in known}
    alone = known[0] if len(known) == 1 else None
    for reported in sorted(mail.reported, key=_gravity):
        named = (by_address.get(comparable(address)) for address in reported.addresses)
        one = next((each for each in named if each is not None), alone)
        if one is not None:
            found.setdefault(one.recipient.index, (reported, one))
    return list(found.values())


def _under_way(known: HandedOn) -> bool:
    return not known.state.terminal and not known.recipient.awaits


def _gravity(reported: ReportedRecipient) -> int:
    return ("failed", "delayed", "delivered", "relayed", "expanded").index(reported.action)


def _news(mail: ReturnedMail, reported: ReportedRecipient, known: HandedOn) -> News:
    index, kind = known.recipient.index, _KINDS[reported.action]
    return News(mail.message_id, index, kind, f"{mail.key} {index}", mail.at, str(_answer(reported)))


def _answer(reported: ReportedRecipient) -> Reply:
    """In the class of what it means: a failed recipient with a 4.x.x is one whose time was over."""
    code, klass = {"failed": (550, "5"), "delayed": (450, "4")}.get(reported.action, (250, "2"))
    status = f"{klass}{reported.status[1:]}" if reported.status else f"{klass}.0.0"
    return reply(code, status, printable(f"Returned later: {reported.words or reported.action}"))
