"""RelaySMTP: aiosmtpd's SMTP class with its hot path replaced by our Dialogue.

aiosmtpd reads line by line through a StreamReader and awaits between; here bytes go straight from the socket into
the state machine and out again. Work that takes time runs in a task of its own that no disconnect cancels.
Never raises into the event loop; never lets a peer grow our memory.
"""

from __future__ import annotations

import asyncio
import fcntl
import select
import ssl
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aiosmtpd.smtp import SMTP
from aiosmtpd.smtp import Session as AiosmtpdSession

from relay.mail.reply import Reply, reply
from relay.mail.session import Login, Session, TlsFacts
from relay.settings import LimitSettings, ListenerSettings
from relay.smtpd.dialogue import OUTPUT, Dialogue
from relay.smtpd.handshake import start_server_tls
from relay.smtpd.hooks import Hooks, PeerEnd, StartTls, Work

_PIPELINE_AHEAD: Final = 65_536
_WRITE_BUFFER: Final = 65_536
_WORK_SECONDS: Final = 600.0  # RFC 5321 §4.5.3.2.6: no client waits longer for an answer
_LAST_WORDS_SECONDS: Final = 10.0
_TIMED_OUT = reply(421, "4.4.2", "Timeout, closing")
_DRAINING = reply(421, "4.3.2", "Server is going down, try again")
_FULL = reply(421, "4.3.2", "Too many connections, try again later")
_BROKEN = reply(421, "4.3.0", "Internal error, try again later")


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
        self._shaking_hands = False
        self._early = b""
        self._eof = False
        self._unread = False
        self._later = b""
        self._patience: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    # --- asyncio.Protocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        peer = transport.get_extra_info("peername") or ("local", 0)
        if isinstance(peer, str | bytes):
            peer = ("local", 0)
        self.session.peer = str(peer[0])
        port = self._port
        session = Session(str(peer[0]), int(peer[1]), "", "SMTP", port.settings.name)
        self.dialogue = Dialogue(port.hooks, port.settings, port.limits, port.hostname, session)
        self.dialogue.peer_end = self._peer_end
        self._end = self.loop.time() + port.limits.session_timeout
        refusal = port.hooks.connected(session.peer)
        if port.draining():
            refusal = _DRAINING
        elif len(port.sessions) >= port.limits.connections:
            refusal = _FULL
        port.sessions.add(self)
        port.observer.session_opened(session)
        implicit = port.settings.tls == "implicit"
        if refusal is not None:
            if implicit:
                # Inside TLS nobody listens yet.
                self.dialogue.closing = True
            else:
                self.dialogue.hang_up(refusal)
                port.observer.rejected(session, refusal)
        elif implicit:
            self._start(StartTls())
            return
        else:
            self.dialogue.greet()
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._upgrading:
            # Before the handshake: the ClientHello of an implicit port, which uvloop reads although that is paused.
            # After it: the first words inside TLS, which may be here before the task that waits for the handshake.
            self._early += data
            if not self._shaking_hands:
                self.transport.pause_reading()
            return
        if self.transport.is_closing():
            return
        if self.dialogue.errors * 2 >= self._port.limits.errors and not self.dialogue.in_data:
            self._take_later(data)
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            self.dialogue.receive(data)
            self._flush()
        except Exception as error:
            self._broken(error)

    def _take_later(self, data: bytes) -> None:
        """Who has used up half of its errors is heard only now and then."""
        self._later += data
        self.transport.pause_reading()
        if self._patience is None:
            self._patience = self.loop.call_later(self._port.limits.error_delay, self._go_on_slowly)

    def _go_on_slowly(self) -> None:
        self._patience = None
        data, self._later = self._later, b""
        if not self.transport.is_closing():
            self._take(data)
            self._read_on()

    def eof_received(self) -> bool:
        """A client may half-close after its last dot and still wants the answer."""
        self._eof = True
        # TLS has no half-close, neither during its handshake nor in the moment before we know of its end.
        return self._task is not None and not self._upgrading and self.dialogue.session.tls is None

    def _peer_end(self) -> PeerEnd:
        """The kernel is asked, for what has come since the last read is not known here. TLS has no half-close."""
        if self.transport.is_closing():
            return PeerEnd.GONE
        silent = PeerEnd.SILENT if self.dialogue.session.tls is None else PeerEnd.GONE
        if self._eof:
            return silent
        descriptor = self.transport.get_extra_info("socket").fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLRDHUP)
        seen = poll.poll(0)
        if not seen:
            return PeerEnd.OPEN
        if seen[0][1] & (select.POLLHUP | select.POLLERR):
            return PeerEnd.GONE
        return PeerEnd.OPEN if _unread_octets(descriptor) else silent

    def connection_lost(self, error: Exception | None) -> None:
        port = self._port
        self.dialogue.lost()
        if self in port.sessions:
            port.sessions.discard(self)
            port.hooks.left(self.dialogue.session.peer)
            port.observer.session_closed(self.dialogue.session)

    def pause_writing(self) -> None:
        # A client that does not read its replies gets no more of them to read.
        self._unread = True
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._unread = False
        if self._task is not None or self.transport.is_closing():
            return
        try:
            self.dialogue.go_on()
            self._flush()
            self._read_on()
        except Exception as error:
            self._broken(error)

    # --- driving the dialogue ------------------------------------------------------------------------------

    def _flush(self) -> None:
        dialogue, transport = self.dialogue, self.transport
        answered = self._write_output()
        if dialogue.rejections:
            for answer in dialogue.rejections:
                self._port.observer.rejected(dialogue.session, answer)
            dialogue.rejections.clear()
        if dialogue.closing:
            transport.close()
            self._extend(_LAST_WORDS_SECONDS)
        elif self._task is not None:
            if dialogue.buffered > _PIPELINE_AHEAD:
                transport.pause_reading()
        elif dialogue.waiting is not None:
            self._start(dialogue.waiting)
        elif self._eof:
            transport.close()
        elif dialogue.in_data:
            self._extend(self._port.limits.data_timeout)
        elif answered:
            # The time for a command runs from the last answer: octets that trickle in win none.
            self._extend(self._port.limits.command_timeout)

    def _write_output(self) -> bool:
        """Send the replies, and those of the commands that had to wait for the room; True when there were any."""
        dialogue = self.dialogue
        output = dialogue.take_output()
        answered = bool(output)
        while output:
            self.transport.write(output)
            if len(output) < OUTPUT or self._unread:
                break
            dialogue.go_on()
            output = dialogue.take_output()
        return answered

    def _read_on(self) -> None:
        busy = self._task is not None or self._patience is not None
        if not (busy or self._unread or self._eof or self.transport.is_closing()):
            self.transport.resume_reading()

    def _extend(self, seconds: float) -> None:
        self.deadline = min(self.loop.time() + seconds, self._end)

    def _start(self, work: Work | StartTls) -> None:
        # While we work the client waits for us: its own time does not run.
        self.deadline = self.loop.time() + _WORK_SECONDS
        if isinstance(work, StartTls):
            self._upgrading = True
            # What comes now belongs to the handshake and is left for it.
            self.transport.pause_reading()
        self._task = self.loop.create_task(self._work(work))
        self._port.tasks.add(self._task)

    async def _work(self, work: Work | StartTls) -> None:
        task = self._task
        try:
            if isinstance(work, StartTls):
                await self._upgrade()
                self._task = None
            else:
                result = await work.awaitable
                self._report(work, result)
                self._task = None
                if self.transport.is_closing():
                    return
                self.dialogue.resume(result)
            self._flush()
            self._read_on()
        except OSError:  # ssl.SSLError and TimeoutError among them: the handshake failed
            self.transport.abort()
            # asyncio tells no protocol of a connection that is lost during its handshake.
            self.connection_lost(None)
        except Exception as error:
            self._broken(error)
        finally:
            if task is not None:
                self._port.tasks.discard(task)

    def _report(self, work: Work, result: Reply | Login) -> None:
        if work.authentication:
            self._port.observer.authenticated(self.dialogue.session, result if isinstance(result, Login) else None)

    async def _upgrade(self) -> None:
        """RFC 3207 §4, RFC 8314 §3: handshake, then a session that knows nothing but its TLS facts."""
        transport = await start_server_tls(self.transport, self, self._port.tls_context(), self._take_hello)
        self.transport = transport
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        facts = tls_facts(transport)
        if facts is None:
            raise ConnectionResetError("peer left after the handshake")
        self.dialogue.tls_started(facts)
        self._upgrading = False
        self._extend(self._port.limits.command_timeout)
        self._port.observer.tls_started(self.dialogue.session, facts)
        if self._port.settings.tls == "implicit":
            self.dialogue.greet()
        first_words, self._early = self._early, b""
        self.dialogue.receive(first_words)

    def _take_hello(self) -> bytes:
        self._shaking_hands = True
        hello, self._early = self._early, b""
        return hello

    def _broken(self, error: Exception) -> None:
        """A bug of ours costs this session, never the process, and is always temporary for the client."""
        self._port.observer.bug(error)
        if not self.transport.is_closing():
            self.transport.write(_BROKEN.wire)
            self.transport.close()
            self._extend(_LAST_WORDS_SECONDS)

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
        if self._task is None and self.dialogue.idle and not self.transport.is_closing():
            self._hang_up(_DRAINING)

    def _hang_up(self, answer: Reply) -> None:
        self.dialogue.hang_up(answer)
        self._flush()


def _unread_octets(descriptor: int) -> int:
    """How many octets the kernel holds that were not read yet."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


def tls_facts(transport: asyncio.BaseTransport) -> TlsFacts | None:
    """What the connection negotiated, or None in the clear."""
    ssl_object = transport.get_extra_info("ssl_object")
    cipher = ssl_object.cipher() if ssl_object is not None else None
    if cipher is None:
        return None
    return TlsFacts(ssl_object.version() or "TLS", cipher[0], cipher[2])
