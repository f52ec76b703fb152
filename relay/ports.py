"""Ports: what a room needs from beside arrives through its constructor as one of these.

Only `app.py` knows which class stands behind a port. Contracts are in the docstrings.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from relay.mail.directives import NO_DIRECTIVES, Directives
from relay.mail.envelope import Envelope, Recipient
from relay.mail.event import Event, EventKind
from relay.mail.outcome import Outcome
from relay.mail.reply import Reply
from relay.mail.session import Login, SenderRights, TlsFacts


class Clock(Protocol):
    """Time as data, so that tests own it."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump."""
        ...


class SystemClock:
    """The real clock."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class Random(Protocol):
    """Randomness as data; `random.Random` fits."""

    def random(self) -> float: ...

    def shuffle(self, x: list[str], /) -> None: ...


def system_random() -> random.Random:
    return random.Random()


# --- DNS ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """Records of one type. `exists` is False for NXDOMAIN; an empty `records` with `exists` is NODATA.

    `records` by type: A/AAAA/PTR/CNAME a name or address, TXT the joined strings (latin-1),
    MX `"preference host"`, TLSA `"usage selector mtype hex"`. Names are lower case without the final dot.
    `secure` is the AD flag, believed only from a resolver configured as validating.
    """

    records: tuple[str, ...]
    exists: bool = True
    ttl: float = 0.0
    secure: bool = False


RecordType = Literal["A", "AAAA", "MX", "TXT", "PTR", "CNAME", "TLSA", "NS"]


class Resolver(Protocol):
    async def query(self, name: str, rdtype: RecordType) -> DnsAnswer:
        """Ask once (cached, single-flight). Raises DnsTemporaryError for time-out, SERVFAIL or bogus."""
        ...


@dataclass(frozen=True, slots=True)
class MxHost:
    """One host to try, with the addresses to connect to, in the order to try them."""

    name: str
    preference: int
    addresses: tuple[str, ...]
    secure: bool = False


class MxLookup(Protocol):
    async def hosts(self, domain: str) -> Sequence[MxHost] | Reply:
        """MX hosts in trial order, or the permanent Reply that ends it (null MX 556 5.1.10, NXDOMAIN 550 5.1.2).

        Raises DnsTemporaryError when DNS does not answer.
        """
        ...


# --- delivery ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeliveryRequest:
    """One attempt at one next hop: the recipients of one message that go there together.

    `destination` is the recipient domain for `direct`; other transports ignore it. `attempt` counts from 1.
    `idempotency_key` is stable over all attempts for the same message and recipients. `directives`: what the header
    fields of its author ask for; they are not in the content any more.
    """

    message_id: str
    account: str
    reverse_path: str | None
    recipients: tuple[Recipient, ...]
    destination: str
    envelope: Envelope
    attempt: int = 1
    idempotency_key: str = ""
    directives: Directives = NO_DIRECTIVES


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What came of it, for EVERY recipient of the request (keys are `Recipient.address`).

    `dsn`: the next hop was told which notices are wanted and owes them now (RFC 3461 §5.2.1).
    """

    outcomes: Mapping[str, Outcome]
    host: str = ""
    tls: TlsFacts | None = None
    dsn: bool = False


class Transport(Protocol):
    """A way out. Never raises for a result; a bug inside is caught by the engine and means Deferred."""

    async def deliver(self, request: DeliveryRequest, content: bytes) -> DeliveryReport:
        """`content` is final: CRLF only, signed, trace fields on top, not dot-stuffed."""
        ...

    async def close(self) -> None:
        """Give up idle connections."""
        ...


class Signer(Protocol):
    def sign(self, content: bytes, sender_domain: str) -> bytes:
        """Signature header fields (CRLF-terminated, `b""` where no key fits) to put before `content`."""
        ...


# --- checks and credentials --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpfResult:
    """RFC 7208 §2.6 result with a few words for Received-SPF and logs."""

    result: Literal["pass", "fail", "softfail", "neutral", "none", "temperror", "permerror"]
    explanation: str = ""


class SpfCheck(Protocol):
    async def check(self, ip: str, helo: str, reverse_path: str | None) -> SpfResult:
        """Never raises; DNS trouble is `temperror`."""
        ...


class Authenticator(Protocol):
    async def verify(self, username: str, password: str) -> Login | None:
        """The login, or None. Does the same work for an unknown user as for a wrong password.

        Raises AuthBusyError when the password cannot be checked just now.
        """
        ...

    def still_valid(self, login: Login) -> bool:
        """False once the credential behind an earlier login was disabled, or changed what it may do. Never blocks."""
        ...


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """An enabled SMTP credential. Hashes are PHC strings; the old one counts until `old_hash_until` (epoch seconds)."""

    username: str
    account: str
    rights: SenderRights
    password_hash: str = field(repr=False)
    old_hash: str = field(default="", repr=False)
    old_hash_until: float = 0.0

    def hashes_at(self, now: float) -> tuple[str, ...]:
        """The hashes a password may match at `now`, newest first."""
        if self.old_hash and now < self.old_hash_until:
            return (self.password_hash, self.old_hash)
        return (self.password_hash,)


class CredentialSource(Protocol):
    def find_credential(self, login: str) -> StoredCredential | None:
        """The credential a login name means, or None: unknown, disabled, or of a disabled account. Never blocks."""
        ...


@dataclass(frozen=True, slots=True)
class StoredApiKey:
    """An enabled API key. `key_hash` is the SHA-256 of the whole key as the client shows it."""

    id: str
    account: str
    rights: SenderRights
    scopes: tuple[str, ...]
    key_hash: bytes = field(repr=False)


