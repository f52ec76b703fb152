"""Figures: raw measurements of rounds, and the medians and ratios made of them. Pure.

`ratio` is relay / Postfix. Of rates it says how many times faster the relay is (more is better), of CPU seconds how
many times as much it needs (less is better).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Round:
    """One load on one system: `seconds` from the first connection to the last message in the sink, `cpu` seconds of
    all processes of the system. `others`: the share of the machine's CPU time that went to programs outside the bench.
    `dot_ms`: quantiles of the wait for the 250 after the final dot, where known. `peak`: megabytes of the system's
    process that had the most at any moment."""

    case: str
    system: str
    number: int
    messages: int
    seconds: float
    cpu: float
    others: float = 0.0
    dot_ms: dict[str, float] = field(default_factory=dict)
    peak: float = 0.0

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds if self.seconds > 0 else 0.0

    @property
    def cpu_per_1000(self) -> float:
        """CPU seconds for 1,000 messages."""
        return self.cpu * 1000 / self.messages


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, lowest and highest of several figures."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Summary:
    """One system under one case."""

    rate: Spread
    cpu: Spread
    others: Spread
    dot_ms: dict[str, float]
    peak: float = 0.0


def spread(values: Iterable[float]) -> Spread:
    """Raises ValueError for no values."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no figures")
    return Spread(median(ordered), ordered[0], ordered[-1])


def summary(rounds: Sequence[Round], case: str, system: str) -> Summary | None:
    """Of all rounds of this case and system; None when there is none."""
    own = [one for one in rounds if (one.case, one.system) == (case, system)]
    if not own:
        return None
    names = own[0].dot_ms
    dots = {name: median(one.dot_ms[name] for one in own) for name in names}
    return Summary(
        rate=spread(one.rate for one in own),
        cpu=spread(one.cpu_per_1000 for one in own),
        others=spread(one.others for one in own),
        dot_ms=dots,
        peak=max(one.peak for one in own),
    )


def ratio(
    rounds: Sequence[Round], case: str, figure: Callable[[Round], float], mine: str = "relay", other: str = "postfix"
) -> Spread | None:
    """The ratio of the medians, with the lowest and highest ratio of a pair that ran one after the other."""
    values = {
        system: {one.number: figure(one) for one in rounds if (one.case, one.system) == (case, system)}
        for system in (mine, other)
    }
    pairs = [
        values[mine][number] / values[other][number] for number in values[mine] if values[other].get(number, 0.0) > 0
    ]
    if not pairs:
        return None
    return Spread(median(values[mine].values()) / median(values[other].values()), min(pairs), max(pairs))


def faster(rounds: Sequence[Round], mine: str = "relay", other: str = "postfix") -> tuple[int, int]:
    """In how many pairs of rounds that ran one after the other `mine` had the higher rate, and how many there are."""
    rates = {(one.case, one.number, one.system): one.rate for one in rounds}
    pairs = [
        (rate, rates[case, number, other])
        for (case, number, system), rate in rates.items()
        if system == mine and (case, number, other) in rates
    ]
    return sum(first > second for first, second in pairs), len(pairs)
