"""Control: what the operator's verbs ask of a running lane. Served on its Unix socket only, never on TCP.

POST /admin/queue/VERB (hold, release, cancel, retry) with a `Wanted`; POST /admin/route/resume with `{"route": ...}`;
GET /admin/status. An answer to a verb has 1,000 recipients at most; `after` is to be sent back where
there may be more.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import groupby
from typing import Annotated, Any, Final, Literal, Protocol

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from relay import __version__
from relay.mail.event import Event
from relay.ports import Clock, EventSink
from relay.store.spool_verbs import EVENTS, Act, Acted, Selection, Verb

_AT_A_TIME: Final = 1000

MessageId = Annotated[str, Field(pattern=r"^[0-7][0-9a-f]{15}$")]
Words = Annotated[str, Field(max_length=400)]


class Spool(Protocol):
    """What of the spool is needed. Raises StoreError."""

    async def act(self, act: Act) -> list[Acted]:
        """What a verb means, and, but for a dry run, did; what is in flight is marked and left."""
        ...


class Engine(Protocol):
    """What of the delivery engine is needed."""

    def forget(self, message_ids: frozenset[str]) -> None: ...

    def queues(self) -> list[tuple[str, int, int]]: ...

    def paused(self) -> dict[str, float]: ...

    def open_hops(self) -> dict[str, float]: ...

    def resume(self, name: str) -> None: ...


class Wanted(BaseModel):
    """Which recipients: every condition given must hold. `all` says that none is meant. `after` continues."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[MessageId], Field(max_length=10_000)] = []
    account: Words = ""
    domain: Words = ""
    sender: Words = ""
    state: Literal["", "queued", "deferred", "held"] = ""
    older: Annotated[float, Field(gt=0, le=1e9)] | None = None
    all: bool = False
    dry_run: bool = False
    after: tuple[MessageId, Annotated[int, Field(ge=0, lt=2**31)]] | None = None

    @model_validator(mode="after")
    def _says_which(self) -> Wanted:
        chosen = (self.ids, self.account, self.domain, self.sender, self.state, self.older, self.all)
        if not any(chosen):
            raise ValueError("name ids, or account, domain, sender, state or older, or say all")
        return self


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

    @router.post("/queue/{verb}")
    async def act(verb: Verb, wanted: Wanted) -> dict[str, Any]:
        """Do it to what is not being delivered this moment; the spool chooses and changes in one transaction.

        An attempt begins in the spool too, and only for who waits there, so that what is scheduled here and was held
        or cancelled finds nobody; `forget` merely frees its place early.
        """
        acted = await spool.act(Act(verb, _selection(wanted, clock.now()), wanted.dry_run, wanted.after, _AT_A_TIME))
        done = [one for one in acted if not one.in_flight]
        if not wanted.dry_run:
            if verb in EVENTS:
                for one in done:
                    events.event(Event(clock.now(), EVENTS[verb], one.message_id, one.address))
            if done and verb in (Verb.HOLD, Verb.CANCEL):
                engine.forget(frozenset(one.message_id for one in done))
            else:
                look()
        return {
            "recipients": len(done),
            "in_flight": len(acted) - len(done),
            "messages": _by_message(acted),
            "after": (acted[-1].message_id, acted[-1].index) if len(acted) == _AT_A_TIME else None,
        }

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


def _selection(wanted: Wanted, now: float) -> Selection:
    before = None if wanted.older is None else now - wanted.older
    return Selection(tuple(wanted.ids), wanted.account, wanted.domain, wanted.sender, wanted.state, before)


def _by_message(acted: list[Acted]) -> list[dict[str, Any]]:
    return [
        {
            "id": message_id,
            "recipients": [
                {"address": one.address, "state": one.state, "in_flight": one.in_flight} for one in recipients
            ],
        }
        for message_id, recipients in groupby(acted, key=lambda one: one.message_id)
    ]
