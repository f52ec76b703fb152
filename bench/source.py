"""Source: a load generator that speaks SMTP command by command, as smtp-source does, and can do STARTTLS and AUTH.

In: the command line. Out: one JSON document with accepted and refused messages and the latency of the final dot.
A session never pipelines and never retries: what is not answered 250 counts as refused.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import multiprocessing
import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final

import uvloop

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
            self._say(f"RCPT TO:<{self._load.recipient}>\r\n".encode(), self._data)

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


async def _session(load: Load, supply: Supply, result: Result) -> None:
    """One sender after another until the supply ends; with `once` each message has its own connection."""
    loop = asyncio.get_running_loop()
    while (message := supply.next()) is not None:
        await asyncio.sleep(max(0.0, message[1] - time.monotonic()) if load.rate else 0)
        client = Client(load, supply, result, message)
        try:
            await loop.create_connection(lambda client=client: client, load.host, load.port)  # type: ignore[misc]
        except OSError as error:
            result.refused += 1
            result.error = str(error)
            continue
        await client.done


async def _send(load: Load) -> Result:
    supply, result = Supply(load), Result()
    await asyncio.gather(*(_session(load, supply, result) for _ in range(load.sessions)))
    return result


def _process(load: Load) -> Result:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_send(load))


def _share(total: int, parts: int) -> list[int]:
    return [total // parts + (index < total % parts) for index in range(parts)]


def send(loads: list[Load]) -> Result:
    """Run each load in a process of its own; the sum of their results."""
    if len(loads) == 1:
        return _process(loads[0])
    with multiprocessing.get_context("fork").Pool(len(loads)) as pool:
        results = pool.map(_process, loads, chunksize=1)
    return Result(
        accepted=sum(result.accepted for result in results),
        refused=sum(result.refused for result in results),
        error=next((result.error for result in results if result.error), ""),
        dots=list(itertools.chain.from_iterable(result.dots for result in results)),
        lags=list(itertools.chain.from_iterable(result.lags for result in results)),
    )


def quantiles(seconds: list[float]) -> dict[str, float]:
    """p50, p90, p99 and the worst, in milliseconds; empty for no figures."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    pick = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3, 3)
            for name, share in pick.items()}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="source", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=20, help="connections at a time")
    parser.add_argument("--size", type=int, default=4096, help="octets of body")
    parser.add_argument("--sender", default="app@bench.example")
    parser.add_argument("--recipient", default="someone@rcpt.example")
    parser.add_argument("--once", action="store_true", help="one connection per message")
    parser.add_argument("--tls", action="store_true", help="STARTTLS")
    parser.add_argument("--login", type=Path, help="file with username and password, a line each")
    parser.add_argument("--rate", type=float, default=0.0, help="messages a second; default: as fast as they are taken")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    login = tuple(options.login.read_text().split("\n")[:2]) if options.login else None
    sessions = _share(options.sessions, options.processes)
    loads = [
        Load(
            options.host, options.port, messages, share, options.size, options.sender, options.recipient,
            options.once, options.tls, login, options.rate / options.processes,
        )
        for messages, share in zip(_share(options.messages, options.processes), sessions, strict=True)
    ]  # fmt: skip
    result = send(loads)
    report = {
        "accepted": result.accepted,
        "refused": result.refused,
        "error": result.error,
        "dot_ms": quantiles(result.dots),
        "lag_ms": quantiles(result.lags),
    }
    json.dump(report, sys.stdout)
    return 0 if result.accepted == options.messages else 1


if __name__ == "__main__":
    sys.exit(main())
