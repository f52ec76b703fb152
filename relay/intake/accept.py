"""accept: THE gate. Checks a finished message, stamps it, spools it, and only then says 250.

Comes in: (Session, Envelope, content) from any door. Goes out: a Reply; the message is on disk when it is 250.
A bug travels to the door, which answers 451 4.3.0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from relay import faults
from relay.intake import stamp
from relay.intake.author import authors
from relay.intake.blind_copies import without_blind_copies
from relay.intake.forged_results import without_forged_results
from relay.intake.shield import PENDING, Shield, digest_of
from relay.mail.address import parse_address
from relay.mail.dialects import has_directives, read_directives
from relay.mail.directives import NO_DIRECTIVES, Directives
from relay.mail.envelope import Envelope
from relay.mail.errors import AddressSyntaxError, DirectiveError, StoreError
from relay.mail.line_ends import fixed_line_ends, has_bare_line_ends
from relay.mail.message import HeaderField, header_block, header_fields
from relay.mail.priority import FIELD as PRIORITY_FIELD
from relay.mail.priority import priority_in
from relay.mail.reply import Reply, printable, reply
from relay.mail.session import Login, Session
from relay.ports import Clock, Incoming, LongMessage, NewMessage, QueuedMessage, SpfResult, Spool, Tail
from relay.settings import LimitSettings
from relay.store.ids import to_number, to_text

_TOO_BIG = reply(552, "5.3.4", "Message is larger than the SIZE this server announces")
_HEADER_TOO_BIG = reply(552, "5.3.4", "Message header is too large")
_TOO_MANY_LINES = reply(552, "5.3.4", "Message header has too many lines")
_BARE_LINE_END = reply(554, "5.6.0", "Bare CR or LF in the message; lines must end with CRLF")
_NUL = reply(554, "5.6.0", "NUL octet in the message; encode binary parts as base64")
_LOOP = reply(554, "5.4.6", "Too many Received fields: this message is in a loop")
_SPOOL_FAILED = reply(451, "4.3.0", "Message could not be stored, try again later")
_BEING_STORED = reply(450, "4.3.0", "The same message is being stored at this moment, try again")
_GONE = reply(451, "4.4.2", "Connection was closed before the answer; the message was not stored")
_TWO_AUTHORS = reply(554, "5.6.0", "More than one From field; name all authors in one")
_FROM_TOO_LONG = reply(550, "5.7.60", "From is too long to say who it names")
_NO_SPACE = reply(452, "4.3.1", "Insufficient system storage, try again later")
_NO_MEMORY = reply(452, "4.3.1", "Too much mail in flight, try again later")

# A field costs about a microsecond wherever a header is read, and a megabyte has room for 260,000.
_HEADER_LINES: Final = 20_000
_LONGEST_FROM: Final = 65_536
_DENIED: Final = frozenset(("fail", "softfail"))


class Health(Protocol):
    """Whether the spool can take mail."""

    def full(self) -> bool: ...


class Observer(Protocol):
    """Hears what was accepted; must not raise."""

    def accepted(self, session: Session, message: QueuedMessage, seconds: float) -> None: ...

    def repeated(self, session: Session, message_id: str) -> None: ...

    def store_failed(self, error: StoreError) -> None: ...

    def failure(self, where: str, error: BaseException, message_id: str | None = None) -> None: ...


class Accept:
    """The gate of one worker."""

    def __init__(
        self,
        spool: Spool,
        limits: LimitSettings,
        hostname: str,
        clock: Clock,
        health: Health,
        observer: Observer,
        deliver: Callable[[QueuedMessage], None],
        received_spf: Callable[[SpfResult, Session, Envelope], bytes],
        profiles: frozenset[str] = frozenset(),
        *,
        shield: Shield,
    ) -> None:
        """`profiles`: names of retry profiles that a message may ask for."""
        self._profiles = profiles
        self._shield = shield
        self._spool = spool
        self._limits = limits
        self._hostname = hostname
        self._clock = clock
        self._health = health
        self._observer = observer
        self._deliver = deliver
        self._received_spf = received_spf
        self._in_flight = 0

    def reconfigure(self, limits: LimitSettings, profiles: frozenset[str]) -> None:
        """Other limits and retry profiles from now on."""
        self._limits = limits
        self._profiles = profiles
        self._shield.window = limits.duplicate_window

    def refusal(self) -> Reply | None:
        """Why no message can be taken now (a 4xx), or None."""
        if self._health.full():
            return _NO_SPACE
        if self._in_flight >= self._limits.memory:
            return _NO_MEMORY
        return None

    def longest_hold(self) -> tuple[int, float]:
        """How many seconds a message may be held, 0 not at all, and until when that is."""
        seconds = self._limits.future_release
        return seconds, self._clock.now() + seconds

    def incoming(self) -> Incoming:
        """A place for a long message that a door is still receiving. Raises StoreError, which has been told of."""
        try:
            return self._spool.incoming()
        except StoreError as error:
            self._observer.store_failed(error)
            raise

    def hold(self, octets: int) -> bool:
        """Count octets a door is still receiving, up or down; False, and not counted, beyond the budget."""
        if octets > 0 and self._in_flight + octets > self._limits.memory:
            return False
        self._in_flight += octets
        return True

    async def accept(
        self,
        session: Session,
        envelope: Envelope,
        content: bytes | LongMessage,
        *,
        fix_line_ends: bool = False,
        spf: SpfResult | None = None,
        gone: Callable[[], bool] = lambda: False,
    ) -> Reply:
        """Check, stamp and spool; the 250 comes after the commit (promise 1).

        A client that has `gone` will send the message again: what nobody hears the answer to is not stored (RFC 1047).
        A long message is the gate's from here on: it is stored or removed.
        """
        try:
            return await self._accept(session, envelope, content, fix_line_ends=fix_line_ends, spf=spf, gone=gone)
        finally:
            if isinstance(content, LongMessage):
                content.incoming.discard()

    async def _accept(
        self,
        session: Session,
        envelope: Envelope,
        content: bytes | LongMessage,
        *,
        fix_line_ends: bool,
        spf: SpfResult | None,
        gone: Callable[[], bool],
    ) -> Reply:
        started = self._clock.monotonic()
        faults.point("after-dot")
        if not envelope.binary and (content.bare if isinstance(content, LongMessage) else has_bare_line_ends(content)):
            if isinstance(content, LongMessage) or not fix_line_ends:
                return _BARE_LINE_END
            content = fixed_line_ends(content)
        header = header_block(_head(content))
        if envelope.binary and has_bare_line_ends(header):
            return _BARE_LINE_END
        refused = self._check(session, header if envelope.binary else content, header, len(content))
        if isinstance(refused, Reply):
            return refused
        directives = _asked_for(session, header, refused, self._profiles, self.longest_hold())
        if isinstance(directives, Reply):
            return directives
        if gone():
            return _GONE
        digest = self._digest(session, envelope, content, refused)
        if digest and (found := self._shield.begin(digest)) is not None:
            return self._known(session, found)
        answer = _SPOOL_FAILED
        try:
            message = self._stamped(session, envelope, content, header, refused, directives, spf, digest)
            answer = await self._store(session, message, started)
        finally:
            if digest and answer.positive:
                self._shield.stored(digest, to_number(message.id))
            elif digest:
                self._shield.failed(digest)
        return answer

    def _digest(
        self, session: Session, envelope: Envelope, content: bytes | LongMessage, fields: list[HeaderField]
    ) -> bytes:
        """What tells a repetition; empty where it is not looked for.

        Without a Message-ID of the client's own two equal messages may well be meant as two, and a stranger's may have
        come by two ways.
        """
        if not self._shield.window or session.login is None or not any(field.name == "message-id" for field in fields):
            return b""
        return digest_of(session.login.username, envelope, content)

    def _known(self, session: Session, number: int) -> Reply:
        if number == PENDING:
            return _BEING_STORED
        stored = to_text(number)
        self._observer.repeated(session, stored)
        return reply(250, "2.0.0", f"Ok: duplicate of {stored}")

    async def _store(self, session: Session, message: NewMessage, started: float) -> Reply:
        """The 250 comes after the commit."""
        self._in_flight += len(message.content)
        try:
            queued = await self._spool.enqueue(message)
        except StoreError as error:
            self._observer.store_failed(error)
            return _SPOOL_FAILED
        finally:
            self._in_flight -= len(message.content)
        faults.point("before-250")
        try:
            self._observer.accepted(session, queued, self._clock.monotonic() - started)
            self._deliver(queued)
        except Exception as error:
            # It is on disk and will be delivered: any other answer would bring it a second time.
            self._observer.failure("intake", error, queued.id)
        return reply(250, "2.0.0", f"Ok: queued as {queued.id}")

    def _check(
        self, session: Session, lines: bytes | LongMessage, header: bytes, size: int
    ) -> Reply | list[HeaderField]:
        """The first reason to refuse, else the header fields. `lines`: what of the message has to be text."""
        if size > self._limits.message_size:
            return _TOO_BIG
        if len(header) > self._limits.header_size:
            return _HEADER_TOO_BIG
        if header.count(b"\n") > _HEADER_LINES:
            return _TOO_MANY_LINES
        if lines.nul if isinstance(lines, LongMessage) else b"\0" in lines:
            # RFC 2045 §2.7 and §2.8: in neither 7bit nor 8bit data.
            return _NUL
        fields = list(header_fields(header))
        names = [field.name for field in fields]
        if names.count("received") > self._limits.received:
            return _LOOP
        if names.count("from") > 1:
            # RFC 5322 §3.6: which of them is read, checked and signed depends on the reader.
            return _TWO_AUTHORS
        if session.login is not None and not session.login.rights.unrestricted:
            refusal = _from_right(session.login, fields)
            if refusal is not None:
                return refusal
        return fields

    def _stamped(
        self,
        session: Session,
        envelope: Envelope,
        content: bytes | LongMessage,
        header: bytes,
        fields: list[HeaderField],
        directives: Directives,
        spf: SpfResult | None,
        digest: bytes,
    ) -> NewMessage:
        now = self._clock.now()
        message_id = self._spool.new_id()
        if session.login:
            left, fields = without_blind_copies(header, fields)
        else:
            left, fields = without_forged_results(header, fields, self._hostname)
        names = [field.name for field in fields]
        if session.login and envelope.priority is None and PRIORITY_FIELD in names:
            envelope = _prioritised(envelope, session.login, fields)
        prefix = stamp.received(session, envelope, message_id, self._hostname, now)
        if spf is not None:
            prefix = self._received_spf(spf, session, envelope) + prefix
        prefix += stamp.missing_fields(names, envelope, message_id, self._hostname, now, whole_header=not fields)
        tail = None
        if isinstance(content, LongMessage):
            whole, tail = left, Tail(content.incoming, len(header), len(content) - len(header))
        else:
            whole = content if left is header else left + content[len(header) :]
        if not fields and not (whole or _head(content)[len(header) :]).startswith(b"\r\n"):
            prefix += b"\r\n"
        return NewMessage(
            id=message_id,
            account=session.login.account if session.login else "",
            username=session.login.username if session.login else "",
            envelope=_asking(_without_backscatter(envelope, session, spf), directives, now),
            content=prefix + whole,
            received_at=now,
            client_message_id=next((f.text[:998] for f in fields if f.name == "message-id"), ""),
            tags=directives.tags,
            tail=tail,
            digest=digest,
        )


def _head(content: bytes | LongMessage) -> bytes:
    """What holds the header."""
    return content.head if isinstance(content, LongMessage) else content


def _asked_for(
    session: Session, header: bytes, fields: list[HeaderField], profiles: frozenset[str], hold: tuple[int, float]
) -> Directives | Reply:
    """What an authenticated client asks for in a vendor's dialect; a stranger asks for nothing."""
    if session.login is None or not has_directives(header):
        return NO_DIRECTIVES
    try:
        asked = read_directives(fields)
        if asked.retry and asked.retry not in profiles:
            known = ", ".join(sorted(profiles))
            raise DirectiveError(f"x-relay-retry: no retry profile {asked.retry!r}; known: {known}")
        if asked.send_at is not None and asked.send_at > hold[1]:
            raise DirectiveError(f"the time to send it is more than {hold[0]} seconds away (limits.future_release)")
        return asked
    except DirectiveError as error:
        return reply(550, "5.6.0", printable(f"Cannot do what the header asks for: {error}"))


