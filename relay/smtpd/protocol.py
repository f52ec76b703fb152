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
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from aiosmtpd.smtp import SMTP
from aiosmtpd.smtp import Session as AiosmtpdSession

from relay.mail.reply import Reply, reply
from relay.mail.session import Login, Session, TlsFacts
from relay.settings import LimitSettings, ListenerSettings
from relay.smtpd.devices import Devices
from relay.smtpd.dialogue import OUTPUT, Dialogue
from relay.smtpd.failed_sessions import FailedSessions
from relay.smtpd.handshake import start_server_tls
from relay.smtpd.hooks import Hooks, PeerEnd, StartTls, Work
from relay.smtpd.proxy_header import Networks, ProxyHeaderError, is_trusted, read_header
from relay.smtpd.replies import OTHER_NETWORKS
from relay.smtpd.symptom import Case
from relay.smtpd.unix_socket import peer_uid

_PIPELINE_AHEAD: Final = 65_536
_WRITE_BUFFER: Final = 65_536
_WORK_SECONDS: Final = 600.0  # RFC 5321 §4.5.3.2.6: no client waits longer for an answer
_LAST_WORDS_SECONDS: Final = 10.0
_HEADER_SECONDS: Final = 10.0
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

    def proxy_header_refused(self, peer: str, words: str) -> None: ...

    def tolerated(self, session: Session, what: str) -> None: ...

    def client_named(self, session: Session, proxy: str) -> None: ...

    def recognised(self, session: Session, login: Login) -> None: ...

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
    balancers: Networks = ()
    proxies: Networks = ()
    failed: FailedSessions | None = None
    devices: Devices | None = None
    served: Networks = ()


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
        self._header: bytes | None = None
        self._balancer = ("", 0)
        self._proxy = ""
        self._counted = ""
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
        peer = transport.get_extra_info("peername")
        self._port.sessions.add(self)
        if not peer or isinstance(peer, str | bytes):
            self._begin("local", 0, peer_uid(transport.get_extra_info("socket")))
            return
        host, number = str(peer[0]), int(peer[1])
        if is_trusted(host, self._port.balancers):
            self._header = b""
            self._balancer = (host, number)
            self.deadline = self.loop.time() + _HEADER_SECONDS
        else:
            self._begin(host, number)

    def _take_header(self, data: bytes) -> None:
        """What the balancer says first; what comes behind it is the client's."""
        assert self._header is not None
        self._header += data
        try:
            found = read_header(self._header)
        except ProxyHeaderError as error:
            self._port.observer.proxy_header_refused(self._balancer[0], str(error))
            self.transport.abort()
            return
        if found is not None:
            rest, self._header = self._header[found.octets :], None
            host, number = (found.peer, found.port) if found.peer else self._balancer
            if self._port.settings.tls == "implicit":
                self._early = rest
                rest = b""
            self._begin(host, number)
            if rest and not self.transport.is_closing():
                self.data_received(rest)

    def _begin(self, host: str, number: int, uid: int | None = None) -> None:
        """The session of a client whose address is known."""
        port = self._port
        self.session.peer = host
        session = Session(host, number, "", "SMTP", port.settings.name, uid=uid)
        login = port.hooks.known(session)
        if login is not None:
            session = replace(session, login=login)
        self.dialogue = Dialogue(port.hooks, port.settings, port.limits, port.hostname, session)
        self.dialogue.peer_end = self._peer_end
        self._end = self.loop.time() + port.limits.session_timeout
        refusal = None
        if is_trusted(host, port.proxies):
            # Whom it speaks for counts, not the proxy.
            self._proxy = host
            self.dialogue.arrive = self._arrive
        else:
            self._counted = host
            refusal = port.hooks.connected(host)
        if port.draining():
            refusal = _DRAINING
        elif len(port.sessions) > port.limits.connections:
            refusal = _FULL
        elif port.served and uid is None and not self._proxy and not is_trusted(host, port.served):
            refusal = OTHER_NETWORKS
        port.observer.session_opened(session)
        if login is not None and refusal is None:
            port.observer.recognised(session, login)
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

    def _arrive(self, session: Session) -> Reply | None:
        """A proxy has said whose session this is: it counts as that client's from now on."""
        hooks, proxy = self._port.hooks, self._proxy
        if self._counted:
            hooks.left(self._counted)
        self._counted = session.peer if session.peer != proxy else ""
        self._port.observer.client_named(session, proxy)
        if session.login is not None and session.login.bound:
            self._port.observer.recognised(session, session.login)
        if self._port.served and not is_trusted(session.peer, self._port.served):
            return OTHER_NETWORKS
        return hooks.connected(session.peer) if self._counted else None

    def data_received(self, data: bytes) -> None:
        if self._header is not None:
            self._take_header(data)
            return
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
        if self._header is not None:
            return False
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
        if self._header is not None:
            port.sessions.discard(self)
            return
        ends = self in port.sessions
        if ends and not self._upgrading:
            self._look_back()
        self.dialogue.lost()
        if ends:
            port.sessions.discard(self)
            if self._counted:
                port.hooks.left(self._counted)
            port.observer.session_closed(self.dialogue.session)

    def _look_back(self, tls_failure: OSError | None = None) -> None:
        """A session in which nothing was refused and mail was begun costs no more than these comparisons."""
        dialogue, port = self.dialogue, self._port
        in_data = dialogue.in_data
        if port.failed is None or (dialogue.began_mail and not dialogue.refused and not in_data):
            return
        case = Case(port.settings, dialogue.session, tuple(dialogue.record), tls_failure, dialogue.began_mail, in_data)
        try:
            port.failed.ended(case, self.loop.time() - (self._end - port.limits.session_timeout))
        except Exception as error:
            port.observer.bug(error)

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
        if dialogue.rejections or dialogue.tolerated:
            self._tell()
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

    def _tell(self) -> None:
        """What was refused, and what was let pass."""
        dialogue, port = self.dialogue, self._port
        for answer in dialogue.rejections:
            port.observer.rejected(dialogue.session, answer)
        dialogue.rejections.clear()
        for what in dialogue.tolerated:
            port.observer.tolerated(dialogue.session, what)
            if port.devices is not None:
                port.devices.tolerated(dialogue.session, what)
        dialogue.tolerated = ()

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
        except OSError as error:  # ssl.SSLError and TimeoutError among them: the handshake failed
            self._look_back(error)
            self.transport.abort()
            # asyncio tells no protocol of a connection that is lost during its handshake, uvloop does.
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
        if self.transport.is_closing() or self._upgrading or self._header is not None:
            self.transport.abort()
        else:
            self._hang_up(_TIMED_OUT)

    def drain(self) -> None:
        """Say 421 at the next command boundary."""
        if self._header is not None:
            self.transport.abort()
        elif self._task is None and self.dialogue.idle and not self.transport.is_closing():
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
    # The certificate of the very context that answered, whichever is in force by now. A resumed session is bound to
    # that of its first handshake, which may have been renewed since.
    end_point = b"" if ssl_object.session_reused else getattr(ssl_object.context, "end_point", b"")
    # Only of a client that was asked, and verified by then.
    certificate = ssl_object.getpeercert(binary_form=True) or b""
    return TlsFacts(ssl_object.version() or "TLS", cipher[0], cipher[2], end_point, certificate)
