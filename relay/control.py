"""Control: the operator's verbs over one lane of a running server, and what its workers ask each other.

In: a lane and the parts of its worker that a verb changes or shows. Out: the app behind the lane's control socket.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI

from relay.delivery.expiry import Expiry
from relay.httpd.application import make_app
from relay.httpd.contacts import contacts_router
from relay.httpd.dead import dead_router
from relay.httpd.hooks import Take, reports_router
from relay.httpd.queue import queue_router
from relay.httpd.reload import reload_router
from relay.httpd.returns import returns_router
from relay.httpd.sessions import sessions_router
from relay.lane import Lane
from relay.platforms import Platforms
from relay.ports import Clock, MayTell
from relay.settings import Settings
from relay.smtp_doors import SmtpDoors
from relay.telemetry.observer import Telemetry
from relay.way_back import WayBack


class Control:
    """One worker's."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        doors: SmtpDoors,
        platforms: Platforms,
        way_back: WayBack,
        take: Take,
        may_tell: MayTell,
        hang_up: Callable[[], None],
        clock: Clock,
        seen: Telemetry,
    ) -> None:
        """`settings` gives those in force; `take` hears reports of providers; `hang_up` asks for a reload.

        `may_tell` bounds how many notices one address gets.
        """
        self._settings = settings
        self._doors = doors
        self._platforms = platforms
        self._way_back = way_back
        self._take = take
        self._may_tell = may_tell
        self._hang_up = hang_up
        self._clock = clock
        self._seen = seen

    def app(self, lane: Lane) -> FastAPI:
        """Every verb, over this lane."""
        app = make_app("control", self._seen)
        expiry = Expiry(lane.spool, self._settings, self._clock, self._seen, self._seen, self._may_tell)
        look, sessions = lane.feeder.look, self._doors.sessions
        app.include_router(queue_router(lane.spool, lane.engine, expiry, look, self._seen, self._clock, sessions))
        app.include_router(
            dead_router(
                lane.spool,
                lambda: self._settings().hostname,
                lambda: self._settings().limits.received,
                self._clock,
                look,
                lambda new, old: self._seen.log.note("reinjected", id=new, after=old),
            )
        )
        app.include_router(contacts_router(lane.spool, lambda: self._platforms.names, self._platforms.again))
        app.include_router(reports_router(self._take))
        app.include_router(returns_router(self._way_back.returns(lane).take))
        app.include_router(sessions_router(self._doors.failed_sessions, self._doors.devices))
        app.include_router(reload_router(self._hang_up, lambda: self._settings().digest))
        return app
