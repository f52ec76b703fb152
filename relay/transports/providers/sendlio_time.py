"""When a campaign of Sendlio runs: a minute of a day in the company's time zone, by a clock of twelve hours.

In: seconds since the epoch, a zone. Out: the campaign's fields. Raises ValueError for a zone nobody knows. Pure.
Source: seeds/sendlio.txt (schedule_hour, schedule_min, schedule_meridian, send_date).
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def zone(name: str) -> ZoneInfo:
    """Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone {name!r}; write one such as America/New_York (package tzdata)") from None


def next_minute(moment: float, where: ZoneInfo) -> dict[str, Any]:
    """The first minute that begins no earlier. A minute that the clock shows twice is waited out."""
    local = datetime.fromtimestamp(math.ceil(moment / 60) * 60, where)
    while local.fold:
        local = datetime.fromtimestamp(local.timestamp() + 600, where)
    return {
        "send_date": f"{local:%Y-%m-%d}",
        "schedule_hour": local.hour % 12 or 12,
        "schedule_min": local.minute,
        "schedule_meridian": "am" if local.hour < 12 else "pm",
    }
