"""RelaySMTP: aiosmtpd's SMTP class with its hot path replaced by our Dialogue.

aiosmtpd reads line by line through a StreamReader and awaits between; here bytes go straight from the socket into
the state machine and out again. Work that takes time runs in a task of its own that no disconnect cancels.
Never raises into the event loop; never lets a peer grow our memory.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aiosmtpd.smtp import SMTP
from aiosmtpd.smtp import Session as AiosmtpdSession

from relay.mail.reply import Reply, reply
from relay.mail.session import Login, Session, TlsFacts
from relay.settings import LimitSettings, ListenerSettings
from relay.smtpd.dialogue import Dialogue, Hooks, StartTls, Work

_PIPELINE_AHEAD: Final = 262_144
_TIMED_OUT = reply(421, "4.4.2", "Timeout, closing")
_DRAINING = reply(421, "4.3.2", "Server is going down, try again")
_FULL = reply(421, "4.3.2", "Too many connections, try again later")
_HANDSHAKE_SECONDS: Final = 30.0


class Observer(Protocol):
    """Hears of sessions, for metrics and logs; must not raise."""

    def session_opened(self, session: Session) -> None: ...

    def session_closed(self, session: Session) -> None: ...

    def tls_started(self, session: Session, facts: TlsFacts) -> None: ...

    def rejected(self, session: Session, answer: Reply) -> None: ...

    def authenticated(self, session: Session, login: Login | None) -> None: ...

    def bug(self, error: BaseException) -> None: ...


@dataclass(frozen=True, slots=True)
class Port:
    """What all sessions of one listener share."""

    settings: ListenerSettings
    limits: LimitSettings
    hooks: Hooks
    hostname: str
    observer: Observer
    tls_context: Callable[[], ssl.SSLContext]
    sessions: set[RelaySMTP]
    tasks: set[asyncio.Task[None]]
    draining: Callable[[], bool]


class RelaySMTP(SMTP):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, port: Port) -> None:
        # SMTP.__init__ is left out on purpose: it inspects itself for 0.2 ms a connection to find its hooks.
        self._port = port
        self.loop = asyncio.get_running_loop()
        self.session: AiosmtpdSession = AiosmtpdSession(self.loop)
        self.deadline = 0.0
        self._end = 0.0
        self._upgrading = False
        self._eof = False
        self._unread = False
        self._task: asyncio.Task[None] | None = None

    # --- asyncio.Protocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=65_536)
        peer = transport.get_extra_info("peername") or ("local", 0)
        if isinstance(peer, str | bytes):
            peer = ("local", 0)
        self.session.peer = str(peer[0])
        port = self._port
        tls = tls_facts(transport)
        session = Session(str(peer[0]), int(peer[1]), "", "SMTP", port.settings.name, tls)
        self.dialogue = Dialogue(port.hooks, port.settings, port.limits, port.hostname, session)
        self._end = self.loop.time() + port.limits.session_timeout
        crowded = len(port.sessions) >= port.limits.connections
        port.sessions.add(self)
        port.observer.session_opened(session)
        if tls is not None:
            port.observer.tls_started(session, tls)
        if crowded or port.draining():
            self.dialogue.hang_up(_FULL if crowded else _DRAINING)
        else:
            self.dialogue.greet()
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._upgrading or self.transport.is_closing():
            return
        try:
            self.dialogue.receive(data)
            self._flush()
        except Exception as error:
            self._broken(error)

    def eof_received(self) -> bool:
        """A client may half-close after its last dot and still wants the answer."""
        self._eof = True
        return self._task is not None and self.dialogue.session.tls is None

    def connection_lost(self, error: Exception | None) -> None:
        port = self._port
        if self in port.sessions:
            port.sessions.discard(self)
            port.observer.session_closed(self.dialogue.session)

    def pause_writing(self) -> None:
        # A client that does not read its replies gets no more of them to read.
        self._unread = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._unread = False
        if self._task is None:
            self.transport.resume_reading()

    # --- driving the dialogue ------------------------------------------------------------------------------

    def _flush(self) -> None:
        dialogue, transport = self.dialogue, self.transport
        output = dialogue.take_output()
        if output:
            transport.write(output)
        if dialogue.rejections:
            for answer in dialogue.rejections:
                self._port.observer.rejected(dialogue.session, answer)
            dialogue.rejections.clear()
        if dialogue.closing:
            transport.close()
            self._extend(10.0)
        elif dialogue.waiting is not None and self._task is None:
            self._start(dialogue.waiting)
        elif self._eof and self._task is None:
            transport.close()
        else:
            limits = self._port.limits
            self._extend(limits.data_timeout if dialogue.in_data else limits.command_timeout)
            if self._task is not None and dialogue.buffered > _PIPELINE_AHEAD:
                transport.pause_reading()

    def _extend(self, seconds: float) -> None:
        self.deadline = min(self.loop.time() + seconds, self._end)

    def _start(self, work: Work | StartTls) -> None:
        # While we work the client waits for us, so only the end of the session limits it.
        self.deadline = self._end
        self._task = self.loop.create_task(self._work(work))
        self._port.tasks.add(self._task)

    async def _work(self, work: Work | StartTls) -> None:
        task = self._task
        try:
            if isinstance(work, StartTls):
                await self._upgrade()
            else:
                result = await work.awaitable
                self._report(work, result)
                self._task = None
                self.dialogue.resume(result)
            self._task = None
            if not self.transport.is_closing():
                if not self._unread:
                    self.transport.resume_reading()
                self._flush()
        except OSError:  # ssl.SSLError and TimeoutError among them: the handshake failed
            self.transport.abort()
        except Exception as error:
            self._broken(error)
        finally:
            if task is not None:
                self._port.tasks.discard(task)

    def _report(self, work: Work, result: Reply | Login) -> None:
        if work.authentication:
            self._port.observer.authenticated(self.dialogue.session, result if isinstance(result, Login) else None)

    async def _upgrade(self) -> None:
        """RFC 3207 §4: handshake, then a session that knows nothing but its TLS facts."""
        self._upgrading = True
        transport = await self.loop.start_tls(
            self.transport,
            self,
            self._port.tls_context(),
            server_side=True,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS,
        )
        if transport is None:
            raise ConnectionResetError("peer left during the handshake")
        self.transport = transport
        facts = tls_facts(transport)
        assert facts is not None
        self.dialogue.tls_started(facts)
        self._upgrading = False
        self._port.observer.tls_started(self.dialogue.session, facts)

    def _broken(self, error: Exception) -> None:
        """A bug of ours costs this session, never the process, and is always temporary for the client."""
        self._port.observer.bug(error)
        self.transport.write(reply(421, "4.3.0", "Internal error, try again later").wire)
        self.transport.close()
        self._extend(10.0)

    # --- called by the listener ----------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Close what has been silent for too long; a peer that does not even read is cut off."""
        if now < self.deadline:
            return
        if self.transport.is_closing() or self._upgrading:
            self.transport.abort()
        else:
            self._hang_up(_TIMED_OUT)

    def drain(self) -> None:
        """Say 421 at the next command boundary."""
        if self.dialogue.idle and not self.transport.is_closing():
            self._hang_up(_DRAINING)

    def _hang_up(self, answer: Reply) -> None:
        self.dialogue.hang_up(answer)
        self._flush()


def tls_facts(transport: asyncio.BaseTransport) -> TlsFacts | None:
    """What the connection negotiated, or None in the clear."""
    ssl_object = transport.get_extra_info("ssl_object")
    cipher = ssl_object.cipher() if ssl_object is not None else None
    if cipher is None:
        return None
    return TlsFacts(ssl_object.version() or "TLS", cipher[0], cipher[2])
