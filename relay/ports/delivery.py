"""Ways out: requests, reports, transports, the signer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from relay.mail.directives import NO_DIRECTIVES, Directives
from relay.mail.envelope import Envelope, Recipient
from relay.mail.frozen import frozen
from relay.mail.outcome import Outcome
from relay.mail.session import TlsFacts
from relay.ports.content import LongContent


@frozen
class DeliveryRequest:
    """One attempt at one next hop: the recipients of one message that go there together.

    `destination` is the recipient domain for `direct`; other transports ignore it. `attempt` counts from 1.
    `idempotency_key` is stable over all attempts for the same message and recipients. `by_seconds`: how long it may
    take yet (RFC 2852). `text`: of a message with binary parts, the same as lines; None where it may not be made so.
    `signed`: by us. `directives`: what the header fields of its author ask for; they are not in the content any more.
    `submitter` is passed on by AUTH= of MAIL; empty: the next hop is not to know.
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
    by_seconds: int | None = None
    text: bytes | None = None
    signed: bool = False
    submitter: str = ""


@frozen
class DeliveryReport:
    """What came of it, for EVERY recipient of the request (keys are `Recipient.address`).

    `dsn`: the next hop was told which notices are wanted and owes them now (RFC 3461 §5.2.1).
    `by`: it was told by when the message is to be delivered (RFC 2852).
    """

    outcomes: Mapping[str, Outcome]
    host: str = ""
    tls: TlsFacts | None = None
    dsn: bool = False
    by: bool = False


class Transport(Protocol):
    """A way out. Never raises for a result; a bug inside is caught by the engine and means Deferred."""

    async def deliver(self, request: DeliveryRequest, content: bytes) -> DeliveryReport:
        """`content` is final: CRLF only (but for a binary body), signed, trace fields on top, not dot-stuffed."""
        ...

    async def close(self) -> None:
        """Give up idle connections."""
        ...


@frozen
class Knowledge:
    """What a next hop knows of a call whose answer was lost.

    `remote_ids`: whom it has, with its name for the message (keys are `Recipient.address`). `complete`: of whom it does
    not name it says that it has nothing; otherwise it could not say. `words` are for events; `retry_after` (seconds) is
    its own wish.
    """

    remote_ids: Mapping[str, str]
    complete: bool
    words: str
    retry_after: float | None = None


@runtime_checkable
class SettlesDoubt(Protocol):
    """A transport whose next hop can say what it has, or carries a repeated call out once."""

    @property
    def settles_doubt(self) -> bool:
        """Whether it is one of these after all."""
        ...

    @property
    def repeatable_for(self) -> float:
        """Seconds for which a call may be repeated and is carried out once; 0: never."""
        ...

    async def inquire(self, request: DeliveryRequest, content: bytes, since: float) -> Knowledge | None:
        """Whether it has what `deliver` was called with from `since` (seconds since the epoch) on.

        `content` is unsigned, and of a long message the header and the empty line alone.
        None: it cannot be asked about this message. Never raises for a result.
        """
        ...


@runtime_checkable
class TakesLong(Protocol):
    """A transport that also takes content which stays on disk, and reads it a piece at a time."""

    takes_long: bool

    async def deliver(self, request: DeliveryRequest, content: bytes | LongContent) -> DeliveryReport:
        """As `Transport.deliver`. Raises StoreError where the content cannot be read to its end."""
        ...


@runtime_checkable
class RollsUp(Protocol):
    """A transport that knows which destinations go to the same hosts."""

    async def site(self, destination: str) -> str:
        """A name all destinations of these hosts share; `""` where nobody knows. Never raises for a result."""
        ...


@frozen
class Signing:
    """A signature under way: `update` takes the body, in pieces and on any thread; `finish` gives the fields."""

    update: Callable[[bytes], None]
    finish: Callable[[], bytes]


class Signer(Protocol):
    def sign(self, content: bytes, sender_domain: str) -> bytes:
        """Signature header fields (CRLF-terminated, `b""` where no key fits) to put before `content`."""
        ...

    def begin(self, header: bytes, sender_domain: str) -> Signing | None:
        """As `sign`, of a message with this header block whose body is yet to come; None where no key fits."""
        ...
