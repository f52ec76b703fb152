"""Application: what every HTTP interface shares. Errors as JSON, a limit for sizes, an observer for each request.

In: a name for the metrics and an observer. Out: a FastAPI app without routes. Errors are
`{"error": {"code", "message", "fields": [{"field", "message"}]}}`. A handler that raises is answered 500, and an
OperatorError 503, in general words; the observer gets the exception.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay.httpd.health import HEALTH_PATHS
from relay.mail.errors import OperatorError

LARGEST_BODY: Final = 1_048_576

_MOST_AT_A_TIME: Final = 200
_LARGEST_HEAD: Final = 32_768
_DISCARDED: Final = 16
_MOST_FIELDS: Final = 100
_CLIENT_GONE: Final = 499  # for the observer alone: nobody is there to be told
_INTERNAL: Final = "Internal error; the log has the details"
_UNAVAILABLE: Final = "Not possible just now; the log has the details"
_BUSY: Final = "Too many requests at a time; try again"
_STOPPING: Final = "The server is stopping; try again"
_CODES: Final = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
}
# No page may read a mail's HTML as its own, and no cache may keep what is true now.
_HEADERS: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


class Observer(Protocol):
    """Hears of requests; must not raise."""

    def http_request(self, interface: str, method: str, path: str, status: int, seconds: float) -> None: ...

    def failure(self, where: str, error: BaseException) -> None: ...


def make_app(
    interface: str, observer: Observer, *, largest_body: int = LARGEST_BODY, most_at_a_time: int = _MOST_AT_A_TIME
) -> FastAPI:
    """An app without routes and without documentation pages. `interface` is its name in the metrics.

    Beyond `most_at_a_time` requests under way the answer is 503, but for those about health: whoever waits for mail
    must not make a worker look dead.
    """
    app = FastAPI(title="Sendrelay", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_middleware(
        _Watched, interface=interface, observer=observer, largest_body=largest_body, most_at_a_time=most_at_a_time
    )

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        code = _CODES.get(error.status_code, "refused")
        return problem(error.status_code, code, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()
        if found and found[0]["type"] == "json_invalid":
            reason = found[0].get("ctx", {}).get("error", "")
            return problem(400, "invalid_json", f"The body is no JSON: {reason} at character {found[0]['loc'][-1]}")
        fields = [{"field": _name(one["loc"]), "message": _sentence(one["msg"])} for one in found[:_MOST_FIELDS]]
        return problem(422, "invalid", "The request has wrong or missing fields", fields=fields)

    @app.exception_handler(OperatorError)
    async def unavailable(request: Request, error: OperatorError) -> JSONResponse:
        observer.failure("http", error)
        return problem(503, "unavailable", _UNAVAILABLE)

    return app


def problem(
    status: int,
    code: str,
    message: str,
    *,
    headers: Mapping[str, str] | None = None,
    fields: Sequence[dict[str, str]] = (),
) -> JSONResponse:
    """An error as all interfaces give it."""
    error: dict[str, Any] = {"code": code, "message": message}
    if fields:
        error["fields"] = list(fields)
    return JSONResponse({"error": error}, status, headers=headers)


def _shown(path: str) -> str:
    """The path of a callback ends in a secret."""
    return "/".join((*path.split("/")[:3], "...")) if path.startswith("/hooks/") else path


def _name(location: Sequence[int | str]) -> str:
    """`("body", "ids", 0)` is `ids.0`; a whole body that is wrong is `body`."""
    return ".".join(map(str, location[1:] or location))


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ")


class _Watched:
    """ASGI middleware: counts the body's octets, turns a bug into 500, tells the observer how it ended."""

    def __init__(
        self,
        app: ASGIApp,
        interface: str,
        observer: Observer,
        largest_body: int,
        most_at_a_time: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._interface = interface
        self._observer = observer
        self._largest_body = largest_body
        self._most_at_a_time = most_at_a_time
        self._under_way = 0
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = self._monotonic()
        answer = _Answer(send)
        self._under_way += 1
        try:
            refusal = await self._refusal(scope, receive)
            if refusal is not None:
                await refusal(scope, receive, answer.send)
            else:
                await self._app(scope, self._limited(receive), answer.send)
        except ClientDisconnect:
            answer.status = answer.status or _CLIENT_GONE
        except Exception as error:
            self._observer.failure("http", error)
            # What has begun cannot be taken back: the server closes the connection, and so it is seen to be cut.
            if not answer.status:
                await problem(500, "internal", _INTERNAL)(scope, receive, answer.send)
        except asyncio.CancelledError:
            # Nobody but the server cancels a request: it stops, and has waited long enough.
            if not answer.status:
                await problem(503, "stopping", _STOPPING)(scope, receive, answer.send)
        finally:
            self._under_way -= 1
            seconds = self._monotonic() - started
            status = answer.status or 500
            self._observer.http_request(self._interface, scope["method"], _shown(scope["path"]), status, seconds)

    async def _refusal(self, scope: Scope, receive: Receive) -> JSONResponse | None:
        """Why the app is not even asked."""
        if _head_octets(scope) > _LARGEST_HEAD:
            return problem(431, "too_large", f"The header is larger than {_LARGEST_HEAD} octets")
        refusal = None
        if self._under_way > self._most_at_a_time and scope["path"] not in HEALTH_PATHS:
            refusal = problem(503, "busy", _BUSY, headers={"retry-after": "1"})
        elif int(_field(scope, b"content-length") or 0) > self._largest_body:
            refusal = problem(413, "too_large", self._limit_text())
        if refusal is not None and _field(scope, b"expect") is None:
            await self._discard(receive)
        return refusal

    def _limited(self, receive: Receive) -> Receive:
        """Chunked bodies announce no length and are counted."""
        octets = 0

        async def limited() -> Message:
            nonlocal octets
            message = await receive()
            octets += len(message.get("body", b""))
            if octets > self._largest_body:
                if message["more_body"]:
                    await self._discard(receive)
                raise HTTPException(413, self._limit_text())
            return message

        return limited

    async def _discard(self, receive: Receive) -> None:
        """Many clients read no answer before they have sent everything; for how much, there is a limit too."""
        octets, more = 0, True
        while more and octets < self._largest_body * _DISCARDED:
            message = await receive()
            octets += len(message.get("body", b""))
            more = message.get("more_body", False)

    def _limit_text(self) -> str:
        return f"The body is larger than {self._largest_body} octets"


class _Answer:
    """Passes an answer on with the common headers, and remembers its status; 0 while there is none."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await self._send(message)


def _field(scope: Scope, wanted: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == wanted), None)


def _head_octets(scope: Scope) -> int:
    """The parser limits only what comes in several pieces."""
    target = len(scope["raw_path"]) + len(scope["query_string"])
    return target + sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
