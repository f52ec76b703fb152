"""Handler: who may do what. The hooks the dialogue calls, answered from rights and configuration."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from relay.mail.address import to_ascii_domain
from relay.mail.envelope import Envelope
from relay.mail.errors import AddressSyntaxError, AuthBusyError, SettingsError
from relay.mail.reply import Reply, printable, reply
from relay.mail.session import Login, Session
from relay.ports import Authenticator, Incoming, LongMessage, SpfCheck, SpfResult
from relay.settings import InboundSettings, ListenerSettings
from relay.smtpd.sasl import Credentials
from relay.smtpd.transaction import MailTransaction

_SENDER_OK = reply(250, "2.1.0", "Ok")
_RECIPIENT_OK = reply(250, "2.1.5", "Ok")
_AUTH_REQUIRED = reply(530, "5.7.0", "Authentication required")
_LOGIN_ENDED = reply(421, "4.7.0", "The rights of this login have changed; connect and log in again")
_AUTH_FAILED = reply(535, "5.7.8", "Authentication credentials invalid")
_AUTH_BUSY = reply(454, "4.7.0", "Too many authentications at the moment, try again later")
_AUTHZID = reply(535, "5.7.8", "Acting as another user is not supported; leave the authorization identity empty")
_RELAYING_DENIED = reply(550, "5.7.1", "Relaying denied: authenticate, or send to a domain of this host")
_ROUTED = reply(550, "5.7.1", "Relaying denied: the local part names another host")
_INTERNAL = reply(451, "4.3.0", "Internal error, try again later")

_ROUTE_SIGNS: Final = re.compile(r"[@%!]")


class Intake(Protocol):
    """The single gate behind every door."""

    def refusal(self) -> Reply | None:
        """A 4xx while nothing can be taken (disk full, memory budget), else None."""
        ...

    def incoming(self) -> Incoming:
        """A place for a long message that arrives. Raises StoreError."""
        ...

    def hold(self, octets: int) -> bool:
        """Count octets of message data in memory, up or down; False, and not counted, beyond the budget."""
        ...

    async def accept(
        self,
        session: Session,
        envelope: Envelope,
        content: bytes | LongMessage,
        *,
        fix_line_ends: bool,
        spf: SpfResult | None,
        gone: Callable[[], bool],
    ) -> Reply: ...


class Guard(Protocol):
    """What one client may do over all its connections (`guard.Guard`)."""

    def connect(self, peer: str) -> Reply | None: ...

    def leave(self, peer: str) -> None: ...

    def message(self, peer: str, login: Login | None) -> Reply | None: ...

    def recipient(self, login: Login | None) -> Reply | None: ...

    def before_authentication(self, peer: str, username: str) -> Reply | float: ...

    def authenticated(self, peer: str, username: str, *, success: bool) -> None: ...


class Handler:
    """Hooks of one listener (see `hooks.Hooks`); holds no state of a session."""

    def __init__(
        self,
        listener: ListenerSettings,
        inbound: InboundSettings,
        intake: Intake,
        authenticator: Authenticator,
        spf: SpfCheck,
        on_bug: Callable[[Exception], None],
        guard: Guard,
    ) -> None:
        self._listener = listener
        self._inbound = inbound
        self._inbound_domains = frozenset(map(_inbound_domain, inbound.domains))
        self._intake = intake
        self.hold = intake.hold
        self.incoming = intake.incoming
        self._authenticator = authenticator
        self._spf = spf
        self._on_bug = on_bug
        self._guard = guard
        self.connected = guard.connect
        self.left = guard.leave

    def mail(self, session: Session, transaction: MailTransaction) -> Reply | Awaitable[Reply]:
        """Is the client known, can mail be taken, and is this sender among the client's rights?"""
        if session.login is None and self._listener.role == "submission":
            return _AUTH_REQUIRED
        refusal = self._intake.refusal()
        refusal = refusal or self._guard.message(session.peer, session.login)
        if refusal is not None:
            return refusal
        if session.login is not None:
            if not self._authenticator.still_valid(session.login):
                return _LOGIN_ENDED
            return self._sender_right(session.login, transaction.reverse_path)
        if self._inbound.spf == "off":
            return _SENDER_OK
        return self._guarded(self._check_spf(session, transaction))

    def rcpt(self, session: Session, transaction: MailTransaction, address: str) -> Reply | Awaitable[Reply]:
        if session.login is not None:
            return self._guard.recipient(session.login) or _RECIPIENT_OK
        if address == self._inbound.postmaster:
            return _RECIPIENT_OK
        local, _, domain = address.rpartition("@")
        if to_ascii_domain(domain) not in self._inbound_domains:
            return _RELAYING_DENIED
        # `user%other.example@ours` asks the next hop to relay, and that hop trusts us.
        return _ROUTED if _ROUTE_SIGNS.search(local) else _RECIPIENT_OK

    def postmaster(self) -> str:
        return self._inbound.postmaster

    def data(self, session: Session, transaction: MailTransaction) -> Reply | None:
        return self._intake.refusal()

    def message(
        self, session: Session, transaction: MailTransaction, content: bytes | LongMessage, gone: Callable[[], bool]
    ) -> Reply | Awaitable[Reply]:
        fix = self._listener.bare_lf == "fix"
        accepted = self._intake.accept(
            session, transaction.envelope(), content, fix_line_ends=fix, spf=transaction.spf, gone=gone
        )
        return self._guarded(accepted)

    async def authenticate(self, session: Session, mechanism: str, credentials: Credentials) -> Login | Reply:
        if credentials.authorize_as not in ("", credentials.username):
            return _AUTHZID
        delay = self._guard.before_authentication(session.peer, credentials.username)
        if isinstance(delay, Reply):
            return delay
        if delay:
            await asyncio.sleep(delay)
        try:
            login = await self._authenticator.verify(credentials.username, credentials.password)
        except AuthBusyError:
            return _AUTH_BUSY
        except Exception as error:
            self._on_bug(error)
            return _INTERNAL
        self._guard.authenticated(session.peer, credentials.username, success=login is not None)
        return login or _AUTH_FAILED

    def _sender_right(self, login: Login, sender: str | None) -> Reply:
        if sender is None or login.rights.allow(sender):
            return _SENDER_OK
        text = f"{login.username} has no right to the sender {sender}; it may send as {login.rights}"
        return reply(550, "5.7.1", printable(text))

    async def _check_spf(self, session: Session, transaction: MailTransaction) -> Reply:
        result = await self._spf.check(session.peer, session.helo, transaction.reverse_path)
        transaction.spf = result
        if self._inbound.spf == "enforce":
            if result.result == "fail":
                # RFC 7208 §8.4, RFC 7372 §3.2.
                return reply(550, "5.7.23", printable(f"SPF validation failed: {result.explanation}"))
            if result.result == "temperror":
                return reply(451, "4.4.3", "SPF could not be checked (DNS), try again later")
        return _SENDER_OK

    async def _guarded(self, answer: Awaitable[Reply]) -> Reply:
        """A bug is the server's trouble, not the sender's: 451 outside, the traceback in the log."""
        try:
            return await answer
        except Exception as error:
            self._on_bug(error)
            return _INTERNAL


def _inbound_domain(domain: str) -> str:
    try:
        return to_ascii_domain(domain)
    except AddressSyntaxError as error:
        raise SettingsError(f"inbound.domains: {domain!r} is no domain ({error}); correct or remove it") from error
