"""Handler: who may do what. The hooks the dialogue calls, answered from rights and configuration."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from relay.mail.address import to_ascii_domain
from relay.mail.dates import timestamp
from relay.mail.envelope import Envelope
from relay.mail.errors import AuthBusyError, AuthUnavailableError
from relay.mail.reply import Reply, printable, reply
from relay.mail.session import Login, Session
from relay.ports import Authenticator, Incoming, LongMessage, SpfCheck, SpfResult
from relay.settings import InboundSettings, ListenerSettings
from relay.smtpd.commands import UNKNOWN
from relay.smtpd.sasl import Claim, Credentials, ExternalClaim
from relay.smtpd.sasl_bearer import BearerClaim
from relay.smtpd.sasl_offer import Offer
from relay.smtpd.sasl_scram import ScramClaim
from relay.smtpd.transaction import MailTransaction

_SENDER_OK = reply(250, "2.1.0", "Ok")
_RECIPIENT_OK = reply(250, "2.1.5", "Ok")
_AUTH_REQUIRED = reply(530, "5.7.0", "Authentication required")
_LOGIN_ENDED = reply(421, "4.7.0", "The rights of this login have changed; connect and log in again")
_AUTH_FAILED = reply(535, "5.7.8", "Authentication credentials invalid")
_AUTH_BUSY = reply(454, "4.7.0", "Too many authentications at the moment, try again later")
_AUTH_UNAVAILABLE = reply(454, "4.7.0", "Temporary authentication failure, try again later")
_AUTHZID = reply(535, "5.7.8", "Acting as another user is not supported; leave the authorization identity empty")
_RELAYING_DENIED = reply(550, "5.7.1", "Relaying denied: authenticate, or send to a domain of this host")
_ROUTED = reply(550, "5.7.1", "Relaying denied: the local part names another host")
_NO_HOLD = reply(555, "5.5.4", "HOLDFOR and HOLDUNTIL are not offered here")
_BY_BEFORE_HOLD = reply(501, "5.5.4", "The time of BY is over before the message is to be released")
_REQUIRETLS_IN_CLEAR = reply(530, "5.7.10", "REQUIRETLS needs TLS on this connection too: send STARTTLS first")
_INTERNAL = reply(451, "4.3.0", "Internal error, try again later")

_PASSWORDS_ALONE: Final = Offer()
_ROUTE_SIGNS: Final = re.compile(r"[@%!]")


class Intake(Protocol):
    """The single gate behind every door."""

    def refusal(self) -> Reply | None:
        """A 4xx while nothing can be taken (disk full, memory budget), else None."""
        ...

    def incoming(self) -> Incoming:
        """A place for a long message that arrives. Raises StoreError."""
        ...

    def longest_hold(self) -> tuple[int, float]:
        """How many seconds a message may be held, 0 not at all, and until when that is."""
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
        is_return_path: Callable[[str], bool] = lambda address: False,
        offer: Offer = _PASSWORDS_ALONE,
        known: Callable[[Session], Login | None] = lambda session: None,
        suppressed: Callable[[str, str], Reply | None] = lambda account, address: None,
    ) -> None:
        """`is_return_path` knows the addresses that what comes back is sent to; `suppressed` says why an account does
        not write to an address.
        """
        self._suppressed = suppressed
        self._is_return_path = is_return_path
        self._listener = listener
        self._fixes_bare_lf = "bare_lf" in listener.tolerate
        self._inbound = inbound
        self._inbound_domains = frozenset(map(to_ascii_domain, inbound.domains))
        self._intake = intake
        self.hold = intake.hold
        self.incoming = intake.incoming
        self._authenticator = authenticator
        self._spf = spf
        self._on_bug = on_bug
        self._guard = guard
        self.known = known
        self.connected = guard.connect
        self.left = guard.leave
        self._tokens, self._certificates = offer.tokens, offer.certificates
        self.mechanisms = offer.mechanisms
        self.exchange = offer.exchange

    def mail(self, session: Session, transaction: MailTransaction) -> Reply | Awaitable[Reply]:
        """Is the client known, can mail be taken, and is this sender among the client's rights?"""
        if session.login is None and self._listener.role == "submission":
            return _AUTH_REQUIRED
        if transaction.command.requiretls and session.tls is None:
            return _REQUIRETLS_IN_CLEAR
        refusal = self._intake.refusal()
        refusal = refusal or self._guard.message(session.peer, session.login)
        if refusal is not None:
            return refusal
        refusal = self._held(transaction)
        if refusal is not None:
            return refusal
        if transaction.command.priority is not None:
            highest = session.login.rights.priority if session.login is not None else 0
            transaction.priority = min(transaction.command.priority, highest)
        transaction.submitter = _believed(transaction.command.submitter, session.login)
        refusal = self._timed(transaction)
        if refusal is not None:
            return refusal
        if session.login is not None:
            if not self._authenticator.still_valid(session.login):
                return _LOGIN_ENDED
            return self._sender_right(session.login, transaction)
        if self._inbound.spf == "off":
            return _sender_ok(transaction)
        return self._guarded(self._check_spf(session, transaction))

    def longest_hold(self) -> tuple[int, float] | None:
        seconds, until = self._intake.longest_hold()
        return (seconds, until) if seconds and self._listener.role == "submission" else None

    def _held(self, transaction: MailTransaction) -> Reply | None:
        """What MAIL asks for becomes a time; one that has gone by is no wish."""
        command = transaction.command
        if command.hold_for is None and command.hold_until is None:
            return None
        longest = self.longest_hold()
        if longest is None:
            return _NO_HOLD
        seconds, latest = longest
        until = command.hold_until if command.hold_for is None else latest - seconds + command.hold_for
        assert until is not None
        if until > latest:
            return reply(501, "5.5.4", f"A message is held {seconds} seconds at most")
        transaction.hold_until = until
        seconds_or_time = f"until;{timestamp(until)}" if command.hold_for is None else f"for;{command.hold_for:.0f}"
        transaction.hold_request = seconds_or_time
        return None

    def _timed(self, transaction: MailTransaction) -> Reply | None:
        """RFC 2852 §4: BY counts from MAIL on; RFC 4865 §5.2.2: it ends after the message is released."""
        command = transaction.command
        if command.by_seconds is None:
            return None
        seconds, until = self._intake.longest_hold()
        now = until - seconds
        transaction.deliver_by = round(now + command.by_seconds, 3)
        if now < (transaction.hold_until or 0.0) >= transaction.deliver_by:
            return _BY_BEFORE_HOLD
        return None

    def rcpt(self, session: Session, transaction: MailTransaction, address: str) -> Reply | Awaitable[Reply]:
        if session.login is not None:
            refusal = self._suppressed(session.login.account, address)
            return refusal or self._guard.recipient(session.login) or _RECIPIENT_OK
        if address == self._inbound.postmaster or self._is_return_path(address):
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
        login = session.login
        fix = self._fixes_bare_lf or (login is not None and "bare_lf" in login.tolerate)
        accepted = self._intake.accept(
            session, transaction.envelope(), content, fix_line_ends=fix, spf=transaction.spf, gone=gone
        )
        return self._guarded(accepted)

    def vouched(self, username: str) -> Login | None:
        return self._authenticator.named(username)

    async def authenticate(self, session: Session, claim: Claim) -> Login | Reply:
        if claim.authorize_as not in ("", claim.username):
            return _AUTHZID
        delay = self._guard.before_authentication(session.peer, claim.username)
        if isinstance(delay, Reply):
            return delay
        if delay:
            await asyncio.sleep(delay)
        try:
            login = await self._check(claim)
        except AuthBusyError:
            return _AUTH_BUSY
        except AuthUnavailableError:
            return _AUTH_UNAVAILABLE
        except Exception as error:
            self._on_bug(error)
            return _INTERNAL
        self._guard.authenticated(session.peer, claim.username, success=login is not None)
        return login or _AUTH_FAILED

    async def _check(self, claim: Claim) -> Login | None:
        if isinstance(claim, Credentials):
            return await self._authenticator.verify(claim.username, claim.password)
        if isinstance(claim, ExternalClaim):
            assert self._certificates is not None
            return self._certificates.login(claim.certificate, claim.username)
        if isinstance(claim, BearerClaim):
            assert self._tokens is not None
            return await self._tokens.verify(claim.token, claim.username)
        assert isinstance(claim, ScramClaim)
        return claim.proved.login if claim.proved is not None else None

    def _sender_right(self, login: Login, transaction: MailTransaction) -> Reply:
        sender = transaction.reverse_path
        if sender is None or login.rights.allow(sender):
            return _sender_ok(transaction)
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
        return _sender_ok(transaction)

    async def _guarded(self, answer: Awaitable[Reply]) -> Reply:
        """A bug is the server's trouble, not the sender's: 451 outside, the traceback in the log."""
        try:
            return await answer
        except Exception as error:
            self._on_bug(error)
            return _INTERNAL


def _sender_ok(transaction: MailTransaction) -> Reply:
    """RFC 6710 §4.1: who asked for more than is granted hears what it is."""
    if transaction.priority == transaction.command.priority:
        return _SENDER_OK
    return reply(
        250, "2.3.6", f"{transaction.priority} is the priority of this message, the highest this client may ask for"
    )


def _believed(submitter: str, login: Login | None) -> str:
    """RFC 4954 §5: who may not send as somebody may not say either that it was he who submitted."""
    if not submitter:
        return ""
    return submitter if login is not None and login.rights.allow(submitter) else UNKNOWN
