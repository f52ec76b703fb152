"""Dates as header fields have them. Source: RFC 5322 §3.3."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache


def date_time(at: float) -> str:
    """`at` (seconds since the epoch) as a date-time in UTC: `Wed, 25 Nov 2026 03:21:21 +0000`."""
    return _of_second(int(at))


@lru_cache(maxsize=16)
def _of_second(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC))
