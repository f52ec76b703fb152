"""What the tests of HTTP share: a server in the running loop, a client that shows the bytes, an observer."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI

from relay.httpd.server import HttpServer


@dataclass
class Heard:
    """The observer of an application."""

    requests: list[tuple[str, str, str, int]] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def http_request(self, interface: str, method: str, path: str, status: int, seconds: float) -> None:
        assert 0 <= seconds < 60
        self.requests.append((interface, method, path, status))

    def failure(self, where: str, error: BaseException) -> None:
        self.failures.append(error)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """What stands under `error`, and nothing beside it."""
        (name,) = self.json
        assert name == "error"
        error: dict[str, Any] = self.json["error"]
        return error


class Client:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer:
        """The next one on this connection."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 60)).decode("latin-1")
        status, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        else:
            body = await self.reader.read()
        return Answer(int(status.split()[1]), headers, body)

    async def rest(self) -> bytes:
        """Everything until the server closes; a reset counts as that."""
        received = b""
        try:
            while data := await asyncio.wait_for(self.reader.read(65_536), 60):
                received += data
        except ConnectionError:
            pass
        return received


class Served:
    """A running server and how to reach it."""

    def __init__(self, server: HttpServer, address: tuple[str, int]) -> None:
        self.server = server
        self.address = address

    @asynccontextmanager
    async def connection(self, **options: Any) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection(*self.address, **options)
        try:
            yield Client(reader, writer)
        finally:
            writer.transport.abort()

    async def ask(self, line: str, *fields: str, body: Any = b"") -> Answer:
        """One request on a connection of its own: `GET /path`; a body that is not bytes goes as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        own = [f"Content-Length: {len(content)}", "Content-Type: application/json"] if content else []
        if not any(one.lower().startswith("host:") for one in fields):
            own.append("Host: localhost")
        head = "\r\n".join((f"{line} HTTP/1.1", *own, *fields, "Connection: close", "", ""))
        async with self.connection() as client:
            await client.say(head.encode("latin-1") + content)
            return await client.answer()


@asynccontextmanager
async def serving(app: FastAPI, **options: Any) -> AsyncIterator[Served]:
    """`app` on a free port."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    server = HttpServer(app, [listening], **options)
    address = listening.getsockname()
    await server.start()
    try:
        yield Served(server, address)
    finally:
        await server.stop(1)
