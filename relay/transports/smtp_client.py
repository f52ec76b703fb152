"""One SMTP client connection: commands and messages out, whole replies in, one deadline at a time.

In: octets to write and the names of the steps whose replies are awaited. Out: the replies in order, fewer when the
connection ended; `trouble` then says why. Never raises for what a peer does; knows no recipient and no policy.
Time-outs come from one sweep over all connections, which costs a message nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, cast

from relay import faults
from relay.mail.reply import Reply, printable, reply
from relay.mail.session import TlsFacts
from relay.ports import LongContent
from relay.settings import TimeoutSettings
from relay.transports.smtp_commands import (
    CHUNK_OCTETS,
    Capabilities,
    Stuffing,
    counted,
    end_of_data,
    stuffed_chunks,
)
from relay.transports.smtp_reply import PeerReply, ReplyParser
from relay.transports.tls import tls_facts

TlsMode = Literal["off", "opportunistic", "require", "implicit", "verify"]
"""`verify`: required, and the certificate checked whatever the transport does for other mail."""

_NEVER: Final = float("inf")
_FAREWELL_SECONDS: Final = 2.0
_MESSAGE: Final = "end of data"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect: `address` is what is dialled, `name` the host name for SNI, verification and reports."""

    address: str
    port: int
    name: str
    tls: TlsMode = "opportunistic"

    def __str__(self) -> str:
        return f"{self.name}[{self.address}]:{self.port}"


