"""A front door for tests: the real listeners, handler, gate and spool on a free port, with a client beside it."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import trustme

from relay.intake.accept import Accept
from relay.intake.shield import Memory, Shield
from relay.mail.certificate import Certificate
from relay.mail.reply import Reply
from relay.mail.session import Login, SenderRights, Session, TlsFacts
from relay.ports import NewMessage, QueuedMessage, SystemClock
from relay.settings import (
    DeviceSettings,
    GuardSettings,
    InboundSettings,
    LimitSettings,
    ListenerSettings,
    SessionSettings,
    Settings,
)
from relay.smtpd.devices import Devices
from relay.smtpd.failed_sessions import FailedSessions
from relay.smtpd.guard import Guard
from relay.smtpd.handler import Handler
from relay.smtpd.known import Known
from relay.smtpd.listener import Listeners, bind
from relay.smtpd.tally import Tally
from relay.smtpd.tls_old import opened
from relay.smtpd.unix_socket import bind_unix
from relay.store.spool import SqliteSpool

MESSAGE = b"From: a@b.example\r\nSubject: hello\r\n\r\nHi\r\n"


class Observer:
    """Remembers what it hears; counts open sessions."""

    def __init__(self) -> None:
        self.open = 0
        self.peers: list[str] = []
        self.bad_headers: list[str] = []
        self.tls: list[TlsFacts] = []
        self.rejections: list[Reply] = []
        self.logins: list[Login | None] = []
        self.bugs: list[BaseException] = []
        self.tolerated_things: list[tuple[str, str]] = []

    def session_opened(self, session: Session) -> None:
        self.open += 1
        self.peers.append(session.peer)

    def session_closed(self, session: Session) -> None:
        self.open -= 1

    def tls_started(self, session: Session, facts: TlsFacts) -> None:
        self.tls.append(facts)

    def rejected(self, session: Session, answer: Reply) -> None:
        self.rejections.append(answer)

    def authenticated(self, session: Session, login: Login | None) -> None:
        self.logins.append(login)

    def tolerated(self, session: Session, what: str) -> None:
        self.tolerated_things.append((session.listener, what))

    def proxy_header_refused(self, peer: str, words: str) -> None:
        self.bad_headers.append(words)

    def recognised(self, session: Session, login: Login) -> None:
        self.logins.append(login)

    def client_named(self, session: Session, proxy: str) -> None:
        self.peers.append(session.peer)

    def bug(self, error: BaseException) -> None:
        self.bugs.append(error)

    def repeated(self, session: Session, message_id: str) -> None: ...

    def accepted(self, session: Session, message: QueuedMessage, seconds: float) -> None: ...

    def certificates_served(self, certificates: Sequence[Certificate]) -> None: ...

    def certificate_loaded(self, certificate: Certificate, days_left: int) -> None: ...

    def certificate_refused(self, file: str, reason: str) -> None: ...

    def certificate_expires(self, certificate: Certificate, days_left: int) -> None: ...

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
        rights = SenderRights(domains=("shop.example",)) if username == "shop" else SenderRights()
        return Login("acme", username, rights) if password == "secret" else None

    def named(self, username: str) -> Login | None:
        return Login("acme", username) if username == "alice" else None

    def still_valid(self, login: Login) -> bool:
        return True


class FrontDoor:
    """Use inside `serve`; `port`, `spool`, `listeners` are there while it runs."""

    def __init__(self, folder: Path, authority: trustme.CA, **options: Any) -> None:
        self._folder = folder
        self._authority = authority
        self.options = options
        self.limits = LimitSettings(**options.pop("limits", {}))
        self.guard = options.pop("guard", {})
        self.spf = options.pop("spf", None)
        self.window = self.limits.duplicate_window if options.pop("shielded", False) else 0.0
        self.bound = tuple(DeviceSettings(**one) for one in options.pop("devices", ()))
        self.drain_timeout = options.pop("drain_timeout", 5.0)
        self.observer = Observer()
        self.failed = FailedSessions(SessionSettings(), 0, SystemClock())
        self.devices = Devices(SystemClock())
        self.stored: list[QueuedMessage] = []
        self.server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server_tls.minimum_version = ssl.TLSVersion.TLSv1_2
        authority.issue_cert("localhost").configure_cert(self.server_tls)
        self.client_tls = ssl.create_default_context()
        authority.configure_trust(self.client_tls)
        self.port = 0

    async def run(self, test: Callable[[], Awaitable[None]]) -> None:
        """Serve while `test` runs in the same loop."""
        spool = SqliteSpool.open(self._folder, 0, SystemClock(), file_threshold=65_536)
        self.spool = SlowSpool(spool)
        settings = ListenerSettings(
            **{"name": "test", "address": "127.0.0.1", "port": 0, "plaintext_auth": True, **self.options}
        )
        limits = Settings(limits=self.limits, listener=(settings,)).gate_limits
        intake = Accept(
            self.spool, limits, "mx.example", SystemClock(), self, self.observer,
            self.stored.append, lambda *facts: b"", shield=Shield(Memory(1, 4), 0, SystemClock(), self.window),
        )  # fmt: skip
        self.intake = intake
        self.listeners = Listeners(
            self.limits, "mx.example", self.observer, lambda: self.server_tls, self.failed, self.devices, self._old
        )
        inbound = InboundSettings(domains=("ours.example",), spf="enforce" if self.spf else "off")
        clock = SystemClock()
        guard = Guard(GuardSettings(**self.guard), Tally(1, clock).for_worker(0), clock)
        known = Known(settings, self.bound, lambda account: account == "acme").find
        handler = Handler(
            settings,
            inbound,
            intake,
            _Authenticator(),
            self.spf,
            self.observer.bug,
            guard,
            known=known,  # type: ignore[arg-type]
        )
        if settings.path:
            listening = bind_unix(settings, "listener test")
        else:
            listening = bind("127.0.0.1", 0, "listener test")
            self.port = listening.getsockname()[1]
        await self.listeners.serve(settings, handler, [listening])
        try:
            await asyncio.wait_for(test(), 120)
        finally:
            self.spool.may_commit.set()
            await self.listeners.drain(self.drain_timeout)
            await spool.close()

    def _old(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("localhost").configure_cert(context)
        return opened(context)

    async def beside(self, client: Callable[[], object]) -> None:
        await asyncio.to_thread(client)

    def full(self) -> bool:
        return False

    # --- the client, in a thread ---------------------------------------------------------------------------

    def smtp(self, *, implicit: bool = False) -> smtplib.SMTP:
        if implicit:
            return smtplib.SMTP_SSL("localhost", self.port, "client.example", timeout=60, context=self.client_tls)
        return smtplib.SMTP("localhost", self.port, "client.example", timeout=60)

    @contextmanager
    def raw(self) -> Iterator[socket.socket]:
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=60)) as connection:
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
