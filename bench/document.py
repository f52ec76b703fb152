"""Document: all figures of a run, as they stand in the JSON file, and back.

Raises ValueError for a file that is no such document.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from bench.backlog import Backlog
from bench.cases import Case
from bench.figures import Round
from bench.history import History
from bench.idle import Idle
from bench.latency import Latency
from bench.machine import Machine


@dataclass(slots=True)
class Document:
    """`versions` by title of the system; what was not measured is empty or None."""

    date: str
    machine: Machine
    versions: dict[str, str] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    latency: list[Latency] = field(default_factory=list)
    backlog: list[Backlog] = field(default_factory=list)
    history: History | None = None
    features: list[Round] = field(default_factory=list)
    idle: list[Idle] = field(default_factory=list)

    def all_rounds(self) -> list[Round]:
        """Of whatever part."""
        return [*self.rounds, *(self.history.rounds if self.history else ()), *self.features]


def to_json(document: Document) -> str:
    return json.dumps(dataclasses.asdict(document), indent=1) + "\n"


def from_json(text: str) -> Document:
    try:
        found: dict[str, Any] = json.loads(text)
        history = found.get("history")
        return Document(
            date=found["date"],
            machine=Machine(**found["machine"]),
            versions=found["versions"],
            cases=[Case(**one) for one in found["cases"]],
            rounds=[Round(**one) for one in found["rounds"]],
            latency=[Latency(**one) for one in found["latency"]],
            backlog=[_backlog(one) for one in found["backlog"]],
            history=history and History(**{**history, "rounds": [Round(**one) for one in history["rounds"]]}),
            features=[Round(**one) for one in found["features"]],
            idle=[Idle(**one) for one in found["idle"]],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not figures of this bench: {error}") from error


def _backlog(found: dict[str, Any]) -> Backlog:
    return Backlog(**{**found, "progress": [(seconds, count) for seconds, count in found["progress"]]})
