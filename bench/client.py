"""Client: one SMTP session of the load generator, command by command, with STARTTLS and AUTH where asked for.

In: a Load and its Supply of messages. Out: a Result. Never pipelines, never retries; what is not answered as it
should be counts as refused and ends the connection. Source: RFC 5321, RFC 3207, RFC 3461, RFC 4954.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Final

_LINE: Final = b"X" * 78 + b"\r\n"


@dataclass(frozen=True, slots=True)
class Load:
    """What one process has to send. `rate` is messages a second over all sessions; 0: as fast as they are taken."""

    host: str
    port: int
    messages: int
    sessions: int
    size: int
    sender: str
    recipient: str
    once: bool = False
    tls: bool = False
    login: tuple[str, str] | None = None
    rate: float = 0.0
    notify: str = ""

    @property
    def rcpt(self) -> bytes:
        """The command, as RFC 3461 extends it."""
        notify = f" NOTIFY={self.notify}" if self.notify else ""
        return f"RCPT TO:<{self.recipient}>{notify}\r\n".encode()


@dataclass(slots=True)
class Result:
    """What came of it. `dots` are seconds from the end of the message to its 250, `lags` from its due time."""

    accepted: int = 0
    refused: int = 0
    error: str = ""
    dots: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)


class Supply:
    """Hands out the messages of one process, each with a Message-ID of its own."""

    def __init__(self, load: Load) -> None:
        self._numbers: Iterator[int] = iter(range(load.messages))
        head = f"From: <{load.sender}>\r\nTo: <{load.recipient}>\r\nSubject: bench\r\nDate: {formatdate()}\r\n"
        self._head = head.encode()
        full, rest = divmod(load.size, len(_LINE))
        self._body = b"\r\n" + _LINE * full + (_LINE[-rest:] if rest > 2 else b"") + b".\r\n"
        self._load = load
        self._start = time.monotonic()

    def next(self) -> tuple[bytes, float] | None:
        """Bytes after 354 and the monotonic time they are due; None when all are out."""
        number = next(self._numbers, None)
        if number is None:
            return None
        due = self._start + number / self._load.rate if self._load.rate else 0.0
        return self._head + b"Message-ID: <%d.%d@bench.example>\r\n" % (os.getpid(), number) + self._body, due


class Client(asyncio.Protocol):
    """One connection: greets, sends its message or messages, says QUIT."""

    def __init__(self, load: Load, supply: Supply, result: Result, first: tuple[bytes, float]) -> None:
        self._load, self._supply, self._result = load, supply, result
        self._message, self._due = first
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._reply = b""
        self._next: Callable[[bytes], None] = self._greeted
        self._dot = 0.0
        self._task: asyncio.Task[None] | None = None
        self._open = True
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Act once on each whole reply: its last line has a space after the code."""
        self._reply += data
        while self._reply.endswith(b"\n"):
            last = self._reply.rstrip(b"\r\n").rpartition(b"\n")[2]
            if last[3:4] == b"-":
                return
            reply, self._reply = self._reply, b""
            self._next(reply)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            if self._open:
                self._refuse(f"connection lost: {error}".encode())
            self.done.set_result(None)

    # --- the dialogue, one method a reply ------------------------------------------------------------------

    def _say(self, line: bytes, then: Callable[[bytes], None]) -> None:
        self._next = then
        self.transport.write(line)

    def _expect(self, reply: bytes, code: bytes) -> bool:
        if reply.startswith(code):
            return True
        self._refuse(reply)
        self.transport.close()
        return False

    def _refuse(self, why: bytes) -> None:
        self._open = False
        self._result.refused += 1
        self._result.error = why.decode("latin-1").strip()

    def _greeted(self, reply: bytes) -> None:
        if self._expect(reply, b"220"):
            self._say(b"EHLO source.bench.example\r\n", self._starttls if self._load.tls else self._hello)

    def _starttls(self, reply: bytes) -> None:
        if self._expect(reply, b"250"):
            self._say(b"STARTTLS\r\n", self._upgrade)

    def _upgrade(self, reply: bytes) -> None:
        if self._expect(reply, b"220"):
            self._task = self._loop.create_task(self._handshake())

    async def _handshake(self) -> None:
        try:
            self.transport = await self._loop.start_tls(self.transport, self, _tls_context())
        except OSError as error:
            self.connection_lost(error)
            return
        self._say(b"EHLO source.bench.example\r\n", self._hello)

    def _hello(self, reply: bytes) -> None:
        if not self._expect(reply, b"250"):
            return
        if self._load.login is None:
            self._mail()
        else:
            token = base64.b64encode("\0{}\0{}".format(*self._load.login).encode())
            self._say(b"AUTH PLAIN " + token + b"\r\n", self._authenticated)

    def _authenticated(self, reply: bytes) -> None:
        if self._expect(reply, b"235"):
            self._mail()

    def _mail(self) -> None:
        self._say(f"MAIL FROM:<{self._load.sender}>\r\n".encode(), self._rcpt)

    def _rcpt(self, reply: bytes) -> None:
        if self._expect(reply, b"250"):
            self._say(self._load.rcpt, self._data)

    def _data(self, reply: bytes) -> None:
        if self._expect(reply, b"250"):
            self._say(b"DATA\r\n", self._body)

    def _body(self, reply: bytes) -> None:
        if self._expect(reply, b"354"):
            self._dot = time.monotonic()
            self._say(self._message, self._accepted)

    def _accepted(self, reply: bytes) -> None:
        if not self._expect(reply, b"250"):
            return
        now, result = time.monotonic(), self._result
        result.accepted += 1
        result.dots.append(now - self._dot)
        if self._due:
            result.lags.append(now - self._due)
        following = None if self._load.once else self._supply.next()
        if following is None:
            self._open = False
            self._say(b"QUIT\r\n", self._bye)
            return
        self._message, self._due = following
        wait = self._due - now
        if wait > 0:
            self._loop.call_later(wait, self._mail)
        else:
            self._mail()

    def _bye(self, _reply: bytes) -> None:
        self.transport.close()


def _tls_context() -> ssl.SSLContext:
    """Like most printers and cron jobs: any certificate will do, and no session is resumed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
