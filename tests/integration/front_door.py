"""A front door for tests: the real listeners, handler, gate and spool on a free port, with a client beside it."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import trustme

from relay.intake.accept import Accept
from relay.mail.reply import Reply
from relay.mail.session import Login, Session, TlsFacts
from relay.ports import NewMessage, QueuedMessage, SystemClock
from relay.settings import GuardSettings, InboundSettings, LimitSettings, ListenerSettings
from relay.smtpd.guard import Guard
from relay.smtpd.handler import Handler
from relay.smtpd.listener import Listeners, bind
from relay.smtpd.tally import Tally
from relay.store.spool import SqliteSpool

MESSAGE = b"From: a@b.example\r\nSubject: hello\r\n\r\nHi\r\n"


class Observer:
    """Remembers what it hears; counts open sessions."""

    def __init__(self) -> None:
        self.open = 0
        self.tls: list[TlsFacts] = []
        self.rejections: list[Reply] = []
        self.logins: list[Login | None] = []
        self.bugs: list[BaseException] = []

    def session_opened(self, session: Session) -> None:
        self.open += 1

    def session_closed(self, session: Session) -> None:
        self.open -= 1

    def tls_started(self, session: Session, facts: TlsFacts) -> None:
        self.tls.append(facts)

    def rejected(self, session: Session, answer: Reply) -> None:
        self.rejections.append(answer)

    def authenticated(self, session: Session, login: Login | None) -> None:
        self.logins.append(login)

    def bug(self, error: BaseException) -> None:
        self.bugs.append(error)

    def accepted(self, session: Session, message: QueuedMessage, seconds: float) -> None: ...

    def store_failed(self, error: Exception) -> None:
        self.bugs.append(error)


class SlowSpool:
    """The real spool behind a commit that takes as long as the test wants."""

    def __init__(self, spool: SqliteSpool) -> None:
        self._spool = spool
        self.new_id = spool.new_id
        self.incoming = spool.incoming
        self.started = asyncio.Event()
        self.may_commit = asyncio.Event()
        self.may_commit.set()

    async def enqueue(self, message: NewMessage) -> QueuedMessage:
        self.started.set()
        await self.may_commit.wait()
        return await self._spool.enqueue(message)


class _Authenticator:
    async def verify(self, username: str, password: str) -> Login | None:
        return Login("acme", username) if password == "secret" else None

    def still_valid(self, login: Login) -> bool:
        return True


class FrontDoor:
    """Use inside `serve`; `port`, `spool`, `listeners` are there while it runs."""

    def __init__(self, folder: Path, authority: trustme.CA, **options: Any) -> None:
        self._folder = folder
        self.options = options
        self.limits = LimitSettings(**options.pop("limits", {}))
        self.guard = options.pop("guard", {})
        self.drain_timeout = options.pop("drain_timeout", 5.0)
        self.observer = Observer()
        self.stored: list[QueuedMessage] = []
        self.server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.server_tls)
        self.client_tls = ssl.create_default_context()
        authority.configure_trust(self.client_tls)
        self.port = 0

    async def run(self, test: Callable[[], Awaitable[None]]) -> None:
        """Serve while `test` runs in the same loop."""
        spool = SqliteSpool.open(self._folder, 0, SystemClock(), file_threshold=65_536)
        self.spool = SlowSpool(spool)
        intake = Accept(
            self.spool, self.limits, "mx.example", SystemClock(), self, self.observer,
            self.stored.append, lambda *facts: b"",
        )  # fmt: skip
        self.intake = intake
        self.listeners = Listeners(self.limits, "mx.example", self.observer, lambda: self.server_tls)
        settings = ListenerSettings(
            **{"name": "test", "address": "127.0.0.1", "port": 0, "plaintext_auth": True, **self.options}
        )
        inbound = InboundSettings(domains=("ours.example",), spf="off")
        clock = SystemClock()
        guard = Guard(GuardSettings(**self.guard), Tally(1, clock).for_worker(0), clock)
        handler = Handler(settings, inbound, intake, _Authenticator(), None, self.observer.bug, guard)  # type: ignore[arg-type]
        listening = bind("127.0.0.1", 0, "listener test")
        self.port = listening.getsockname()[1]
        await self.listeners.serve(settings, handler, [listening])
        try:
            await asyncio.wait_for(test(), 60)
        finally:
            self.spool.may_commit.set()
            await self.listeners.drain(self.drain_timeout)
            await spool.close()

    async def beside(self, client: Callable[[], object]) -> None:
        await asyncio.to_thread(client)

    def full(self) -> bool:
        return False

    # --- the client, in a thread ---------------------------------------------------------------------------

    def smtp(self, *, implicit: bool = False) -> smtplib.SMTP:
        if implicit:
            return smtplib.SMTP_SSL("localhost", self.port, "client.example", timeout=10, context=self.client_tls)
        return smtplib.SMTP("localhost", self.port, "client.example", timeout=10)

    @contextmanager
    def raw(self) -> Iterator[socket.socket]:
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=10)) as connection:
            yield connection


def read_all(connection: socket.socket) -> bytes:
    """Until the server closes."""
    received = b""
    while piece := connection.recv(65_536):
        received += piece
    return received


def read_lines(connection: socket.socket, count: int) -> bytes:
    """Until `count` lines have come."""
    received = b""
    while received.count(b"\n") < count:
        piece = connection.recv(65_536)
        if not piece:
            raise ConnectionError(f"closed after {received!r}")
        received += piece
    return received


DIALOGUE = b"HELO client.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bob@ours.example>\r\nDATA\r\n" + MESSAGE
