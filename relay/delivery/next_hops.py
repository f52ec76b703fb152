"""Next hops: what deliveries to each have taught, and so how many may run to it at a time.

Comes in: visits (one candidate, one attempt) and the outcomes they brought. Goes out: `limit` for the scheduler.
Kept for the next hops used last only; one that is forgotten begins anew. No I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from relay.mail.outcome import Deferred, Delivered, Failed, Fault, Outcome, Sent
from relay.policy.window import Window

REMEMBERED: Final = 10_000
_SERVICE_CLOSING: Final = 421  # RFC 5321 §3.8: of the host, in whatever command it is said


@dataclass(slots=True)
class Visit:
    """One attempt at a next hop; without outcomes it was never made."""

    outcomes: tuple[Outcome, ...] = ()


@dataclass(slots=True)
class _Hop:
    window: Window
    visits: int = 0


class NextHops:
    """The next hops of one worker."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._first = Window(most).size
        self._hops: OrderedDict[str, _Hop] = OrderedDict()

    def limit(self, name: str) -> int:
        """How many deliveries may run to it now."""
        hop = self._hops.get(name)
        return hop.window.size if hop else self._first

    @contextmanager
    def visit(self, name: str) -> Iterator[Visit]:
        """Around one attempt; what it brought is learnt at its end."""
        hop = self._hop(name)
        hop.visits += 1
        visit = Visit()
        try:
            yield visit
        finally:
            hop.visits -= 1
            _learn(hop, visit.outcomes)

    def _hop(self, name: str) -> _Hop:
        hop = self._hops.get(name)
        if hop is None:
            self._forget_oldest()
            hop = self._hops[name] = _Hop(Window(self._most))
        self._hops.move_to_end(name)
        return hop

    def _forget_oldest(self) -> None:
        if len(self._hops) >= REMEMBERED:
            name = next((name for name, hop in self._hops.items() if not hop.visits), None)
            if name is not None:
                del self._hops[name]


def _learn(hop: _Hop, outcomes: Iterable[Outcome]) -> None:
    if any(map(blames_host, outcomes)):
        hop.window.fault(hop.visits)
    elif any(isinstance(outcome, Delivered | Sent | Failed) for outcome in outcomes):
        hop.window.success()


def blames_host(outcome: Outcome) -> bool:
    """Whether it says that the host, not the message, is in trouble."""
    if not isinstance(outcome, Deferred):
        return False
    return outcome.fault is Fault.HOST or outcome.reply.code == _SERVICE_CLOSING
