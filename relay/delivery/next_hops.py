"""Next hops: what deliveries to each have taught: how many may run to it at a time, and whether to dial it at all.

Comes in: visits (one candidate, one attempt) and the outcomes they brought. Goes out: `limit` for the scheduler,
`wait` for the engine, and a word to the observer when a next hop opens (is not dialled any more) or closes again.
Domains whose mail goes to the same hosts are one next hop, under the name of the hosts, once that is known.
Kept for the next hops used last only; one that is forgotten begins anew. No I/O.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from relay.delivery.job import next_hop
from relay.delivery.observer import Observer
from relay.mail.outcome import Deferred, Delivered, Failed, Fault, Outcome, Sent
from relay.mail.reply import Reply, printable, reply
from relay.policy.breaker import LONGEST, Breaker, Change
from relay.policy.window import FIRST, Window
from relay.ports import Clock, Random
from relay.settings import Settings

REMEMBERED: Final = 10_000
_NO_FAULT: Final = reply(451, "4.4.1", "No answer")
_SERVICE_CLOSING: Final = 421  # RFC 5321 §3.8; some say it of one recipient or sender, so it opens no breaker


@dataclass(slots=True)
class Visit:
    """One attempt at a next hop; without outcomes it was never made. `probe`: of one that is not dialled otherwise."""

    name: str
    probe: bool
    ended: Callable[[Visit], None]
    outcomes: tuple[Outcome, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.ended(self)


@dataclass(slots=True)
class _Hop:
    window: Window
    breaker: Breaker
    visits: int = 0
    last_fault: Reply = _NO_FAULT


class NextHops:
    """The next hops of one worker."""

    def __init__(self, settings: Settings, clock: Clock, random: Random, observer: Observer) -> None:
        self._settings = settings.delivery
        self._most = _most(settings)
        self._clock = clock
        self._random = random
        self._observer = observer
        self._hops: OrderedDict[str, _Hop] = OrderedDict()
        self._open: set[str] = set()
        self._hosts: OrderedDict[str, str] = OrderedDict()

    def hosts(self, name: str) -> str:
        """The name under which a next hop is known: of its hosts, or its own."""
        return self._hosts.get(name, name)

    def goes_to(self, name: str, hosts: str) -> None:
        """A next hop shares what is learnt with all that go to `hosts`; `""`: with none."""
        if not hosts:
            self._hosts.pop(name, None)
            return
        if self._hosts.get(name) != hosts:
            self._hosts[name] = hosts
            if len(self._hosts) > REMEMBERED:
                self._hosts.popitem(last=False)
        else:
            self._hosts.move_to_end(name)

    def reconfigure(self, settings: Settings) -> None:
        """Other limits from now on; what was learnt is kept."""
        self._settings = settings.delivery
        self._most = _most(settings)
        for name, hop in self._hops.items():
            hop.window.limit_to(self._most_to(name))
            hop.breaker.open_after(self._settings.dead_host_faults)

    def limit(self, hosts: str) -> int:
        """How many deliveries may run to it now. `hosts` as `hosts` gives it."""
        hop = self._hops.get(hosts)
        if hop is None:
            return min(FIRST, self._most_to(hosts))
        # Jobs of one that is open do not dial it: they are put off, or go by their next candidate.
        return self._most_to(hosts) if hop.breaker.is_open else hop.window.size

    def _most_to(self, hosts: str) -> int:
        return self._most.get(hosts, self._settings.destination_concurrency)

    def wait(self, name: str) -> float:
        """Seconds until a delivery may dial it; 0: now."""
        name = self.hosts(name)
        return self._hops[name].breaker.left() if name in self._open else 0.0

    def waits(self, candidates: Sequence[str], destination: str) -> dict[str, float]:
        """Candidates that may not be dialled, with the seconds until they may."""
        if not self._open:
            return {}
        waits = {candidate: self.wait(next_hop(candidate, destination)) for candidate in candidates}
        return {candidate: seconds for candidate, seconds in waits.items() if seconds}

    def put_off(self, name: str) -> Deferred:
        """What becomes of mail for one that may not be dialled: why, and until when."""
        hop, seconds = self._hops.get(self.hosts(name)), self.wait(name)
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

    def visit(self, name: str) -> Visit:
        """Around one attempt; what it brought is learnt at its end."""
        name = self.hosts(name)
        hop = self._hop(name)
        hop.visits += 1
        return Visit(name, hop.breaker.begin(), self._learn)

    def _learn(self, visit: Visit) -> None:
        name, outcomes = visit.name, visit.outcomes
        hop = self._hops[name]
        hop.visits -= 1
        slowed = answered = False
        for outcome in outcomes:
            if slows_down(outcome):
                slowed, hop.last_fault = True, outcome.reply
            elif isinstance(outcome, (Delivered, Sent, Failed)):
                answered = True
        if slowed:
            hop.window.fault(hop.visits)
        elif answered:
            hop.window.success()
        fault = all(map(gave_no_session, outcomes)) if outcomes else None
        self._tell(name, hop.breaker.end(probe=visit.probe, fault=fault))

    def _tell(self, name: str, change: Change) -> None:
        hop = self._hops[name]
        if change is Change.OPENED:
            self._forget_unasked()
            self._open.add(name)
            self._observer.next_hop_opened(name, hop.breaker.left(), hop.last_fault)
        elif change is Change.CLOSED:
            hop.window = Window(self._most_to(name))
            self._open.discard(name)
            self._observer.next_hop_closed(name)

    def _hop(self, name: str) -> _Hop:
        hop = self._hops.get(name)
        if hop is None:
            self._make_room()
            breaker = Breaker(self._settings.dead_host_faults, self._clock, self._random)
            hop = self._hops[name] = _Hop(Window(self._most_to(name)), breaker)
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


def _most(settings: Settings) -> dict[str, int]:
    """Where it is not `delivery.destination_concurrency`. Workers share the connections of a smarthost."""
    sites = {f"mx:{name}": site.concurrency for name, site in settings.site.items() if site.concurrency}
    ceiling, workers = settings.delivery.destination_concurrency, settings.server.worker_count
    smarthosts = {
        f"smarthost:{name}": min(ceiling, max(1, one.connections // workers))
        for name, one in settings.smarthost.items()
        if one.connections
    }
    return sites | smarthosts


def gave_no_session(outcome: Outcome) -> bool:
    """Whether it says that the host, not the message, is in trouble."""
    return isinstance(outcome, Deferred) and outcome.fault is Fault.HOST


def slows_down(outcome: Outcome) -> bool:
    """Whether fewer deliveries at a time are due: no session, or one that the host ended."""
    return gave_no_session(outcome) or (isinstance(outcome, Deferred) and outcome.reply.code == _SERVICE_CLOSING)
