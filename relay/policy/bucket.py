"""Bucket: a token bucket. It holds `burst` tokens at most, gains `rate` a second, and a message takes one.

Pure but for the injected clock. Source: RFC 2697 §3 (the committed bucket).
"""

from __future__ import annotations

from relay.ports import Clock


class Bucket:
    """Full at first. Compared by identity: two limits of the same numbers are two limits."""

    __slots__ = ("_burst", "_clock", "_filled_at", "_rate", "_tokens", "name")

    def __init__(self, name: str, rate: float, burst: float, clock: Clock) -> None:
        """`rate` above 0; `burst` below 1 counts as 1, or no message would ever pass."""
        self.name = name
        self._rate = rate
        self._burst = max(1.0, burst)
        self._clock = clock
        self._tokens = self._burst
        self._filled_at = clock.monotonic()

    def change(self, rate: float, burst: float) -> None:
        """Other numbers from now on; the tokens it has are kept."""
        self._fill()
        self._rate = rate
        self._burst = max(1.0, burst)
        self._tokens = min(self._tokens, self._burst)

    def wait(self) -> float:
        """Seconds until there is a token; 0: there is one."""
        self._fill()
        return 0.0 if self._tokens >= 1.0 else (1.0 - self._tokens) / self._rate

    def take(self) -> None:
        """Take a token. Without one it is owed."""
        self._fill()
        self._tokens -= 1.0

    def _fill(self) -> None:
        now = self._clock.monotonic()
        # A trifle more, so that who waited exactly as long as told is not sent away for a rounding error.
        gained = (now - self._filled_at) * self._rate + (1e-9 if now > self._filled_at else 0.0)
        self._tokens = min(self._burst, self._tokens + gained)
        self._filled_at = now
