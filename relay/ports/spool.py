"""The spool: messages, attempts, results, reports, and who is suppressed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from relay.mail.envelope import Envelope, Recipient
from relay.mail.event import Event, EventKind
from relay.mail.frozen import frozen
from relay.mail.lifecycle import State
from relay.mail.reply import Reply
from relay.mail.returned import ReportedRecipient
from relay.ports.content import Stored


class Incoming(Protocol):
    """A long message on its way to disk: a file of its own, which nothing else knows yet."""

    def write(self, octets: bytes) -> None:
        """Raises StoreError."""
        ...

    def discard(self) -> None:
        """Remove it; may be called twice."""
        ...


@frozen
class LongMessage:
    """A message that went to disk while it arrived. `head` are its first octets, which are in `incoming` too.

    `bare` and `nul`: whether a CR or LF stands alone in it, and whether it holds a NUL. `digest`: BLAKE2b of all of it.
    `eight_bit`: whether an octet is not ASCII. `fixed`: whether a CR or LF stood alone and was made CRLF.
    """

    head: bytes
    size: int
    digest: bytes
    bare: bool
    nul: bool
    incoming: Incoming
    eight_bit: bool = False
    fixed: bool = False

    def __len__(self) -> int:
        return self.size

    def isascii(self) -> bool:
        return not self.eight_bit


@frozen
class Tail:
    """The rest of a message: what `incoming` holds from octet `skip` on, `size` octets."""

    incoming: Incoming
    skip: int
    size: int


@frozen
class NewMessage:
    """A message ready to be spooled: `id` is from `Spool.new_id`, `content` already carries its stamps as a prefix.

    A long one goes on in `tail`, which the spool takes over. `digest` tells a repetition (intake/shield.py).
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
    digest: bytes = b""

    @property
    def since(self) -> float:
        """When its delivery is to begin."""
        return max(self.received_at, self.envelope.hold_until or 0.0)

    @property
    def size(self) -> int:
        return len(self.content) + (self.tail.size if self.tail else 0)


@frozen
class Doubt:
    """An attempt whose answer was lost, and what was learnt of it since by asking.

    `candidate` made it at `since` (seconds since the epoch). `asked`: how often it was asked; `missed`: how many
    answers in a row knew nothing of it; `partly`: it has others of the same call. `together`: so many recipients are in
    this doubt, and without one of them the call would be another; 0: nobody counted.
    """

    candidate: str
    since: float
    asked: int = 0
    missed: int = 0
    partly: bool = False
    together: int = 0


@frozen
class QueuedRecipient:
    """A recipient still to be delivered. `index` is its place in the envelope.

    `via` is the only way out it may go, where an operator chose one. `told`: its sender knows that it waits. `awaits`:
    the candidate that took it, under `remote_id`, and has yet to report on it. `doubt`: it may have been sent already,
    and is not sent again before that is settled.
    """

    index: int
    recipient: Recipient
    attempts: int
    next_at: float
    via: str = ""
    told: bool = False
    awaits: str = ""
    remote_id: str = ""
    doubt: Doubt | None = None


@frozen
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

    @property
    def since(self) -> float:
        """When its delivery was to begin: the time from which its age counts."""
        return max(self.received_at, self.envelope.hold_until or 0.0)


@frozen
class AttemptStart:
    """Written before dialling (promise 3). `asks`: nothing is sent; a doubt of these recipients is asked about."""

    message_id: str
    recipients: tuple[int, ...]
    transport: str
    destination: str
    started_at: float
    asks: bool = False


@frozen
class AttemptBegun:
    """The attempt on disk: for those of its recipients that still waited and were due. None: nothing was written."""

    id: int
    recipients: tuple[int, ...]


@frozen
class RecipientResult:
    """What an attempt means for one recipient: the event moves its state, `next_at` is set when deferred.

    `counts` is False when the attempt uses up none of the retry profile. `told`: the notice says that it waits.
    `awaits`: the candidate whose report is awaited. `doubt`: what is to be asked before it is sent again.
    """

    index: int
    address: str
    kind: EventKind
    reply: str
    next_at: float | None = None
    remote_id: str = ""
    counts: bool = True
    told: bool = False
    awaits: str = ""
    doubt: Doubt | None = None


