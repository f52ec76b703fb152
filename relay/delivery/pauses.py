"""Pauses: candidates that rest because their route is at fault (credentials, suspension, quota), not the message."""

from __future__ import annotations

from collections.abc import Iterable

from relay.delivery.observer import Observer
from relay.mail.outcome import Deferred, Fault, Outcome
from relay.ports import Clock


class Pauses:
    """A candidate rests `seconds` after the last answer that blamed its route."""

    def __init__(self, seconds: float, clock: Clock, observer: Observer) -> None:
        self._seconds = seconds
        self._clock = clock
        self._observer = observer
        self._until: dict[str, float] = {}

    def reconfigure(self, seconds: float) -> None:
        """Rest so long from now on; who rests is tried again, for its credentials may be right now."""
        self._seconds = seconds
        for candidate in tuple(self._until):
            self.resume(candidate)

    def watch(self, candidate: str, outcomes: Iterable[Outcome]) -> None:
        """Look at what an attempt by `candidate` brought."""
        for outcome in outcomes:
            if isinstance(outcome, Deferred) and outcome.fault is Fault.ROUTE:
                if candidate not in self.left():
                    self._observer.route_paused(candidate, self._seconds, outcome.reply)
                self._until[candidate] = self._clock.monotonic() + self._seconds
                return

    def left(self) -> dict[str, float]:
        """Candidates that rest, with the seconds left."""
        if not self._until:
            return {}
        now = self._clock.monotonic()
        for name, until in tuple(self._until.items()):
            if until <= now:
                self.resume(name)
        return {name: until - now for name, until in self._until.items()}

    def resume(self, candidate: str) -> None:
        """Try it again."""
        if self._until.pop(candidate, None) is not None:
            self._observer.route_resumed(candidate)
