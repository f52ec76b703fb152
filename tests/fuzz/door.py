"""A whole connection: PROXY headers, XCLIENT, TLS, half-closed sockets, time-outs, clients that do not read.

The protocol class is the real one in a real event loop; its transport is one that writes to memory, and a handshake is
what the input says of it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Any

from client import Client, examples
from doors import LIMITS, SECURE, Gate, doors
from harness import Bounded, Octets, in_loop
from session import _REPLIES

from relay.settings import SessionSettings
from relay.smtpd import protocol as protocol_module
from relay.smtpd.failed_sessions import FailedSessions
from relay.smtpd.protocol import Port, RelaySMTP

_EVERYBODY = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
_OWN = (ipaddress.ip_network("192.0.2.0/24"),)
_V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x00\x01\x00\x19"
_HEADERS = (
    b"",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 1 25\r\n",
    _V2,
    b"PROXY UNKNOWN\r\n",
    b"PROXY TCP6 ::1 ::1 1 25\r\n",
)
_BALANCED, _PROXIED, _NO_TLS, _PEER6, _SLOW, _LOCAL = 1, 2, 4, 8, 16, 32


_ENDS = socket.socketpair()


class _Cipher:
    """An SSL object after its handshake."""

    session_reused = False
    context = type("Context", (), {"end_point": SECURE.end_point})()

    def cipher(self) -> tuple[str, str, int]:
        return ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)

    def version(self) -> str:
        return "TLSv1.3"

    def getpeercert(self, binary_form: bool) -> bytes:
        return SECURE.client_certificate


class _Transport:
    """Writes to memory."""

    def __init__(self, protocol: Any, peer: Any, *, secure: bool = False) -> None:
        self._protocol = protocol
        self._peer = peer
        self._secure = secure
        self.written: list[bytes] = []
        self.paused = self.closing = self.gone = False

    def get_extra_info(self, name: str) -> Any:
        if name == "peername":
            return self._peer
        if name == "ssl_object":
            return _Cipher() if self._secure else None
        return _ENDS[0] if name == "socket" else None

    def set_write_buffer_limits(self, high: int) -> None: ...

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, octets: bytes) -> None:
        self.written.append(octets)

    def close(self) -> None:
        self.closing = True

    abort = close


class _Observer:
    def __init__(self) -> None:
        self.bugs: list[BaseException] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *facts: None

    def bug(self, error: BaseException) -> None:
        traceback.print_exception(error)
        self.bugs.append(error)


class DoorTarget:
    """Call it with one input."""

    def __init__(self) -> None:
        self._gate = Gate()
        self._doors = doors(self._gate)
        self._failed = FailedSessions(SessionSettings(kept=4), 0, _Clock())
        self.counts: Counter[str] = Counter()
        self._handshakes = Octets(b"")
        protocol_module.start_server_tls = self._handshake  # type: ignore[assignment]
        protocol_module.peer_uid = lambda socket: 1000  # type: ignore[assignment]

    async def _handshake(self, transport: _Transport, protocol: Any, context: object, early: Any) -> _Transport:
        early()
        await asyncio.sleep(0)
        error = self._handshakes.one((None, None, None, ssl.SSLError(1, "no"), TimeoutError(), ConnectionResetError()))
        if error is not None:
            raise error
        inside = _Transport(protocol, transport.get_extra_info("peername"), secure=True)
        inside.written = transport.written
        return inside

    def __call__(self, octets: bytes) -> None:
        self.counts["door"] += 1
        with Bounded("door"):
            in_loop(asyncio.wait_for(self._connection(octets), 30))

    async def _connection(self, octets: bytes) -> None:
        chosen = Octets(octets)
        door = chosen.one(self._doors)
        how, events, header = chosen.number(), Octets(chosen.take(12)), chosen.one(_HEADERS)
        self._handshakes = Octets(chosen.take(4))
        sessions: set[RelaySMTP] = set()
        tasks: set[asyncio.Task[None]] = set()
        observer = _Observer()
        port = Port(
            settings=door.listener,
            limits=LIMITS,
            hooks=door.handler,
            hostname="mx.example",
            observer=observer,  # type: ignore[arg-type]
            tls_context=lambda: None,  # type: ignore[arg-type, return-value]
            sessions=sessions,
            tasks=tasks,
            draining=lambda: False,
            balancers=_EVERYBODY if how & _BALANCED else (),
            proxies=_EVERYBODY if how & _PROXIED else (),
            failed=self._failed,
            served=_OWN if how & _NO_TLS else (),
        )
        session = RelaySMTP(port)
        peer = None if how & _LOCAL else ("2001:db8::1", 4000, 0, 0) if how & _PEER6 else ("192.0.2.1", 4000)
        transport = _Transport(session, peer)
        session.connection_made(transport)
        client = Client(chosen.rest())
        pieces = client.pieces()
        said = header if how & _BALANCED else b""
        for _ in range(64):
            if session.transport.is_closing():
                break
            if said:
                session.data_received(said)
            await self._settled(session, tasks)
            client.heard = b"".join(transport.written[-3:])
            self._happen(events.number(), session)
            await self._settled(session, tasks)
            said = next(pieces, b"")
            if not said:
                break
        session.connection_lost(None)
        await asyncio.gather(*tasks)
        assert not observer.bugs, repr(observer.bugs)
        assert not sessions, "a session is left"
        assert self._gate.held == 0, "octets are counted that nobody holds"
        assert _REPLIES.match(b"".join(transport.written)), transport.written
        self._gate.spool.stored.clear()

    @staticmethod
    async def _settled(session: RelaySMTP, tasks: set[asyncio.Task[None]]) -> None:
        for _ in range(200):
            if not tasks and session._patience is None:
                return
            await asyncio.sleep(0)
        raise AssertionError("it is busy for ever")

    @staticmethod
    def _happen(what: int, session: RelaySMTP) -> None:
        """What comes from outside between two pieces."""
        if what == 1:
            session.eof_received()
        elif what == 2 and session.transport.written and not session._unread:
            session.pause_writing()
        elif what == 3 and session._unread:
            session.resume_writing()
        elif what == 4:
            session.sweep(session.deadline + 1)
        elif what == 5:
            session.drain()

    def seeds(self) -> Iterator[bytes]:
        """Sessions of a client that knows how, on every door, through balancers and proxies."""
        for script in examples():
            for number in range(6):
                for how, header in ((0, 0), (1, 1), (1, 2), (2, 0), (3, 2), (8, 0), (32, 0)):
                    yield bytes((number, how, *(0,) * 12, header, 0, 0, 0, 0)) + script
        yield from (bytes((0, 0, 0, event, 0, event, *(0,) * 9, 0, 0, 0, 0)) + next(examples()) for event in range(6))


class _Clock:
    def now(self) -> float:
        return 1.8e9

    def monotonic(self) -> float:
        return 1000.0


def target() -> DoorTarget:
    return DoorTarget()