def _without_backscatter(envelope: Envelope, session: Session, spf: SpfResult | None) -> Envelope:
    """Mail of a stranger that is none of its sender's, or probably none, by SPF: nobody is told of its failure."""
    if session.login is not None or spf is None or spf.result not in _DENIED:
        return envelope
    return replace(envelope, recipients=tuple(replace(one, notify=("NEVER",)) for one in envelope.recipients))


def _asking(envelope: Envelope, directives: Directives, now: float) -> Envelope:
    """The envelope with what the message itself says of when it is sent, and until when it is tried."""
    hold_until = max(envelope.hold_until or 0.0, directives.send_at or 0.0)
    hold_until = hold_until if hold_until > now else 0.0
    if not directives.retry and directives.expire is None and not hold_until and envelope.hold_until is None:
        return envelope
    expires_at = None if directives.expire is None else (hold_until or now) + directives.expire
    return replace(envelope, retry=directives.retry, expires_at=expires_at, hold_until=hold_until or None)


def _prioritised(envelope: Envelope, login: Login, fields: list[HeaderField]) -> Envelope:
    """RFC 6758 §3.1: the field counts where MAIL says nothing, from who is trusted, as far as its rights go."""
    asked = priority_in(fields)
    return envelope if asked is None else replace(envelope, priority=min(asked, login.rights.priority))


def _from_right(login: Login, fields: list[HeaderField]) -> Reply | None:
    """Every address in From must be one the credential may use; a message without From gets the envelope's."""
    for field in fields:
        if field.name != "from":
            continue
        if len(field.value) > _LONGEST_FROM:
            return _FROM_TOO_LONG
        for address in authors(field.text) or [""]:
            if not _may_write_as(login, address):
                shown = printable(address or field.text, 320)
                text = f"{login.username} has no right to From: {shown}; it may send as {login.rights}"
                return reply(550, "5.7.60", printable(text))
    return None


def _may_write_as(login: Login, address: str) -> bool:
    try:
        return login.rights.allow(str(parse_address(address)))
    except AddressSyntaxError:
        # Who it is to the reader depends on the reader.
        return False
