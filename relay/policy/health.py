"""Health: a provider that takes mail and never tells what became of it is found out by its silence.

Comes in: what a watched candidate took, and every later report of it. Goes out: candidates that rest, and what to make
of a message whose report is overdue. Silence: SILENT_AFTER messages are overdue, and no report came of one that went
after them. One message each `within` seconds still goes there; its report ends the silence. Pure but for the injected
clock; begins anew with the process.
Source: M. Nygard, Release It!, "Circuit Breaker", fed by outcomes instead of answers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from relay.ports import Clock

SILENT_AFTER: Final = 5
REMEMBERED: Final = 20_000
_NEVER: Final = float("-inf")


class Watch(NamedTuple):
    """A candidate reports on what it took `within` seconds. `doubt`: what it does not report on is in doubt."""

    within: float
    doubt: bool = False


class Observer(Protocol):
    """Must not raise."""

    def provider_silent(self, candidate: str, seconds: float) -> None: ...

    def provider_heard(self, candidate: str) -> None: ...


@dataclass(slots=True)
class _Watched:
    watch: Watch
    since: float
    fresh: OrderedDict[str, float] = field(default_factory=OrderedDict)  # message ids, and when they went
    overdue: OrderedDict[str, float] = field(default_factory=OrderedDict)
    reported: OrderedDict[str, None] = field(default_factory=OrderedDict)
    latest: float = _NEVER  # when the newest message went that was reported
    probe_at: float | None = None  # while it is silent


class Health:
    """The watched candidates of one worker."""

    def __init__(self, watches: Mapping[str, Watch], clock: Clock, observer: Observer) -> None:
        self._clock = clock
        self._observer = observer
        self._watched: dict[str, _Watched] = {}
        self.reconfigure(watches)

    def reconfigure(self, watches: Mapping[str, Watch]) -> None:
        """Watch these from now on; what is known of one that is watched already is kept."""
        for name in self._watched.keys() - watches.keys():
            self.resume(name)
            del self._watched[name]
        for name, watch in watches.items():
            self._watched.setdefault(name, _Watched(watch, self._clock.monotonic())).watch = watch

    def owes_report(self, candidate: str) -> float | None:
        """Seconds for which what it takes is not believed to be sent; None: it is believed at once."""
        watched = self._watched.get(candidate)
        return watched.watch.within if watched is not None and watched.watch.doubt else None

    def took(self, candidate: str, message_id: str) -> None:
        """It answered that it took the message."""
        watched = self._watched.get(candidate)
        if watched is not None:
            watched.overdue.pop(message_id, None)
            watched.reported.pop(message_id, None)
            watched.fresh[message_id] = self._clock.monotonic()
            watched.fresh.move_to_end(message_id)
            if len(watched.fresh) > REMEMBERED:
                watched.fresh.popitem(last=False)

    def reported(self, message_id: str) -> None:
        """Something was told of the message, whatever it was."""
        for name, watched in self._watched.items():
            at = watched.fresh.pop(message_id, None) or watched.overdue.pop(message_id, None)
            if at is not None:
                watched.reported[message_id] = None
                if len(watched.reported) > REMEMBERED:
                    watched.reported.popitem(last=False)
                watched.latest = max(watched.latest, at)
                while watched.overdue and next(iter(watched.overdue.values())) <= watched.latest:
                    watched.overdue.popitem(last=False)
                if not watched.overdue:
                    self.resume(name)

    def resting(self, candidates: Sequence[str], *, probe: bool = True) -> frozenset[str]:
        """Those that are silent and shall not be asked now. With `probe` this call is the turn of one that may be."""
        return frozenset(name for name in candidates if name in self._watched and self._rests(name, probe=probe))

    def silent(self) -> dict[str, float]:
        """Candidates that are silent, with the seconds until the next probe."""
        now = self._clock.monotonic()
        return {
            name: max(0.0, watched.probe_at - now)
            for name, watched in sorted(self._watched.items())
            if watched.probe_at is not None
        }

    def resume(self, candidate: str) -> None:
        """It reports again, or shall be tried as if it did."""
        watched = self._watched.get(candidate)
        if watched is not None and watched.probe_at is not None:
            watched.probe_at = None
            watched.overdue.clear()
            self._observer.provider_heard(candidate)

    def judge(self, candidate: str, message_id: str) -> float | bool:
        """Of a message it took: True, it was sent; False, it is in doubt; else the seconds to go on waiting."""
        watched = self._watched.get(candidate)
        if watched is None or message_id in watched.reported:
            return True
        self._sweep(candidate, watched)
        # What an earlier process sent waits as long as if this one had.
        at = watched.fresh.get(message_id) or watched.overdue.get(message_id) or watched.since
        left = at + watched.watch.within - self._clock.monotonic()
        if left > 0:
            return left
        if at > watched.latest:
            self._silence(candidate, watched)
        return False

    def _rests(self, name: str, *, probe: bool) -> bool:
        watched, now = self._watched[name], self._clock.monotonic()
        self._sweep(name, watched)
        if watched.probe_at is None:
            return False
        if now < watched.probe_at or not probe:
            return True
        watched.probe_at = now + watched.watch.within
        return False

    def _sweep(self, name: str, watched: _Watched) -> None:
        """What has become overdue since the last look, and after which nothing was reported."""
        before = self._clock.monotonic() - watched.watch.within
        while watched.fresh and next(iter(watched.fresh.values())) <= before:
            message_id, at = watched.fresh.popitem(last=False)
            if at > watched.latest:
                watched.overdue[message_id] = at
        while len(watched.overdue) > REMEMBERED:
            watched.overdue.popitem(last=False)
        if len(watched.overdue) >= SILENT_AFTER:
            self._silence(name, watched)

    def _silence(self, name: str, watched: _Watched) -> None:
        if watched.probe_at is None:
            watched.probe_at = self._clock.monotonic() + watched.watch.within
            self._observer.provider_silent(name, watched.watch.within)
