"""accept: THE gate. Checks a finished message, stamps it, spools it, and only then says 250.

Comes in: (Session, Envelope, content) from any door. Goes out: a Reply; the message is on disk when it is 250.
A bug travels to the door, which answers 451 4.3.0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from relay import faults
from relay.intake import stamp
from relay.intake.author import authors
from relay.intake.blind_copies import without_blind_copies
from relay.mail.address import parse_address
from relay.mail.dialects import has_directives, read_directives
from relay.mail.directives import NO_DIRECTIVES, Directives
from relay.mail.envelope import Envelope
from relay.mail.errors import AddressSyntaxError, DirectiveError, StoreError
from relay.mail.line_ends import fixed_line_ends, has_bare_line_ends
from relay.mail.message import HeaderField, header_block, header_fields
from relay.mail.reply import Reply, printable, reply
from relay.mail.session import Login, Session
from relay.ports import Clock, Incoming, LongMessage, NewMessage, QueuedMessage, SpfResult, Spool, Tail
from relay.settings import LimitSettings

_TOO_BIG = reply(552, "5.3.4", "Message is larger than the SIZE this server announces")
_HEADER_TOO_BIG = reply(552, "5.3.4", "Message header is too large")
_BARE_LINE_END = reply(554, "5.6.0", "Bare CR or LF in the message; lines must end with CRLF")
_NUL = reply(554, "5.6.0", "NUL octet in the message; encode binary parts as base64")
_LOOP = reply(554, "5.4.6", "Too many Received fields: this message is in a loop")
_SPOOL_FAILED = reply(451, "4.3.0", "Message could not be stored, try again later")
_GONE = reply(451, "4.4.2", "Connection was closed before the answer; the message was not stored")
_NO_SPACE = reply(452, "4.3.1", "Insufficient system storage, try again later")
_NO_MEMORY = reply(452, "4.3.1", "Too much mail in flight, try again later")


class Health(Protocol):
    """Whether the spool can take mail."""

    def full(self) -> bool: ...


class Observer(Protocol):
    """Hears what was accepted; must not raise."""

    def accepted(self, session: Session, message: QueuedMessage, seconds: float) -> None: ...

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
    ) -> None:
        """`profiles`: names of retry profiles that a message may ask for."""
        self._profiles = profiles
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

    def refusal(self) -> Reply | None:
        """Why no message can be taken now (a 4xx), or None."""
        if self._health.full():
            return _NO_SPACE
        if self._in_flight >= self._limits.memory:
            return _NO_MEMORY
        return None

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
        if isinstance(content, LongMessage):
            if content.bare:
                return _BARE_LINE_END
        elif has_bare_line_ends(content):
            if not fix_line_ends:
                return _BARE_LINE_END
            content = fixed_line_ends(content)
        header = header_block(_head(content))
        refused = self._check(session, content, header)
        if isinstance(refused, Reply):
            return refused
        directives = _asked_for(session, header, refused, self._profiles)
        if isinstance(directives, Reply):
            return directives
        message = self._stamped(session, envelope, content, header, refused, directives, spf)
        if gone():
            return _GONE
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

    def _check(self, session: Session, content: bytes | LongMessage, header: bytes) -> Reply | list[HeaderField]:
        """The first reason to refuse, else the header fields."""
        if len(content) > self._limits.message_size:
            return _TOO_BIG
        if len(header) > self._limits.header_size:
            return _HEADER_TOO_BIG
        if content.nul if isinstance(content, LongMessage) else b"\0" in content:
            # RFC 2045 §2.7 and §2.8: in neither 7bit nor 8bit data.
            return _NUL
        fields = list(header_fields(header))
        if sum(field.name == "received" for field in fields) > self._limits.received:
            return _LOOP
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
    ) -> NewMessage:
        now = self._clock.now()
        message_id = self._spool.new_id()
        head = _head(content)
        if session.login:
            head, fields = without_blind_copies(head, fields)
        names = [field.name for field in fields]
        prefix = stamp.received(session, envelope, message_id, self._hostname, now)
        if spf is not None:
            prefix = self._received_spf(spf, session, envelope) + prefix
        prefix += stamp.missing_fields(names, envelope, message_id, self._hostname, now, whole_header=not fields)
        if not fields and not head.startswith(b"\r\n"):
            prefix += b"\r\n"
        tail = None
        if isinstance(content, LongMessage):
            head, tail = header_block(head), Tail(content.incoming, len(header), len(content) - len(header))
        return NewMessage(
            id=message_id,
            account=session.login.account if session.login else "",
            username=session.login.username if session.login else "",
            envelope=_asking(_without_backscatter(envelope, session, spf), directives, now),
            content=prefix + head,
            received_at=now,
            client_message_id=next((f.text[:998] for f in fields if f.name == "message-id"), ""),
            tags=directives.tags,
            tail=tail,
        )


def _head(content: bytes | LongMessage) -> bytes:
    """What holds the header."""
    return content.head if isinstance(content, LongMessage) else content


def _asked_for(
    session: Session, header: bytes, fields: list[HeaderField], profiles: frozenset[str]
) -> Directives | Reply:
    """What an authenticated client asks for in a vendor's dialect; a stranger asks for nothing."""
    if session.login is None or not has_directives(header):
        return NO_DIRECTIVES
    try:
        asked = read_directives(fields)
        if asked.retry and asked.retry not in profiles:
            known = ", ".join(sorted(profiles))
            raise DirectiveError(f"x-relay-retry: no retry profile {asked.retry!r}; known: {known}")
        return asked
    except DirectiveError as error:
        return reply(550, "5.6.0", printable(f"Cannot do what the header asks for: {error}"))


def _without_backscatter(envelope: Envelope, session: Session, spf: SpfResult | None) -> Envelope:
    """A stranger whose sender SPF denies gets in by `inbound.spf = "mark"`; nobody is told of its failure."""
    if session.login is not None or spf is None or spf.result != "fail":
        return envelope
    return replace(envelope, recipients=tuple(replace(one, notify=("NEVER",)) for one in envelope.recipients))


def _asking(envelope: Envelope, directives: Directives, now: float) -> Envelope:
    """The envelope with what the message itself says of its retries."""
    if not directives.retry and directives.expire is None:
        return envelope
    expires_at = None if directives.expire is None else now + directives.expire
    return replace(envelope, retry=directives.retry, expires_at=expires_at)


def _from_right(login: Login, fields: list[HeaderField]) -> Reply | None:
    """Every address in From must be one the credential may use; a message without From gets the envelope's."""
    for field in fields:
        if field.name != "from":
            continue
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
