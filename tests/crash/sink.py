"""The next hop: a small SMTP server in a thread of its own that writes its ledger before it answers, and misbehaves.

`faults` gives the chance, by stage, that it resets the connection there: banner, EHLO, MAIL, RCPT, DATA, body (in the
middle of the message), dot (the message is taken, its answer is lost), QUIT. `later` is the chance of a 451 after the
dot; 1.0 keeps everything queued.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import socket
import struct
import threading
import time

from ledger import Copy, SinkLedger

STAGES = ("banner", "EHLO", "MAIL", "RCPT", "DATA", "body", "dot", "QUIT")
_DIGEST = re.compile(rb"^X-Digest: ([0-9a-f]{64})\r\n", re.MULTILINE)


class Sink:
    """`start`, then change `faults` and `later` at will, `stop`."""

    def __init__(self, seed: int) -> None:
        self.ledger = SinkLedger()
        self.faults: dict[str, float] = {}
        self.later = 0.0
        self._dice = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self.port = 0

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()
        self._started.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    def hits(self, stage: str) -> bool:
        return self._dice.random() < self.faults.get(stage, 0.0)

    def fails(self) -> bool:
        return self._dice.random() < self.later

    def _run(self) -> None:
        async def serve() -> None:
            server = await self._loop.create_server(lambda: _Session(self), "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self._started.set()

        self._loop.run_until_complete(serve())
        self._loop.run_forever()


class _Session(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = b""
        self._in_data = False
        self._recipients: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._reset("banner"):
            transport.write(b"220 sink.example ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while not self._transport.is_closing() and (self._message() if self._in_data else self._command()):
            pass

    def _reset(self, stage: str) -> bool:
        if not self._sink.hits(stage):
            return False
        raw = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
        return True

    def _command(self) -> bool:
        line, end, rest = self._buffer.partition(b"\r\n")
        if not end:
            return False
        self._buffer = rest
        verb = line[:4].upper().decode()
        if self._reset(verb):
            return False
        if verb == "RCPT":
            self._recipients.append(line[line.index(b"<") + 1 : line.index(b">")].decode())
        elif verb == "MAIL":
            self._recipients = []
        self._in_data = verb == "DATA"
        if verb == "EHLO":
            self._transport.write(b"250-sink.example\r\n250 PIPELINING\r\n")
        elif verb == "QUIT":
            self._transport.write(b"221 Bye\r\n")
            self._transport.close()
        else:
            self._transport.write(b"354 Go on\r\n" if self._in_data else b"250 Ok\r\n")
        return True

    def _message(self) -> bool:
        if self._buffer and self._reset("body"):
            return False
        message, end, rest = self._buffer.partition(b"\r\n.\r\n")
        if not end:
            return False
        self._buffer, self._in_data = rest, False
        if self._sink.fails():
            self._transport.write(b"451 Try again\r\n")
            return True
        answered = not self._sink.hits("dot")
        copy = Copy(time.monotonic(), _intact(message + b"\r\n"), answered)
        for recipient in self._recipients:
            self._sink.ledger.copies[recipient].append(copy)
        if answered:
            self._transport.write(b"250 Taken\r\n")
        else:
            self._sink.faults, kept = {"dot": 1.0}, self._sink.faults
            self._reset("dot")
            self._sink.faults = kept
        return True


def _intact(message: bytes) -> bool:
    """Whether the body is the one whose digest its author wrote into the header. Notices have none."""
    found = _DIGEST.search(message)
    _, _, body = message.replace(b"\r\n..", b"\r\n.").partition(b"\r\n\r\n")
    return found is None or hashlib.sha256(body).hexdigest().encode() == found[1]