class Sweeper:
    """One timer that ends every watched connection whose deadline has passed, at most `interval` seconds late."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self.watched: set[SmtpConnection] = set()

    @classmethod
    def for_timeouts(cls, timeouts: TimeoutSettings, idle: float) -> Sweeper:
        shortest = min(idle, timeouts.banner, timeouts.command, timeouts.data, timeouts.final_dot)
        return cls(max(0.02, min(1.0, shortest / 4)))

    def watch(self, connection: SmtpConnection) -> None:
        self.watched.add(connection)
        if self._timer is None:
            self._timer = connection.loop.call_later(self._interval, self._sweep, connection.loop)

    def forget(self, connection: SmtpConnection) -> None:
        self.watched.discard(connection)
        if self.watched:
            return
        self._empty.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def until_empty(self, seconds: float) -> None:
        """Wait until every watched connection is gone, at most `seconds`."""
        if not self.watched:
            return
        self._empty.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            pass

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for connection in [c for c in self.watched if c.deadline <= now]:
            connection.expire()
        if self.watched:
            self._timer = loop.call_later(self._interval, self._sweep, loop)


class SmtpConnection(asyncio.Protocol):
    """See the module. Only one coroutine may use a connection at a time; the pool sees to that."""

    def __init__(
        self,
        endpoint: Endpoint,
        timeouts: TimeoutSettings,
        sweeper: Sweeper,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.endpoint = endpoint
        self.label = str(endpoint)
        self.loop = loop
        self.capabilities = Capabilities()
        self.tls: TlsFacts | None = None
        self.untrusted = False
        self.trouble: Reply | None = None
        self.deadline = _NEVER
        self.messages = 0
        self.domains: set[str] = set()
        self.needs_rset = False
        self.message_complete = False
        self.timeouts = timeouts
        self._on_end: Callable[[SmtpConnection], None] | None = None
        self._sweeper = sweeper
        self._transport: asyncio.Transport | None = None
        self._parser = ReplyParser()
        self._replies: list[PeerReply] = []
        self._drained: asyncio.Future[None] | None = None
        self._paused = False
        self._quitting = False
        # The banner may arrive before the coroutine that dialled runs again, so it is awaited from the start.
        self._waiter: asyncio.Future[None] | None = loop.create_future()
        self._then: Callable[[list[PeerReply]], bytes | None] | None = None
        self._steps = ["connect"]
        self._seconds = self._last_seconds = timeouts.banner

    # --- what the owner calls ------------------------------------------------------------------------------

    async def banner(self) -> list[PeerReply]:
        """The greeting; to be awaited once, right after connecting."""
        if self._waiter is not None:
            await self._waiter
        return self._replies

    async def exchange(
        self,
        octets: bytes,
        steps: list[str],
        *,
        last_seconds: float | None = None,
        then: Callable[[list[PeerReply]], bytes | None] | None = None,
    ) -> list[PeerReply]:
        """Write `octets` and collect one reply for each of `steps`.

        Each reply has the command time-out from the one before; the last has `last_seconds`. When all are there,
        `then` may return the message as it goes over the wire: it is written at once, without waking the caller in
        between, and the reply to it comes as one more reply.
        """
        if self.trouble is not None or self._transport is None:
            return []
        waiter = self._arm(steps, self.timeouts.command, last_seconds or self.timeouts.command)
        self._then = then
        self._transport.write(octets)
        await waiter
        return self._replies

    async def send_message(self, content: bytes | LongContent, *, binary: bool = False) -> PeerReply | None:
        """Send the message after 354, or `binary` by BDAT, and return the verdict on it, or None: see `trouble`.

        `message_complete` tells whether the terminator was written, that is whether the peer may hold the message.
        Raises StoreError where long content cannot be read.
        """
        if self.trouble is not None or self._transport is None:
            return None
        waiter = self._arm([_MESSAGE], self.timeouts.final_dot, self.timeouts.final_dot)
        if isinstance(content, LongContent):
            await self._send_pieces(self._transport, content, waiter)
        else:
            chunks = counted(content) if binary else stuffed_chunks(content)
            await self._send_chunks(self._transport, chunks, b"" if binary else end_of_data(content), waiter)
        await waiter
        return self._replies[0] if self._replies else None

    async def start_tls(self, context: ssl.SSLContext, server_name: str | None) -> None:
        """Upgrade after the 220; on failure the connection is gone and `trouble` says why.

        Everything heard in clear text is forgotten: capabilities, and the reply parser with its state.
        """
        if self.trouble is not None or self._transport is None:
            return
        try:
            secured = await self.loop.start_tls(
                self._transport,
                self,
                context,
                server_hostname=server_name,
                ssl_handshake_timeout=self.timeouts.connect,
                ssl_shutdown_timeout=_FAREWELL_SECONDS,
            )
        except (OSError, ValueError) as error:  # ssl.SSLError and TimeoutError are OSErrors; a name may be no SNI
            words = printable(str(error), 200) or type(error).__name__
            self.untrusted = isinstance(error, ssl.SSLCertVerificationError)
            self.end(reply(451, "4.7.5", f"TLS handshake failed: {words}"))
            self._sweeper.forget(self)  # connection_lost is not called for a transport whose handshake failed
            return
        self._transport = cast("asyncio.Transport", secured)
        self._parser = ReplyParser()
        self.capabilities = Capabilities()
        self.tls = tls_facts(self._transport)

    def end(self, trouble: Reply) -> None:
        """Drop the connection; whoever waits gets what was collected. The first trouble is the one kept."""
        if self.trouble is None:
            self.trouble = trouble
        if self._transport is not None:
            self._transport.abort()
        self._release()

    def quit(self) -> None:
        """Say QUIT and leave; the answer is awaited two seconds in the background and matters to nobody."""
        if self.trouble is not None or self._transport is None:
            return
        self.trouble = reply(451, "4.4.2", "Connection was closed by us")
        self._quitting = True
        self.deadline = self.loop.time() + _FAREWELL_SECONDS
        self._transport.write(b"QUIT\r\n")
        self._notify_end()

    def quit_at_once(self) -> None:
        """QUIT and close in one go, for the end of the process."""
        self.quit()
        if self._transport is not None:
            self._transport.close()

    def park(self, seconds: float, on_end: Callable[[SmtpConnection], None]) -> None:
        """Nobody uses the connection now; it says QUIT after `seconds`. `on_end` is called when it ends meanwhile."""
        self.deadline = self.loop.time() + seconds
        self._on_end = on_end

    def unpark(self) -> None:
        """Somebody uses the connection again."""
        self.deadline = _NEVER
        self._on_end = None

    def drop(self) -> None:
        """Close the socket without another word."""
        self.deadline = _NEVER
        if self._transport is not None:
            self._transport.abort()

    @property
    def leaving(self) -> bool:
        return self._quitting

    def note_tls(self) -> None:
        """Read the TLS facts of a connection that was encrypted from the start."""
        if self._transport is not None:
            self.tls = tls_facts(self._transport)

    # --- what the sweeper and the loop call ----------------------------------------------------------------

    def expire(self) -> None:
        """The deadline has passed: idle connections part politely, a peer that owes us something is cut off."""
        if self._quitting:
            self.drop()
        elif self._waiter is None and self._drained is None:
            self.quit()
        else:
            # What still waits in our own buffer ends with the terminator, so the peer cannot hold the message.
            if self._transport is not None and self._transport.get_write_buffer_size():
                self.message_complete = False
            self.end(reply(451, "4.4.2", f"Timed out after {self._step()}"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=CHUNK_OCTETS)
        self.deadline = self.loop.time() + self._seconds
        self._sweeper.watch(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._sweeper.forget(self)
        self.end(reply(451, "4.4.2", f"Connection lost after {self._step()}"))
        self._notify_end()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self._unasked(data)
            return
        replies, wanted = self._replies, len(self._steps)
        before = len(replies)
        for answer in self._parser.feed(data):
            if len(replies) == wanted:
                self.end(reply(451, "4.5.0", "Peer sent more replies than it got commands"))
                return
            replies.append(answer)
            if answer.code == 421:  # RFC 5321 §3.8: the peer closes the connection
                self.end(answer.to_reply())
                return
        if self._parser.error:
            self.end(reply(451, "4.5.0", f"Peer does not speak SMTP: {self._parser.error}"))
        elif len(replies) == wanted:
            self._all_there()
        elif len(replies) > before:
            seconds = self._last_seconds if wanted - len(replies) == 1 else self._seconds
            self.deadline = self.loop.time() + seconds

    # --- inside --------------------------------------------------------------------------------------------

    def _all_there(self) -> None:
        if self._parser.pending:
            self.end(reply(451, "4.5.0", "Peer sent more replies than it got commands"))
            return
        then, self._then = self._then, None
        octets = then(self._replies) if then is not None else None
        if octets is None or self._transport is None:
            self._release()
            return
        self._steps.append(_MESSAGE)
        self.message_complete = True
        self.deadline = self.loop.time() + self.timeouts.final_dot
        self._transport.write(octets)
        faults.point("message-sent")

    def _arm(self, steps: list[str], seconds: float, last_seconds: float) -> asyncio.Future[None]:
        self._replies = []
        self._steps = steps
        self._seconds, self._last_seconds = seconds, last_seconds
        self.message_complete = False
        self._then = None
        self._waiter = waiter = self.loop.create_future()
        self.deadline = self.loop.time() + (seconds if len(steps) > 1 else last_seconds)
        return waiter

    async def _send_chunks(
        self,
        transport: asyncio.Transport,
        chunks: Iterator[bytes | memoryview],
        end: bytes,
        waiter: asyncio.Future[None],
    ) -> None:
        for chunk in chunks:
            if not await self._send_chunk(transport, chunk, waiter):
                return
        self._send_end(transport, end, waiter)

    async def _send_pieces(
        self, transport: asyncio.Transport, content: LongContent, waiter: asyncio.Future[None]
    ) -> None:
        stuffing, at = Stuffing(), 0
        while piece := await content.piece(at):
            at += len(piece)
            if not await self._send_chunk(transport, stuffing.stuffed(piece), waiter):
                return
        self._send_end(transport, end_of_data(content), waiter)

    async def _send_chunk(
        self, transport: asyncio.Transport, chunk: bytes | memoryview, waiter: asyncio.Future[None]
    ) -> bool:
        """Send at the peer's pace; each chunk has the data time-out. False where nothing more is to be sent."""
        if waiter.done():
            self.end(reply(451, "4.5.0", "Peer answered in the middle of the message"))
            return False
        transport.write(chunk)
        if transport.is_closing():
            return False  # broken, and writes go nowhere: connection_lost comes next and wakes the waiter
        if self._paused:
            self.deadline = self.loop.time() + self.timeouts.data
            self._drained = self.loop.create_future()
            await self._drained
            self._drained = None
        return True

    def _send_end(self, transport: asyncio.Transport, end: bytes, waiter: asyncio.Future[None]) -> None:
        if waiter.done():
            self.end(reply(451, "4.5.0", "Peer answered in the middle of the message"))
            return
        self.deadline = self.loop.time() + self.timeouts.final_dot
        transport.write(end)
        self.message_complete = not transport.is_closing()
        faults.point("message-sent")

    def _release(self) -> None:
        """Wake whoever waits for replies or for room to write."""
        waiter, self._waiter = self._waiter, None
        self.deadline = _NEVER
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _unasked(self, data: bytes) -> None:
        """Octets while we owe nothing: a farewell, or a peer out of step whose next replies would be misread."""
        if self._quitting:
            if self._transport is not None:
                self._transport.close()
            return
        replies = self._parser.feed(data)
        if replies and replies[0].code == 421:
            self.end(replies[0].to_reply())
        else:
            self.end(reply(451, "4.5.0", "Peer sent a reply nobody asked for"))
        self._notify_end()

    def _notify_end(self) -> None:
        callback, self._on_end = self._on_end, None
        if callback is not None:
            callback(self)

    def _step(self) -> str:
        return self._steps[min(len(self._replies), len(self._steps) - 1)]
