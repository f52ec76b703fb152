"""Hooks: POST /hooks/PROVIDER/TOKEN takes what a provider tells later, for all workers.

In: a vendor's callback. Out: 200 when everything in it is on disk, in whichever worker knows the message; 404 for a
wrong address, 403 for a signature that does not fit, 400 for what cannot be read, 503 while a worker does not answer or
what a signature is checked with cannot be had (the vendor asks again). A callback may be quicker than the answer with
the message's id is on disk: what is young and unknown is looked for again for some seconds before it is answered. What
no worker knows is counted and answered 200: asking again would not help.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from relay.httpd.application import problem
from relay.mail.event import EventKind
from relay.mail.reply import printable
from relay.ports import Clock, Report
from relay.transports.build import Door
from relay.transports.providers.base import Callback, CallbackError, ProviderEvent

_MOST_WORDS: Final = 10
PAUSES: Final = (0.2, 0.8, 2.0)
"""Seconds after each of which an unknown message is looked for again; vendors wait five at least."""
YOUNG: Final = 60.0
"""Seconds an event may be old, by the vendor's clock, to be worth waiting for."""
MOST_WAITING: Final = 64
"""Callbacks that wait at a time; those beyond are answered at once."""


class Observer(Protocol):
    """Hears of callbacks; must not raise."""

    def callback_refused(self, provider: str, words: str, *, forged: bool) -> None: ...

    def callback_taken(self, provider: str, known: int, strange: int, words: tuple[str, ...]) -> None: ...


Take = Callable[[Sequence[Report]], Awaitable[list[bool]]]
"""Says of each report whether its message is known; what is known is on disk then."""


class Documents(Protocol):
    """Documents of vendors. Raises OSError."""

    async def get(self, url: str) -> bytes: ...

    async def visit(self, url: str) -> None: ...


def hooks_router(
    doors: Callable[[], Mapping[str, Door]],
    own: Take,
    others: Take,
    clock: Clock,
    observer: Observer,
    documents: Documents,
    pauses: Sequence[float] = PAUSES,
) -> APIRouter:
    """`own`: the spools of this worker; `others`: those of the rest, asked for what `own` does not know."""
    router = APIRouter(prefix="/hooks")
    search = _Search(own, others, clock, pauses)

    def door_of(name: str, token: str) -> Door | None:
        door = doors().get(name)
        right = hmac.compare_digest(token.encode(), (door.token if door else "-").encode())
        return door if right else None

    @router.api_route("/{name}/{token}", methods=["GET", "HEAD"])
    async def there(name: str, token: str) -> JSONResponse:
        """Some vendors look whether an address exists before they keep it."""
        return JSONResponse({}) if door_of(name, token) else _nothing_here()

    @router.post("/{name}/{token}")
    async def take(name: str, token: str, request: Request) -> JSONResponse:
        door = door_of(name, token)
        if door is None:
            return _nothing_here()
        headers = {key.lower(): text for key, text in request.headers.items()}
        callback = Callback(headers, await request.body(), door.secret, clock.now())
        try:
            events = await _believed(door, callback, documents)
        except CallbackError as error:
            observer.callback_refused(name, str(error), forged=error.forged)
            status, code = (403, "forbidden") if error.forged else (400, "bad_request")
            return problem(status, code, str(error))
        except OSError as error:
            observer.callback_refused(name, printable(str(error)), forged=False)
            return problem(503, "unavailable", "Ask again later")
        reports = reports_of(name, events)
        known = await search.taken(reports)
        observer.callback_taken(name, sum(known), known.count(False), strange_words(events))
        return JSONResponse({"events": len(reports), "known": sum(known)})

    return router


def reports_of(name: str, events: Sequence[ProviderEvent]) -> list[Report]:
    """What the provider `name` told, but for words nobody knows."""
    return [
        Report(
            each.kind, each.remote_id, each.recipient, f"{name} {each.key}", each.at, each.said, each.hard,
            f"provider:{name}",
        )
        for each in events
        if each.kind is not None
    ]  # fmt: skip


def strange_words(events: Sequence[ProviderEvent]) -> tuple[str, ...]:
    """Some of the words nobody knows."""
    return tuple(sorted({each.word for each in events if each.kind is None}))[:_MOST_WORDS]


async def _believed(door: Door, callback: Callback, documents: Documents) -> list[ProviderEvent]:
    """Raises CallbackError, and OSError where something of the vendor's cannot be had."""
    url = door.provider.document_for(callback)
    if url:
        callback = dataclasses.replace(callback, document=await documents.get(url))
    events = door.provider.events(callback)
    confirmation = door.provider.confirmation(callback)
    if confirmation:
        await documents.visit(confirmation)
    return events


class _Search:
    """Finds whose the reports are, now or a little later."""

    def __init__(self, own: Take, others: Take, clock: Clock, pauses: Sequence[float]) -> None:
        self._own = own
        self._others = others
        self._clock = clock
        self._pauses = pauses
        self._waiting = 0

    async def taken(self, reports: Sequence[Report]) -> list[bool]:
        """Says of each report whether its message is known; what is known is on disk then."""
        known = await self._asked(reports)
        if all(known) or self._waiting >= MOST_WAITING:
            return known
        self._waiting += 1
        try:
            for pause in self._pauses:
                early = [place for place, found in enumerate(known) if not found and self._is_young(reports[place])]
                if not early:
                    break
                await asyncio.sleep(pause)
                for place, found in zip(early, await self._asked([reports[each] for each in early]), strict=True):
                    known[place] = found
        finally:
            self._waiting -= 1
        return known

    def _is_young(self, report: Report) -> bool:
        return bool(report.remote_id) and (not report.at or abs(self._clock.now() - report.at) <= YOUNG)

    async def _asked(self, reports: Sequence[Report]) -> list[bool]:
        known = await self._own(reports) if reports else []
        left = [place for place, found in enumerate(known) if not found]
        if left:
            for place, found in zip(left, await self._others([reports[place] for place in left]), strict=True):
                known[place] = found
        return known


def _nothing_here() -> JSONResponse:
    return problem(404, "not_found", "Not Found")


def reports_router(own: Take) -> APIRouter:
    """POST /admin/reports, on the control socket: reports another worker was told."""
    router = APIRouter(prefix="/admin")

    @router.post("/reports")
    async def reports(request: Request) -> dict[str, Any]:
        return {"known": await own([_report(each) for each in (await request.json())["reports"]])}

    return router


def as_json(reports: Sequence[Report]) -> dict[str, Any]:
    """What `reports_router` reads."""
    return {
        "reports": [
            [one.kind.value, one.remote_id, one.recipient, one.key, one.at, one.said, one.hard, one.by]
            for one in reports
        ]
    }


def _report(fields: Sequence[Any]) -> Report:
    kind, remote_id, recipient, key, at, said, hard, by = fields
    return Report(EventKind(kind), remote_id, recipient, key, float(at), said, hard, by)
