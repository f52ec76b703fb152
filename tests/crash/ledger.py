"""The two ledgers: what the clients were told, and what the next hop holds. Independent of each other and of the relay.

`reconcile` compares them. Times are of the monotonic clock, which the harness alone reads.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class ClientLedger:
    """What became of each recipient at the front door: tried, then acknowledged, refused, or unknown (no answer)."""

    tried: dict[str, float] = field(default_factory=dict)
    acknowledged: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, book: str, recipients: list[str], fact: object = None) -> None:
        with self.lock:
            entries = getattr(self, book)
            for recipient in recipients:
                entries[recipient] = time.monotonic() if fact is None else fact


@dataclass(frozen=True)
class Copy:
    """One copy that the next hop took. `answered`: its 250 was sent."""

    at: float
    intact: bool
    answered: bool


@dataclass
class SinkLedger:
    """Copies by recipient, written before the answer."""

    copies: defaultdict[str, list[Copy]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class Verdict:
    """What does not add up; all empty is the promise kept."""

    acknowledged: int
    lost: list[str]
    phantoms: list[str]
    damaged: list[str]
    unexplained: list[str]
    explained: int

    @property
    def kept(self) -> bool:
        return not (self.lost or self.phantoms or self.damaged or self.unexplained)

    def __str__(self) -> str:
        return (
            f"acknowledged {self.acknowledged}, lost {len(self.lost)}, phantom {len(self.phantoms)},"
            f" damaged {len(self.damaged)}, doubled without a reason {len(self.unexplained)},"
            f" doubled for a lost answer {self.explained}"
        )


def reconcile(client: ClientLedger, sink: SinkLedger, kills: list[float], reach: float = 2.0) -> Verdict:
    """A second copy is explained where the answer to an earlier one was lost: by the next hop, or in a kill that came
    within `reach` seconds after it."""
    lost = [recipient for recipient in client.acknowledged if not sink.copies.get(recipient)]
    phantoms = [recipient for recipient in client.refused if sink.copies.get(recipient)]
    damaged = [recipient for recipient, copies in sink.copies.items() if not all(copy.intact for copy in copies)]
    unexplained, explained = [], 0
    for recipient, copies in sink.copies.items():
        for copy in copies[:-1]:
            if not copy.answered or any(copy.at - 0.1 <= kill <= copy.at + reach for kill in kills):
                explained += 1
            else:
                unexplained.append(recipient)
    return Verdict(len(client.acknowledged), lost, phantoms, damaged, unexplained, explained)
