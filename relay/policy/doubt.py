"""Doubt: what to make of a next hop's answer to "do you have it?", and when to ask again. Pure.

Whom it has was sent to. That it has nothing is believed late, and not for one answer: lists of vendors lag behind what
they took. Where it has others of the same call, that one took it, and who is missing is left to the operator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from relay.ports import Doubt

LONGEST: Final = 3600.0
"""Seconds between two questions, unless the first comes later than that."""
MISSES: Final = 2
"""Answers in a row that know nothing of it."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Asked `after` so many seconds, then twice as long each time, `times` at most; `trust`: the age in seconds of the
    attempt from which it is believed that nothing is there."""

    after: float
    trust: float
    times: int


@dataclass(frozen=True, slots=True)
class Next:
    """About those it does not have. `none`: they are sent to again. `doubt`: they are asked about in `wait` seconds.

    Neither: the operator decides.
    """

    none: bool = False
    doubt: Doubt | None = None
    wait: float = 0.0


def after_answer(
    doubt: Doubt, patience: Patience, now: float, *, found: int, complete: bool, wish: float | None = None
) -> Next:
    """`found`: how many of the call it has; `complete`: it has no others. `wish`: seconds it wants to be left alone."""
    partly = doubt.partly or found > 0
    missed = doubt.missed + 1 if complete and not partly else 0
    learnt = replace(doubt, asked=doubt.asked + 1, missed=missed, partly=partly)
    age = now - doubt.since
    if missed >= MISSES and age >= patience.trust:
        return Next(none=True)
    if learnt.asked >= patience.times:
        return Next()
    wait = min(patience.after * 2**learnt.asked, max(LONGEST, patience.after))
    if age < patience.trust:
        wait = min(wait, max(patience.trust - age, patience.after))
    return Next(doubt=learnt, wait=max(wait, wish or 0.0))
