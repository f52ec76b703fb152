"""Control: what the operator's verbs ask of a running lane, over `<var>/run/control-<spool>.sock` (0600, never TCP).

POST /admin/queue/retry and /admin/queue/cancel with `{"ids": [...]}`; POST /admin/route/resume with `{"route": ...}`;
GET /admin/status.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import APIRouter
from pydantic import BaseModel, Field

from relay.mail.errors import OperatorError
from relay.mail.event import Event, EventKind
from relay.ports import Clock, EventSink

MessageId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Spool(Protocol):
    """What of the spool is needed."""

    async def retry(self, message_ids: list[str]) -> int: ...

    async def cancel(self, message_ids: list[str], exclude: frozenset[tuple[str, int]]) -> list[tuple[str, int]]: ...


class Engine(Protocol):
    """What of the delivery engine is needed."""

    @property
    def active(self) -> frozenset[tuple[str, int]]: ...

    def forget(self, message_ids: frozenset[str]) -> None: ...

    def queues(self) -> list[tuple[str, int, int]]: ...

    def paused(self) -> dict[str, float]: ...

    def resume(self, candidate: str) -> None: ...


class MessageIds(BaseModel):
    ids: Annotated[list[MessageId], Field(min_length=1, max_length=10_000)]


class Route(BaseModel):
    route: str


def queue_router(spool: Spool, engine: Engine, look: Callable[[], None], events: EventSink, clock: Clock) -> APIRouter:
    """The verbs over one lane; `look` makes its feeder look at the spool from the beginning."""
    router = APIRouter(prefix="/admin")

    @router.post("/queue/retry")
    async def retry(wanted: MessageIds) -> dict[str, Any]:
        """Make waiting recipients due now."""
        changed = await spool.retry(wanted.ids)
        look()
        return {"recipients": changed}

    @router.post("/queue/cancel")
    async def cancel(wanted: MessageIds) -> dict[str, Any]:
        """End what is not being delivered this moment. An attempt begins only for what still waits in the spool, so
        nothing that was cancelled can start afterwards."""
        engine.forget(frozenset(wanted.ids))
        ended = await spool.cancel(wanted.ids, engine.active)
        for message_id, _ in ended:
            events.event(Event(clock.now(), EventKind.CANCELLED, message_id))
        return {"recipients": len(ended)}

    @router.post("/route/resume")
    async def resume(wanted: Route) -> dict[str, Any]:
        """Try a resting route again at once; what waits for it is made due by `queue/retry`."""
        was_paused = wanted.route in engine.paused()
        engine.resume(wanted.route)
        return {"resumed": was_paused}

    @router.get("/status")
    async def status() -> dict[str, Any]:
        """Next hops with jobs in memory, and routes that rest."""
        queues = [
            {"next_hop": hop, "waiting": waiting, "running": running} for hop, waiting, running in engine.queues()
        ]
        return {"pid": os.getpid(), "queues": queues, "paused": engine.paused()}

    return router


def bind_control(folder: Path, number: int) -> socket.socket:
    """The listening Unix socket of spool `number`. The spool's lock says that nobody else serves it, so one that is
    left from a crash may go. Raises OperatorError."""
    path = folder / f"control-{number}.sock"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o177)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        listening.listen(16)
    except OSError as error:
        listening.close()
        raise OperatorError(f"{path}: cannot listen for `relay queue`: {error.strerror}; check the folder") from error
    finally:
        os.umask(previous)
    listening.setblocking(False)
    return listening
