"""Directives: what a message asks of whoever sends it, in nobody's dialect.

`dialects.py` reads them from header fields; a provider renders them in its own words. Raises DirectiveError for more
than is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from relay.mail.errors import DirectiveError

LONGEST_TAG: Final = 128
MOST_TAGS: Final = 50
MOST_METADATA: Final = 100
METADATA_OCTETS: Final = 16_384


@dataclass(frozen=True, slots=True)
class Directives:
    """`None` and empty mean: not asked for. `send_at` is in seconds since the epoch, `expire` an age in seconds.

    `own`: (dialect, field, value) of what only that dialect's vendor understands.
    """

    tags: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    stream: str = ""
    pool: str = ""
    track_opens: bool | None = None
    track_clicks: bool | None = None
    send_at: float | None = None
    idempotency_key: str = ""
    retry: str = ""
    expire: float | None = None
    own: tuple[tuple[str, str, str], ...] = ()


NO_DIRECTIVES: Final = Directives()


@dataclass(slots=True)
class Draft:
    """Directives being read."""

    tags: dict[str, None] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    own: list[tuple[str, str, str]] = field(default_factory=list)
    rest: Directives = NO_DIRECTIVES

    def add_tags(self, words: Iterable[str]) -> None:
        for word in words:
            if (tag := word.strip()[:LONGEST_TAG]) and len(self.tags) < MOST_TAGS:
                self.tags[tag] = None

    def add_metadata(self, key: str, value: Any) -> None:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        self.metadata[key[:LONGEST_TAG]] = text

    def set(self, **values: Any) -> None:
        self.rest = replace(self.rest, **values)

    def done(self) -> Directives:
        octets = sum(len(key) + len(value) for key, value in self.metadata.items())
        if len(self.metadata) > MOST_METADATA or octets > METADATA_OCTETS:
            raise DirectiveError(f"more metadata than {MOST_METADATA} entries or {METADATA_OCTETS} octets; send less")
        return replace(self.rest, tags=tuple(self.tags), metadata=tuple(self.metadata.items()), own=tuple(self.own))
