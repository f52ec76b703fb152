"""Ledger: whether every message reached the sink exactly once. Any doubt is a problem, and a problem fails the run."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

_MESSAGE_ID: Final = re.compile(rb"^Message-Id: *(<[^>]*>)", re.IGNORECASE | re.MULTILINE)
_SIGNATURE: Final = re.compile(rb"^DKIM-Signature:", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the sink has kept: how often each Message-ID came, and how many DKIM signatures."""

    arrivals: Counter[bytes] = field(default_factory=Counter)
    signatures: int = 0


def read(dump: bytes) -> Ledger:
    """The ledger of messages as smtp-sink wrote them, one after another."""
    return Ledger(Counter(_MESSAGE_ID.findall(dump)), len(_SIGNATURE.findall(dump)))


def ledger_problems(ledger: Ledger, sent: int, *, signed: bool) -> list[str]:
    """What is wrong with `sent` messages of different Message-IDs; empty when each came once."""
    problems = []
    doubled = sum(times - 1 for times in ledger.arrivals.values())
    lost = sent - len(ledger.arrivals)
    if lost > 0:
        problems.append(f"{lost} of {sent} messages lost")
    if lost < 0:
        problems.append(f"{-lost} messages more than the {sent} sent")
    if doubled:
        problems.append(f"{doubled} of {sent} messages delivered again")
    wanted = sent if signed else 0
    if ledger.signatures != wanted:
        problems.append(f"{ledger.signatures} DKIM signatures instead of {wanted}")
    return problems


def count_problems(counted: int, sent: int) -> list[str]:
    """The same for a round of which only the number is known."""
    if counted == sent:
        return []
    return [f"{counted} messages reached the sink instead of {sent}"]
