"""A gate over a spool in memory, or over the real one, with the clock standing still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relay.intake.accept import Accept
from relay.intake.shield import Memory, Shield
from relay.mail.envelope import Envelope, Recipient
from relay.mail.errors import StoreError
from relay.mail.session import Login, SenderRights, Session, TlsFacts
from relay.ports import NewMessage, QueuedMessage, Spool
from relay.settings import LimitSettings

AT = 1_795_576_881.0  # Wed, 25 Nov 2026 03:21:21 +0000
TLS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
CLIENT = Session("192.0.2.1", 4000, "client.example", "ESMTP", "test")
ENVELOPE = Envelope("a@b.example", (Recipient("bob@ours.example"),))


def restricted(*, addresses: tuple[str, ...] = (), domains: tuple[str, ...] = ()) -> Session:
    """A session logged in as `app`, which may send as these."""
    login = Login("acme", "app", SenderRights(addresses, domains))
    return Session("192.0.2.1", 4000, "client.example", "ESMTP", "test", TLS, login)


class Still:
    """A clock that stands."""

    def now(self) -> float:
        return AT

    def monotonic(self) -> float:
        return 0.0


class MemorySpool:
    """Remembers; `error` is raised by the next commit, `on_commit` runs in it."""

    def __init__(self) -> None:
        self.stored: list[NewMessage] = []
        self.error: StoreError | None = None
        self.on_commit: Callable[[], None] = lambda: None

    def new_id(self) -> str:
        return "id1"

    async def enqueue(self, message: NewMessage) -> QueuedMessage:
        self.on_commit()
        if self.error is not None:
            raise self.error
        self.stored.append(message)
        return QueuedMessage(message.id, message.account, message.username, message.envelope, 0, AT, message.tags, ())


class Gate:
    """Accept with everything it needs; what it told and delivered is kept."""

    def __init__(self, spool: Spool | MemorySpool | None = None, **limits: Any) -> None:
        self.spool: Any = spool or MemorySpool()
        self.disk_full = False
        self.told: list[object] = []
        self.delivered: list[QueuedMessage] = []
        self.accept = Accept(
            self.spool, LimitSettings(**limits), "mx.example", Still(), self, self, self.delivered.append,
            lambda result, session, envelope: f"Received-SPF: {result.result}\r\n".encode(),
            shield=Shield(Memory(1, 64), 0, Still(), limits.get("duplicate_window", 0.0)),
        )  # fmt: skip

    def full(self) -> bool:
        return self.disk_full

    def accepted(self, session: Session, message: QueuedMessage, seconds: float) -> None:
        self.told.append(message)

    def repeated(self, session: Session, message_id: str) -> None:
        self.told.append(f"repeated {message_id}")

    def store_failed(self, error: StoreError) -> None:
        self.told.append(error)

    def failure(self, where: str, error: BaseException, message_id: str | None = None) -> None:
        self.told.append(error)
