"""Control: what the operator's verbs ask of a running lane. Served on its Unix socket only, never on TCP.

POST /admin/queue/VERB (hold, release, cancel, retry, expire, reroute) with a `Wanted`; POST /admin/route/resume with
`{"route": ...}`; GET /admin/route; GET /admin/status. An answer to a verb has 1,000 recipients at most; `after`
is to be sent back where there may be more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Annotated, Any, Final, Literal, Protocol

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from relay import __version__
from relay.httpd.application import problem
from relay.mail.event import Event
from relay.mail.reply import printable
from relay.ports import Clock, EventSink
from relay.store.spool_verbs import EVENTS, Act, Acted, Selection, Verb

_AT_A_TIME: Final = 1000
_EXPIRED_AT_A_TIME: Final = 50
_LEAVE_THE_SCHEDULE: Final = (Verb.HOLD, Verb.CANCEL, Verb.EXPIRE, Verb.REROUTE)

MessageId = Annotated[str, Field(pattern=r"^[0-7][0-9a-f]{15}$")]
Words = Annotated[str, Field(max_length=400)]


class Spool(Protocol):
    """What of the spool is needed. Raises StoreError."""

    async def act(self, act: Act) -> list[Acted]:
        """What a verb means, and, but for a dry run, did; what is in flight is marked and left."""
        ...


class Engine(Protocol):
    """What of the delivery engine is needed."""

    def candidates(self) -> Collection[str]: ...

    def forget(self, message_ids: frozenset[str]) -> None: ...

    def queues(self) -> list[tuple[str, int, int]]: ...

    def paused(self) -> dict[str, float]: ...

    def open_hops(self) -> dict[str, float]: ...

    def silent(self) -> dict[str, float]: ...

    def resume(self, name: str) -> None: ...


class Expiry(Protocol):
    """Ends recipients with a notice. Raises StoreError."""

    async def end(self, message_id: str, answers: Mapping[int, str]) -> bool:
        """Together (index to last answer), or False where not all wait any more."""
        ...


class Wanted(BaseModel):
    """Which recipients: every condition given must hold. `all` says that none is meant. `after` continues.

    `via` is for reroute alone: the way out from now on, empty for the one the routes name.
    """

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[MessageId], Field(max_length=10_000)] = []
    account: Words = ""
    domain: Words = ""
    sender: Words = ""
    state: Literal["", "queued", "deferred", "held"] = ""
    older: Annotated[float, Field(gt=0, le=1e9)] | None = None
    all: bool = False
    dry_run: bool = False
    via: Words | None = None
    after: tuple[MessageId, Annotated[int, Field(ge=0, lt=2**31)]] | None = None

    @model_validator(mode="after")
    def _says_which(self) -> Wanted:
        chosen = (self.ids, self.account, self.domain, self.sender, self.state, self.older, self.all)
        if not any(chosen):
            raise ValueError("name ids, or account, domain, sender, state or older, or say all")
        return self


class Route(BaseModel):
    route: Annotated[str, Field(min_length=1, max_length=300)]


class _Verbs:
    """What `relay queue` does to what waits in one lane."""

    def __init__(
        self,
        spool: Spool,
        engine: Engine,
        expiry: Expiry,
        look: Callable[[], None],
        events: EventSink,
        clock: Clock,
    ) -> None:
        self._spool = spool
        self._engine = engine
        self._expiry = expiry
        self._look = look
        self._events = events
        self._clock = clock

    async def act(self, verb: Verb, wanted: Wanted) -> dict[str, Any]:
        """Do it to what is not being delivered this moment; the spool changes a recipient only while the verb fits.

        An attempt begins in the spool too, and only for who waits there, so that what is scheduled here and was held,
        ended or given another way finds nobody; `forget` merely frees its place early.
        """
        ends = verb is Verb.EXPIRE
        chosen = _selection(wanted, self._clock.now())
        act = Act(verb, chosen, wanted.dry_run or ends, wanted.after, _AT_A_TIME, wanted.via or "")
        acted = await self._spool.act(act)
        after = (acted[-1].message_id, acted[-1].index) if len(acted) == _AT_A_TIME else None
        if ends and not wanted.dry_run:
            acted = await _expire(self._expiry, acted)
        done = [one for one in acted if not one.in_flight]
        if not wanted.dry_run:
            self._tell(act, done)
        return {
            "recipients": len(done),
            "in_flight": len(acted) - len(done),
            "messages": _by_message(acted),
            "after": after,
        }

    def _tell(self, act: Act, done: list[Acted]) -> None:
        """Events to the log, and the engine and the feeder to look at what has changed."""
        kind = EVENTS.get(act.verb)
        if kind is not None:
            for one in done:
                self._events.event(Event(self._clock.now(), kind, one.message_id, one.address, act.via))
        if done and act.verb in _LEAVE_THE_SCHEDULE:
            self._engine.forget(frozenset(one.message_id for one in done))
        if act.verb not in (Verb.HOLD, Verb.CANCEL):
            self._look()


def queue_router(
    spool: Spool,
    engine: Engine,
    expiry: Expiry,
    look: Callable[[], None],
    events: EventSink,
    clock: Clock,
    sessions: Callable[[], int],
) -> APIRouter:
    """The verbs over one lane. `look` makes its feeder look at the spool from the beginning; `sessions` counts the
    SMTP sessions of its worker."""
    router = APIRouter(prefix="/admin")

    verbs = _Verbs(spool, engine, expiry, look, events, clock)

    @router.post("/queue/{verb}")
    async def act(verb: Verb, wanted: Wanted) -> Any:
        wrong = _wrong_way(verb, wanted.via, engine.candidates())
        if wrong:
            return problem(422, "invalid", "The request has wrong or missing fields", fields=[wrong])
        return await verbs.act(verb, wanted)

    @router.post("/route/resume")
    async def resume(wanted: Route) -> dict[str, Any]:
        """Use a resting route, or a next hop that is not dialled, again at once.

        What was put off because of it is made due by `queue/retry`.
        """
        was_paused = any(wanted.route in those() for those in (engine.paused, engine.open_hops, engine.silent))
        engine.resume(wanted.route)
        return {"resumed": was_paused}

    @router.get("/route")
    async def ways() -> dict[str, Any]:
        """The ways out there are, with the seconds a resting one rests, next hops not dialled, and silent providers."""
        paused = engine.paused()
        return {
            "candidates": [{"name": name, "rests": paused.get(name)} for name in sorted(engine.candidates())],
            "open": engine.open_hops(),
            "silent": engine.silent(),
        }

    @router.get("/status")
    async def status() -> dict[str, Any]:
        """Next hops with jobs in memory, and what rests, is not dialled or is silent, with the seconds left."""
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
            "silent": engine.silent(),
        }

    return router


def _selection(wanted: Wanted, now: float) -> Selection:
    before = None if wanted.older is None else now - wanted.older
    return Selection(tuple(wanted.ids), wanted.account, wanted.domain, wanted.sender, wanted.state, before)


def _wrong_way(verb: Verb, via: str | None, candidates: Collection[str]) -> dict[str, str] | None:
    """What is wrong with `via`."""
    if (verb is Verb.REROUTE) != (via is not None):
        words = 'say which way, or "" for the one the routes name' if via is None else f"means nothing to {verb}"
        return {"field": "via", "message": words}
    if via and via not in candidates:
        known = ", ".join(sorted(candidates))
        return {"field": "via", "message": f"there is no way out called {printable(via)!r}; configured: {known}"}
    return None


async def _expire(expiry: Expiry, acted: list[Acted]) -> list[Acted]:
    """End those that wait, message by message, some at a time so that they share commits; the others are in flight."""
    messages = [list(recipients) for _, recipients in groupby(acted, key=lambda one: one.message_id)]
    result: list[Acted] = []
    for start in range(0, len(messages), _EXPIRED_AT_A_TIME):
        few = messages[start : start + _EXPIRED_AT_A_TIME]
        for ended in await asyncio.gather(*(_expire_one(expiry, recipients) for recipients in few)):
            result += ended
    return result


async def _expire_one(expiry: Expiry, recipients: list[Acted]) -> list[Acted]:
    waiting = {one.index: one.reply for one in recipients if not one.in_flight}
    if waiting and await expiry.end(recipients[0].message_id, waiting):
        return recipients
    # One of them was begun meanwhile: the notice would have been wrong, and the next call gets the rest.
    return [replace(one, in_flight=True) for one in recipients]


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
