"""Next hops: what deliveries to each have taught: how many may run to it at a time, and whether to dial it at all.

Comes in: visits (one candidate, one attempt) and the outcomes they brought. Goes out: `limit` for the scheduler,
`wait` for the engine, and a word to the observer when a next hop opens (is not dialled any more) or closes again.
Kept for the next hops used last only; one that is forgotten begins anew. No I/O.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from relay.delivery.job import next_hop
from relay.delivery.observer import Observer
from relay.mail.outcome import Deferred, Delivered, Failed, Fault, Outcome, Sent
from relay.mail.reply import Reply, printable, reply
from relay.policy.breaker import LONGEST, Breaker, Change
from relay.policy.window import Window
from relay.ports import Clock, Random
from relay.settings import DeliverySettings

REMEMBERED: Final = 10_000
_NO_FAULT: Final = reply(451, "4.4.1", "No answer")
_SERVICE_CLOSING: Final = 421  # RFC 5321 §3.8: of the host, in whatever command it is said


@dataclass(slots=True)
class Visit:
    """One attempt at a next hop; without outcomes it was never made."""

    outcomes: tuple[Outcome, ...] = ()


@dataclass(slots=True)
class _Hop:
    window: Window
    breaker: Breaker
    visits: int = 0
    last_fault: Reply = _NO_FAULT


class NextHops:
    """The next hops of one worker."""

    def __init__(self, settings: DeliverySettings, clock: Clock, random: Random, observer: Observer) -> None:
        self._settings = settings
        self._clock = clock
        self._random = random
        self._observer = observer
        self._first = self._new_window().size
        self._hops: OrderedDict[str, _Hop] = OrderedDict()
        self._open: set[str] = set()

    def reconfigure(self, settings: DeliverySettings) -> None:
        """Other limits from now on; what was learnt is kept."""
        self._settings = settings
        self._first = self._new_window().size
        for hop in self._hops.values():
            hop.window.limit_to(settings.destination_concurrency)
            hop.breaker.open_after(settings.dead_host_faults)

    def limit(self, name: str) -> int:
        """How many deliveries may run to it now."""
        hop = self._hops.get(name)
        if hop is None:
            return self._first
        # Jobs of one that is open do not dial it: they are put off, or go by their next candidate.
        return self._settings.destination_concurrency if hop.breaker.is_open else hop.window.size

    def wait(self, name: str) -> float:
        """Seconds until a delivery may dial it; 0: now."""
        return self._hops[name].breaker.left() if name in self._open else 0.0

    def waits(self, candidates: Sequence[str], destination: str) -> dict[str, float]:
        """Candidates that may not be dialled, with the seconds until they may."""
        if not self._open:
            return {}
        waits = {candidate: self.wait(next_hop(candidate, destination)) for candidate in candidates}
        return {candidate: seconds for candidate, seconds in waits.items() if seconds}

    def put_off(self, name: str) -> Deferred:
        """What becomes of mail for one that may not be dialled: why, and until when."""
        hop, seconds = self._hops.get(name), self.wait(name)
        last = hop.last_fault if hop else _NO_FAULT
        at = time.strftime("%H:%M:%S UTC", time.gmtime(self._clock.now() + seconds))
        answer = reply(450, "4.4.1", printable(f"Next hop is not dialled before {at}; it said last: {last}", 400))
        return Deferred(answer, Fault.HOST, retry_after=seconds)

    def open(self) -> dict[str, float]:
        """Those that are not dialled, with the seconds until one delivery may."""
        return {name: self._hops[name].breaker.left() for name in sorted(self._open)}

    def close(self, name: str) -> None:
        """Dial it again, whatever it did."""
        if name in self._open:
            self._tell(name, self._hops[name].breaker.close())

    @contextmanager
    def visit(self, name: str) -> Iterator[Visit]:
        """Around one attempt; what it brought is learnt at its end."""
        hop = self._hop(name)
        hop.visits += 1
        probe = hop.breaker.begin()
        visit = Visit()
        try:
            yield visit
        finally:
            hop.visits -= 1
            self._learn(name, hop, visit.outcomes, probe=probe)

    def _learn(self, name: str, hop: _Hop, outcomes: Sequence[Outcome], *, probe: bool) -> None:
        faults = [outcome.reply for outcome in outcomes if blames_host(outcome)]
        if faults:
            hop.last_fault = faults[-1]
            hop.window.fault(hop.visits)
        elif any(isinstance(outcome, Delivered | Sent | Failed) for outcome in outcomes):
            hop.window.success()
        fault = len(faults) == len(outcomes) if outcomes else None
        self._tell(name, hop.breaker.end(probe=probe, fault=fault))

    def _tell(self, name: str, change: Change) -> None:
        hop = self._hops[name]
        if change is Change.OPENED:
            self._forget_unasked()
            self._open.add(name)
            self._observer.next_hop_opened(name, hop.breaker.left(), hop.last_fault)
        elif change is Change.CLOSED:
            hop.window = self._new_window()
            self._open.discard(name)
            self._observer.next_hop_closed(name)

    def _hop(self, name: str) -> _Hop:
        hop = self._hops.get(name)
        if hop is None:
            self._make_room()
            breaker = Breaker(self._settings.dead_host_faults, self._clock, self._random)
            hop = self._hops[name] = _Hop(self._new_window(), breaker)
        self._hops.move_to_end(name)
        return hop

    def _make_room(self) -> None:
        if len(self._hops) >= REMEMBERED:
            name = next((name for name, hop in self._hops.items() if not hop.visits), None)
            if name is not None:
                self.close(name)
                del self._hops[name]

    def _forget_unasked(self) -> None:
        """Close those nobody has had mail for since they could be probed, so that they are not shown for ever."""
        for name in [name for name in self._open if self._hops[name].breaker.unasked() > LONGEST]:
            self.close(name)

    def _new_window(self) -> Window:
        return Window(self._settings.destination_concurrency)


def blames_host(outcome: Outcome) -> bool:
    """Whether it says that the host, not the message, is in trouble."""
    if not isinstance(outcome, Deferred):
        return False
    return outcome.fault is Fault.HOST or outcome.reply.code == _SERVICE_CLOSING
