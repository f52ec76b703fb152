"""HttpServer: uvicorn inside the running loop, on sockets that are bound already, TCP or Unix.

In: an ASGI app and sockets. Out: HTTP/1.1 without a Server header. It takes no signals and has no log of its own; what
it finds broken goes through the standard library's logging. A request that trickles in and a client that does not read
are cut, and so is every connection beyond the most there may be.
"""

from __future__ import annotations

import asyncio
import functools
import math
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

_KEEP_ALIVE_SECONDS: Final = 15
_REQUEST_SECONDS: Final = 30.0
_READING_SECONDS: Final = 60.0
_LAST_WORDS_SECONDS: Final = 0.5
_MOST_CONNECTIONS: Final = 1000
_LARGEST_HEADER: Final = 32_768
_BACKLOG: Final = 1024
_DATE_SECONDS: Final = 1.0


class HttpServer:
    """One app on its sockets; `start`, then `stop` once. Closes the sockets, and removes a Unix socket's file."""

    def __init__(
        self,
        app: FastAPI,
        sockets: Sequence[socket.socket],
        *,
        request_seconds: float = _REQUEST_SECONDS,
        reading_seconds: float = _READING_SECONDS,
        most_connections: int = _MOST_CONNECTIONS,
    ) -> None:
        """A request has `request_seconds` to arrive whole; a client may pause `reading_seconds` in taking an answer."""
        connection: Any = functools.partial(
            _Connection,
            request_seconds=request_seconds,
            reading_seconds=reading_seconds,
            most_connections=most_connections,
        )
        config = uvicorn.Config(
            app,
            http=connection,
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            h11_max_incomplete_event_size=_LARGEST_HEADER,
        )
        self._server = uvicorn.Server(config)
        self._sockets = list(sockets)
        self._files = [Path(one.getsockname()) for one in self._sockets if one.family == socket.AF_UNIX]
        self._dating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Accept connections. `uvicorn.Server.serve` would take the process' signals; its parts do not."""
        config = self._server.config
        config.load()
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup(sockets=self._sockets)
        self._dating = asyncio.create_task(self._date())

    async def stop(self, timeout: float) -> None:
        """Stop accepting; requests under way get `timeout` seconds (whole ones, at least 1) before they are cut."""
        if self._dating is None:
            self._close_sockets()
            return
        self._dating.cancel()
        self._server.config.timeout_graceful_shutdown = max(1, math.ceil(timeout))
        state = self._server.server_state
        await self._server.shutdown(sockets=self._sockets)
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=_LAST_WORDS_SECONDS)
        for connection in tuple(state.connections):
            connection.transport.abort()
        await asyncio.gather(*state.tasks, return_exceptions=True)
        self._close_sockets()

    def _close_sockets(self) -> None:
        for listening in self._sockets:
            listening.close()
        for path in self._files:
            path.unlink(missing_ok=True)

    async def _date(self) -> None:
        """Keep the Date header right."""
        while True:
            await self._server.on_tick(0)
            await asyncio.sleep(_DATE_SECONDS)


class _Connection(H11Protocol):
    """uvicorn's, with deadlines: alone, it waits for ever for the rest of a request and for a client that reads."""

    def __init__(
        self, *arguments: Any, request_seconds: float, reading_seconds: float, most_connections: int, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._most_connections = most_connections
        self._request = _Deadline(request_seconds)
        self._reading = _Deadline(reading_seconds)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._most_connections:
            transport.abort()
        self._await_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_request()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP. The app may have begun on its header, and has nobody to answer any more."""
        begun = self.cycle
        if begun is not None:
            begun.disconnected = True
            begun.message_event.set()
        if begun is not None and begun.response_started and not begun.response_complete:
            self.transport.close()
        else:
            super().send_400_response(msg)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # Between requests the keep-alive time counts; here the next one has begun, sent before we had answered.
        if self.conn.their_state is h11.SEND_BODY:
            self._await_request()

    def _await_request(self) -> None:
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._request.start(self.loop, self.transport)
        else:
            self._request.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading.start(self.loop, self.transport)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reading.cancel()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._request.cancel()
        self._reading.cancel()


class _Deadline:
    """Cuts the connection `seconds` after the first `start` that no `cancel` followed."""

    __slots__ = ("_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, transport.abort)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
