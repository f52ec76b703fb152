"""What the dialogue asks for: Hooks, answered by the handler, and Work, done by the driver that owns the socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum, auto
from typing import Protocol

from relay.mail.frozen import frozen
from relay.mail.reply import Reply
from relay.mail.session import Login, Session
from relay.ports import Incoming, LongMessage
from relay.smtpd.sasl import Claim, Exchange
from relay.smtpd.transaction import MailTransaction

Answer = Reply | Awaitable[Reply]


class PeerEnd(Enum):
    """What is known of the client's end of the connection: SILENT sends nothing more, GONE does not read either."""

    OPEN = auto()
    SILENT = auto()
    GONE = auto()


class StartTls:
    """Work for the driver: do the handshake, then call `tls_started`."""


@frozen
class Work:
    """Something that takes time; its result goes to `resume`."""

    awaitable: Awaitable[Reply | Login]
    then: Callable[[Reply | Login], None]
    authentication: bool = False


class Hooks(Protocol):
    """Who may do what. An answer is a Reply at once, or an awaitable that never raises."""

    def connected(self, peer: str) -> Reply | None:
        """A client is there: None to greet it, or the 421. Told once more by `left`, whatever the answer was."""
        ...

    def left(self, peer: str) -> None: ...

    def longest_hold(self) -> tuple[int, float] | None:
        """How many seconds a message may be held (RFC 4865), and until when that is; None: not offered here."""
        ...

    def mail(self, session: Session, transaction: MailTransaction) -> Answer: ...

    def rcpt(self, session: Session, transaction: MailTransaction, address: str) -> Answer: ...

    def postmaster(self) -> str:
        """Whose mail `<Postmaster>` without a domain is; empty: nobody's."""
        ...

    def data(self, session: Session, transaction: MailTransaction) -> Reply | None:
        """None to go on with 354."""
        ...

    def hold(self, octets: int) -> bool:
        """Count message data being received, up or down; False, and not counted, when it would be too much."""
        ...

    def incoming(self) -> Incoming:
        """A place for a long message that arrives. Raises StoreError."""
        ...

    def message(
        self, session: Session, transaction: MailTransaction, content: bytes | LongMessage, gone: Callable[[], bool]
    ) -> Answer:
        """`gone` tells, when asked, whether the client still waits for the answer. A long message is taken over."""
        ...

    def mechanisms(self, session: Session) -> Sequence[str]:
        """The SASL mechanisms this session may use."""
        ...

    def exchange(self, session: Session, mechanism: str) -> Exchange:
        """A run of one of them."""
        ...

    def known(self, session: Session) -> Login | None:
        """Who a client is that needs no password; None: whoever it logs in as."""
        ...

    def vouched(self, username: str) -> Login | None:
        """The login of a client that a trusted proxy has authenticated; None: there is no such credential."""
        ...

    def authenticate(self, session: Session, claim: Claim) -> Awaitable[Reply | Login]: ...
