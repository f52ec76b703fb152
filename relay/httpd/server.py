"""HttpServer: uvicorn inside the running loop, on sockets that are bound already; and what every interface shares.

In: a FastAPI app and sockets. Out: JSON; errors as `{"error": {"code", "message", "fields"}}`. A handler that raises is
answered 500 in general words, and the observer gets the exception. No signal handlers, no log of its own.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

LARGEST_BODY: Final = 1_048_576
_KEEP_ALIVE_SECONDS: Final = 15
_MOST_AT_A_TIME: Final = 200
_LARGEST_HEADER: Final = 32_768


class Observer(Protocol):
    """Hears of requests; must not raise."""

    def http_request(self, interface: str, method: str, path: str, status: int, seconds: float) -> None: ...

    def failure(self, where: str, error: BaseException) -> None: ...


def make_app(interface: str, observer: Observer) -> FastAPI:
    """An app without routes. `interface` is its name in the metrics."""
    app = FastAPI(title="Sendrelay", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def watched(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started = time.monotonic()
        response = _too_large(request) or await _answered(request, call_next)
        observer.http_request(
            interface, request.method, request.url.path, response.status_code, time.monotonic() - started
        )
        return response

    async def _answered(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            return await call_next(request)
        except Exception as error:
            observer.failure("http", error)
            return problem(500, "internal", "Internal error; the log has the details")

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, _CODES.get(error.status_code, "refused"), str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        fields = [
            {"field": ".".join(str(part) for part in one["loc"][1:]) or str(one["loc"][0]), "message": one["msg"]}
            for one in error.errors()
        ]
        return problem(422, "invalid", "The request has wrong or missing fields", fields=fields)

    return app


_CODES: Final = {400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}


def problem(
    status: int, code: str, message: str, headers: Any = None, fields: Sequence[dict[str, str]] = ()
) -> JSONResponse:
    """An error as all interfaces give it."""
    error: dict[str, Any] = {"code": code, "message": message}
    if fields:
        error["fields"] = list(fields)
    return JSONResponse({"error": error}, status, headers=headers)


def _too_large(request: Request) -> Response | None:
    length = request.headers.get("content-length", "0")
    if "transfer-encoding" in request.headers:
        return problem(411, "length_required", "Send the body with Content-Length")
    if not length.isdecimal() or int(length) > LARGEST_BODY:
        return problem(413, "too_large", f"The body is larger than {LARGEST_BODY} octets")
    return None


class _Uvicorn(uvicorn.Server):
    """Without its grip on the process: the worker has signal handlers of its own."""

    async def serve_here(self, sockets: list[socket.socket]) -> None:
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=sockets)


class HttpServer:
    """One app on its sockets; `start`, then `stop` once."""

    def __init__(self, app: FastAPI, sockets: Sequence[socket.socket]) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="none",
            http="h11",
            ws="none",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_AT_A_TIME,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            h11_max_incomplete_event_size=_LARGEST_HEADER,
        )
        self._server = _Uvicorn(config)
        self._sockets = list(sockets)
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._server.serve_here(self._sockets)
        self._ticking = asyncio.create_task(self._server.main_loop())

    async def stop(self, timeout: float) -> None:
        """Stop accepting; requests under way get `timeout` seconds."""
        self._server.should_exit = True
        if self._ticking is not None:
            await self._ticking
        self._server.config.timeout_graceful_shutdown = max(1, int(timeout))
        await self._server.shutdown(sockets=self._sockets)
