"""The sandbox's inbox over HTTP: GET /sandbox/inbox, /sandbox/inbox/{id}, /sandbox/inbox/{id}/raw; DELETE empties it.

For loopback in the sandbox profile only, and open like every mail catcher: no key is needed, though one that is given
has to be valid. Other machines and web pages are kept out: a Host that is no loopback name is refused (DNS rebinding),
and so is a change that another site asks for. The inbox is read in threads.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from relay.httpd.inbox_entry import entry, full_entry
from relay.httpd.inbox_watch import InboxWatch
from relay.ports import InboxMessage, InboxReader

LONGEST_WAIT: Final = 30.0

_POLL_SECONDS: Final = 0.1
_LARGEST_ID: Final = 2**63 - 1
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::[0-9]*)?\Z")

Number = Annotated[int, Path(ge=1, le=_LARGEST_ID)]


def sandbox_router(inbox: InboxReader, verify: Callable[[str], object | None]) -> APIRouter:
    """`verify` gives None for anything but a valid API key."""
    router = APIRouter(
        prefix="/sandbox/inbox", dependencies=[Depends(_local_host), Depends(_own_site), Depends(_key_check(verify))]
    )

    @router.get("")
    async def listing(
        request: Request,
        to: str = "",
        limit: Annotated[int, Query(ge=1, le=1_000_000)] = 50,
        after_id: Annotated[int, Query(ge=0, le=_LARGEST_ID)] = 0,
        since: Annotated[float, Query(ge=0)] = 0.0,
        wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT)] = 0.0,
    ) -> Response:
        """Messages, newest last; `wait` holds the answer up to so many seconds until there is one."""
        loop = asyncio.get_running_loop()
        end = loop.time() + wait
        watch = InboxWatch(inbox, to=to, limit=limit, after_id=after_id, since=since)
        while True:
            found = await asyncio.to_thread(watch.look)
            if found or loop.time() >= end or await request.is_disconnected():
                return await asyncio.to_thread(_listed, found)
            await asyncio.sleep(min(_POLL_SECONDS, end - loop.time()))

    @router.get("/{number}")
    async def show(number: Number) -> Response:
        """One message with header, bodies and attachments."""
        return await asyncio.to_thread(_shown, inbox, number)

    @router.get("/{number}/raw")
    async def raw(number: Number) -> Response:
        """The bytes exactly as they came."""
        content = await asyncio.to_thread(inbox.raw, number)
        if content is None:
            raise _missing(number)
        return Response(content, media_type="message/rfc822")

    @router.delete("")
    async def clear() -> dict[str, int]:
        return {"deleted": await asyncio.to_thread(inbox.clear)}

    return router


def _listed(messages: Sequence[InboxMessage]) -> Response:
    return JSONResponse({"messages": [entry(message) for message in messages]})


def _shown(inbox: InboxReader, number: int) -> Response:
    message, content = inbox.get(number), inbox.raw(number)
    if message is None or content is None:
        raise _missing(number)
    return JSONResponse(full_entry(message, content))


def _missing(number: int) -> HTTPException:
    return HTTPException(404, f"no message {number} in the inbox")


async def _local_host(request: Request) -> None:
    """This machine alone, wherever the port is bound; a page whose name was made to resolve here still sends it."""
    if request.client is None or not _is_loopback(request.client.host):
        raise HTTPException(403, "the inbox is for this machine alone")
    host = request.headers.get("host", "")
    match = _HOST.match(host)
    if host and not (match and _is_loopback(match[1].strip("[]").rstrip(".").lower())):
        raise HTTPException(403, "ask for it by a loopback name, such as 127.0.0.1 or localhost")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _own_site(request: Request) -> None:
    """Programs send neither field; browsers send at least one of them with a change."""
    headers = request.headers
    site = headers.get("sec-fetch-site", "none")
    own_origin = f"http://{headers.get('host', '')}"
    foreign = site not in ("none", "same-origin") or headers.get("origin", own_origin) != own_origin
    if foreign and request.method != "GET":
        raise HTTPException(403, "a web page of another site may not change the inbox")


def _key_check(verify: Callable[[str], object | None]) -> Callable[[Request], Awaitable[None]]:
    async def check(request: Request) -> None:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = [bearer.strip()] if scheme.lower() == "bearer" else []
        given += request.headers.getlist("x-api-key")
        if not all(map(verify, given)):
            raise HTTPException(401, "the API key is not valid; without one the sandbox answers too")

    return check