@frozen
class AttemptEnd:
    """The whole result of one attempt, written in one transaction with its events and notices."""

    message_id: str
    attempt_id: int
    ended_at: float
    host: str
    tls: str
    results: tuple[RecipientResult, ...]
    notice: NewMessage | None = None


@frozen
class Report:
    """News of a recipient that was handed on, found by the next hop's name for the message.

    The same news has the same `key`. `at` is in seconds since the epoch; `said` is a peer's text, printable. `hard`: of
    a bounce, whether the address is to blame; None where the next hop does not say. `by`: the candidate that tells.
    """

    kind: EventKind
    remote_id: str
    recipient: str
    key: str
    at: float
    said: str = ""
    hard: bool | None = None
    by: str = ""


@frozen
class HandedOn:
    """A recipient whose `remote_id` a report names: the message with that one in `due`, its state, and who took it."""

    message: QueuedMessage
    state: State
    taken_by: str = ""

    @property
    def recipient(self) -> QueuedRecipient:
        return self.message.due[0]

    @property
    def remote_id(self) -> str:
        return self.recipient.remote_id


@frozen
class News:
    """A report that found its recipient; `notice` goes out with it where it ends the recipient as bounced."""

    message_id: str
    index: int
    kind: EventKind
    key: str
    at: float
    reply: str
    notice: NewMessage | None = None


@frozen
class ReturnedMail:
    """Mail that came to the return path of a message of ours. The same mail has the same `key`.

    `index` is the recipient it is about, where the address says so; `reported` is empty where it is no report. Who is
    `patient` comes again while the message is being delivered.
    """

    message_id: str
    index: int | None
    key: str
    at: float
    reported: tuple[ReportedRecipient, ...] = ()
    patient: bool = False


@frozen
class Origin:
    """Whose message was returned. `sender` is who is to have what came back, `""` where nobody is."""

    account: str
    sender: str


SuppressionReason = Literal["bounce", "complaint", "manual"]


@frozen
class Suppression:
    """An address an account does not write to any more. Times in epoch seconds; `expires_at` None: for good.

    `words` are what a peer or the operator said, printable.
    """

    account: str
    address: str
    reason: SuppressionReason
    words: str
    created_at: float
    expires_at: float | None = None


class Suppress(Protocol):
    async def __call__(self, account: str, address: str, kind: EventKind, words: str, hard: bool | None = None) -> None:
        """Hear of a report that may put the address on the account's list. Raises StoreError."""
        ...


async def suppress_nothing(account: str, address: str, kind: EventKind, words: str, hard: bool | None = None) -> None:
    """No list is kept."""


class Suppressed(Protocol):
    def __call__(self, account: str, addresses: Sequence[str]) -> Mapping[str, Reply]:
        """Whom of these the account does not write to any more, and what is said of it. Must not raise."""
        ...


def nobody_suppressed(account: str, addresses: Sequence[str]) -> Mapping[str, Reply]:
    """No list is kept."""
    return {}


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
        """Put the attempt on disk. What ended meanwhile (delivered, cancelled, put off) is left out of it.

        So is who is in doubt, but for an attempt that asks; and from that, who is not.
        """
        ...

    async def end_attempt(self, end: AttemptEnd) -> QueuedMessage | None:
        """Record results, events and (in the same commit) the notice; returns the notice as queued."""
        ...

    async def read_content(self, message_id: str) -> bytes:
        """The stored bytes. Raises StoreError when they are gone."""
        ...

    async def open_content(self, message_id: str) -> bytes | Stored:
        """As `read_content`, or the open file that holds them. Whoever asks closes it."""
        ...

    async def due(self, after: float, until: float, limit: int) -> list[QueuedMessage]:
        """Messages (without content) whose recipients became due in `after < next_at <= until`, oldest first.

        `limit` counts recipients; those that share a due time come together, also beyond it.
        """
        ...

    async def urgent(self, until: float, limit: int) -> list[QueuedMessage]:
        """As `due`, of what has a priority above 0: the highest first, at most `limit` recipients."""
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


NoticeRoom = Literal["yes", "last", "no"]
MayTell = Callable[["QueuedMessage"], NoticeRoom]
"""Whether the sender of a message gets one more notice, and whether that is the last for a while. Must not raise."""


def tells_all(message: QueuedMessage) -> NoticeRoom:
    """Nobody gets too many."""
    return "yes"