class ApiKeySource(Protocol):
    def find_api_key(self, key_id: str) -> StoredApiKey | None:
        """The key of that public id, or None: unknown, disabled, or of a disabled account. Never blocks."""
        ...


# --- spool -------------------------------------------------------------------------------------------------


class Incoming(Protocol):
    """A long message on its way to disk: a file of its own, which nothing else knows yet."""

    def write(self, octets: bytes) -> None:
        """Raises StoreError."""
        ...

    def discard(self) -> None:
        """Remove it; may be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class LongMessage:
    """A message that went to disk while it arrived. `head` are its first octets, which are in `incoming` too.

    `bare` and `nul`: whether a CR or LF stands alone in it, and whether it holds a NUL.
    """

    head: bytes
    size: int
    bare: bool
    nul: bool
    incoming: Incoming

    def __len__(self) -> int:
        return self.size


@dataclass(frozen=True, slots=True)
class Tail:
    """The rest of a message: what `incoming` holds from octet `skip` on, `size` octets."""

    incoming: Incoming
    skip: int
    size: int


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message ready to be spooled: `id` is from `Spool.new_id`, `content` already carries its stamps as a prefix.

    A long one goes on in `tail`, which the spool takes over.
    """

    id: str
    account: str
    username: str
    envelope: Envelope
    content: bytes
    received_at: float
    client_message_id: str = ""
    tags: tuple[str, ...] = ()
    tail: Tail | None = None

    @property
    def size(self) -> int:
        return len(self.content) + (self.tail.size if self.tail else 0)


@dataclass(frozen=True, slots=True)
class QueuedRecipient:
    """A recipient still to be delivered. `index` is its place in the envelope.

    `via` is the only way out it may go, where an operator chose one. `told`: its sender knows that it waits.
    """

    index: int
    recipient: Recipient
    attempts: int
    next_at: float
    via: str = ""
    told: bool = False


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message with the recipients that are due. `content` is None when it has to be read from the spool."""

    id: str
    account: str
    username: str
    envelope: Envelope
    size: int
    received_at: float
    tags: tuple[str, ...]
    due: tuple[QueuedRecipient, ...]
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class AttemptStart:
    """Written before dialling (promise 3)."""

    message_id: str
    recipients: tuple[int, ...]
    transport: str
    destination: str
    started_at: float


@dataclass(frozen=True, slots=True)
class AttemptBegun:
    """The attempt on disk: for those of its recipients that still waited and were due. None: nothing was written."""

    id: int
    recipients: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RecipientResult:
    """What an attempt means for one recipient: the event moves its state, `next_at` is set when deferred.

    `counts` is False when the attempt uses up none of the retry profile. `told`: the notice says that it waits.
    """

    index: int
    address: str
    kind: EventKind
    reply: str
    next_at: float | None = None
    remote_id: str = ""
    counts: bool = True
    told: bool = False


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """The whole result of one attempt, written in one transaction with its events and notices."""

    message_id: str
    attempt_id: int
    ended_at: float
    host: str
    tls: str
    results: tuple[RecipientResult, ...]
    notice: NewMessage | None = None


class Spool(Protocol):
    """The hot store of one worker. Every `await` returns after the commit (fsync), never before."""

    def new_id(self) -> str:
        """A fresh message id that tells which spool it lives in."""
        ...

    def incoming(self) -> Incoming:
        """A place for a long message that arrives. Raises StoreError."""
        ...

    async def enqueue(self, message: NewMessage) -> QueuedMessage:
        """Store durably. Raises StoreError when the commit failed; then nothing was stored."""
        ...

    async def begin_attempt(self, start: AttemptStart) -> AttemptBegun:
        """Put the attempt on disk. What ended meanwhile (delivered, cancelled, put off) is left out of it."""
        ...

    async def end_attempt(self, end: AttemptEnd) -> QueuedMessage | None:
        """Record results, events and (in the same commit) the notice; returns the notice as queued."""
        ...

    async def read_content(self, message_id: str) -> bytes:
        """The stored bytes. Raises StoreError when they are gone."""
        ...

    async def due(self, after: float, until: float, limit: int) -> list[QueuedMessage]:
        """Messages (without content) whose recipients became due in `after < next_at <= until`, oldest first.

        `limit` counts recipients; those that share a due time come together, also beyond it.
        """
        ...

    async def pull_in(self, latest: float) -> int:
        """Make due what is put off until after `latest`; returns how many recipients."""
        ...

    async def next_due_at(self, after: float) -> float | None:
        """When the next recipient becomes due, after `after`."""
        ...


class EventSink(Protocol):
    """Receives facts after they are committed; must not raise and must not block."""

    def event(self, event: Event) -> None: ...


# --- sandbox -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InboxMessage:
    """A message the sandbox MX took, without its bytes. `tls` is the version, None for plain text."""

    id: int
    received_at: float
    mail_from: str | None
    rcpt_to: tuple[str, ...]
    tls: str | None
    cipher: str | None
    helo: str
    size: int
    header: bytes = b""


class InboxWriter(Protocol):
    """Where the sandbox MX puts what it takes."""

    def add(self, message: InboxMessage, content: bytes) -> int:
        """Store; `message.id` is ignored and the new one returned. Raises StoreError."""
        ...


class InboxReader(Protocol):
    """The sandbox's mail, for people and tests. May be called from any thread; raises StoreError."""

    def list(
        self, *, to: str = "", limit: int = 50, after_id: int = 0, since: float = 0.0
    ) -> Sequence[InboxMessage]: ...

    def get(self, number: int) -> InboxMessage | None: ...

    def raw(self, number: int) -> bytes | None: ...

    def clear(self) -> int: ...
