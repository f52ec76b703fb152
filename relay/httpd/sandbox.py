"""The sandbox's inbox over HTTP: GET /sandbox/inbox, /sandbox/inbox/{id}, /sandbox/inbox/{id}/raw; DELETE empties it.

Mounted on loopback in the sandbox profile only, and open like every mail catcher. A browser is kept out all the same: a
Host that is no loopback name is refused (DNS rebinding), and so is a change that a web page asks for.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response

from relay.mail.message import first_value, header_block, header_fields
from relay.ports import InboxMessage, InboxReader

_POLL_SECONDS: Final = 0.1
_SIGNATURE_TAG: Final = re.compile(r"(?:^|;)\s*(d|s|a)=\s*([^;\s]+)")


def sandbox_router(inbox: InboxReader) -> APIRouter:
    """The routes over `inbox`, which is read in threads."""
    router = APIRouter(prefix="/sandbox/inbox", dependencies=[Depends(_local_only)])

    @router.get("")
    async def listing(
        to: str = "",
        limit: Annotated[int, Query(ge=1, le=1_000_000)] = 50,
        after_id: Annotated[int, Query(ge=0)] = 0,
        since: Annotated[float, Query(ge=0)] = 0.0,
        wait: Annotated[float, Query(ge=0, le=30)] = 0.0,
    ) -> dict[str, Any]:
        """Messages, newest last; `wait` holds the answer up to so many seconds until there is one."""
        end = time.monotonic() + wait
        while True:
            found = await asyncio.to_thread(inbox.list, to=to, limit=limit, after_id=after_id, since=since)
            if found or time.monotonic() >= end:
                return {"messages": [entry(message) for message in found]}
            await asyncio.sleep(_POLL_SECONDS)

    @router.get("/{number}")
    async def show(number: int) -> dict[str, Any]:
        message, raw = await asyncio.to_thread(lambda: (inbox.get(number), inbox.raw(number)))
        if message is None or raw is None:
            raise HTTPException(404, f"no message {number} in the inbox")
        return entry(message) | {
            "headers": [[field.name, field.text] for field in header_fields(header_block(raw))],
        }

    @router.get("/{number}/raw")
    async def raw(number: int) -> Response:
        content = await asyncio.to_thread(inbox.raw, number)
        if content is None:
            raise HTTPException(404, f"no message {number} in the inbox")
        return Response(content, media_type="message/rfc822")

    @router.delete("")
    async def clear() -> dict[str, int]:
        return {"deleted": await asyncio.to_thread(inbox.clear)}

    return router


def entry(message: InboxMessage) -> dict[str, Any]:
    """A message as the inbox lists it."""
    header = message.header
    return {
        "id": message.id,
        "received_at": datetime.fromtimestamp(message.received_at, UTC).isoformat(timespec="milliseconds"),
        "mail_from": message.mail_from,
        "rcpt_to": list(message.rcpt_to),
        "from": first_value(header, "from"),
        "to": first_value(header, "to"),
        "subject": first_value(header, "subject"),
        "tls": message.tls,
        "size": message.size,
        "signed": signatures(header),
    }


def signatures(header: bytes) -> list[dict[str, str]]:
    """Domain, selector and algorithm of each DKIM-Signature; not whether it verifies."""
    return [
        dict(_SIGNATURE_TAG.findall(field.text)) for field in header_fields(header) if field.name == "dkim-signature"
    ]


def _local_only(request: Request) -> None:
    host = (request.url.hostname or "").rstrip(".")
    if host != "localhost" and not _is_loopback(host):
        raise HTTPException(403, "ask for it by a loopback name, such as 127.0.0.1 or localhost")
    if request.method != "GET" and request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise HTTPException(403, "a web page may not change the inbox")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
