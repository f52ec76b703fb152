"""Control: what the operator's verbs ask of a running lane. Served on its Unix socket only, never on TCP.

POST /admin/queue/retry and /admin/queue/cancel with `{"ids": [...]}`; POST /admin/route/resume with `{"route": ...}`;
GET /admin/status.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Protocol

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, Field

from relay import __version__
from relay.mail.errors import StoreError
from relay.mail.event import Event, EventKind
from relay.ports import Clock, EventSink

MessageId = Annotated[str, Field(pattern=r"^[0-7][0-9a-f]{15}$")]


class Spool(Protocol):
    """What of the spool is needed. All raise StoreError."""

    async def retry(self, message_ids: list[str]) -> int:
        """Make waiting recipients due now; returns how many."""
        ...

    async def cancel(self, message_ids: list[str], exclude: frozenset[tuple[str, int]]) -> list[tuple[str, int]]:
        """End what waits, but for `exclude`; its place in the order of commits is taken before the first await."""
        ...

    async def message(self, message_id: str) -> dict[str, Any] | None:
        """Everything known of a message; `recipients` in the envelope's order, each with its `address`."""
        ...


class Engine(Protocol):
    """What of the delivery engine is needed."""

    @property
    def active(self) -> frozenset[tuple[str, int]]: ...

    def forget(self, message_ids: frozenset[str]) -> None: ...

    def queues(self) -> list[tuple[str, int, int]]: ...

    def paused(self) -> dict[str, float]: ...

    def open_hops(self) -> dict[str, float]: ...

    def resume(self, name: str) -> None: ...


def _without_duplicates(ids: list[str]) -> list[str]:
    return list(dict.fromkeys(ids))


class MessageIds(BaseModel):
    ids: Annotated[list[MessageId], Field(min_length=1, max_length=10_000), AfterValidator(_without_duplicates)]


class Route(BaseModel):
    route: Annotated[str, Field(min_length=1, max_length=300)]


def queue_router(
    spool: Spool,
    engine: Engine,
    look: Callable[[], None],
    events: EventSink,
    clock: Clock,
    sessions: Callable[[], int],
) -> APIRouter:
    """The verbs over one lane. `look` makes its feeder look at the spool from the beginning; `sessions` counts the
    SMTP sessions of its worker."""
    router = APIRouter(prefix="/admin")

    @router.post("/queue/retry")
    async def retry(wanted: MessageIds) -> dict[str, Any]:
        """Make waiting recipients due now."""
        changed = await spool.retry(wanted.ids)
        look()
        return {"recipients": changed}

    @router.post("/queue/cancel")
    async def cancel(wanted: MessageIds) -> dict[str, Any]:
        """End what is not being delivered this moment.

        What is left in `active` after `forget` runs, and stays out of it. Nothing else can begin: an attempt begins in
        the spool, which comes to it after the cancelling, and then finds nobody who waits.
        """
        engine.forget(frozenset(wanted.ids))
        ended = await spool.cancel(wanted.ids, engine.active)
        addresses = await _addresses(spool, {message_id for message_id, _ in ended})
        for message_id, index in ended:
            recipient = addresses.get((message_id, index), "")
            events.event(Event(clock.now(), EventKind.CANCELLED, message_id, recipient))
        return {"recipients": len(ended)}

    @router.post("/route/resume")
    async def resume(wanted: Route) -> dict[str, Any]:
        """Use a resting route, or a next hop that is not dialled, again at once.

        What was put off because of it is made due by `queue/retry`.
        """
        was_paused = wanted.route in engine.paused() or wanted.route in engine.open_hops()
        engine.resume(wanted.route)
        return {"resumed": was_paused}

    @router.get("/status")
    async def status() -> dict[str, Any]:
        """Next hops with jobs in memory, and routes that rest and next hops not dialled, with the seconds left."""
        queues = [
            {"next_hop": hop, "waiting": waiting, "running": running} for hop, waiting, running in engine.queues()
        ]
        return {
            "version": __version__,
            "pid": os.getpid(),
            "sessions": sessions(),
            "queues": queues,
            "paused": engine.paused(),
            "open": engine.open_hops(),
        }

    return router


async def _addresses(spool: Spool, message_ids: Iterable[str]) -> dict[tuple[str, int], str]:
    """Recipients' addresses by message and place; what cannot be read is left out, for the cancelling is done."""
    found: dict[tuple[str, int], str] = {}
    try:
        for message_id in message_ids:
            message = await spool.message(message_id)
            for index, recipient in enumerate(message["recipients"] if message else ()):
                found[message_id, index] = recipient["address"]
    except StoreError:
        pass
    return found
