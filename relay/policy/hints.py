"""Wishes that peers put into the text of a temporary reply: "try again in 5 minutes".

In: reply text, already printable. Out: seconds, or None. Never raises, never clamps: bounds are the retry policy's.
"""

from __future__ import annotations

import re
from typing import Final

# Every quantifier is bounded and none is nested, so hostile text costs linear time.
_WISH: Final = re.compile(
    r"\b(?:again|retry|wait|gr[ae]ylist(?:ed|ing)?|delay(?:ed)?|deferred|blocked|throttled)\b"
    r"[^0-9]{0,40}\b([0-9]{1,5})[ ]?(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)\b",
    re.IGNORECASE,
)
_UNIT: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST: Final = 86_400.0


def retry_after(text: str) -> float | None:
    """Seconds after which the peer wants to be asked again, or None where `text` names no time up to one day."""
    match = _WISH.search(text)
    if match is None:
        return None
    seconds = int(match[1]) * _UNIT[match[2][0].lower()]
    return seconds if 0 < seconds <= _LONGEST else None
