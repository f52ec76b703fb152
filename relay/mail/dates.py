"""Dates as header fields and SMTP parameters have them. Source: RFC 5322 §3.3, RFC 3339 §5.6."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache


def date_time(at: float) -> str:
    """`at` (seconds since the epoch) as a date-time in UTC: `Wed, 25 Nov 2026 03:21:21 +0000`."""
    return _of_second(int(at))


def timestamp(at: float) -> str:
    """`at` (seconds since the epoch) in UTC, to the second: `2026-11-25T03:21:21Z`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=16)
def _of_second(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC))
