"""Rate limits: the [[limit]] tables as buckets, and which of them a delivery takes from.

Comes in: the tables, the number of workers that share each. Goes out: buckets by account, candidate and domain.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.policy.bucket import Bucket
from relay.policy.routing import any_domain
from relay.ports import Clock
from relay.settings import RateLimitSettings, RateMatchSettings


class RateLimits:
    """The limits of one worker: of each its share, so that all together keep to it."""

    def __init__(self, limits: Sequence[RateLimitSettings], workers: int, clock: Clock) -> None:
        self._clock = clock
        self._workers = workers
        self._limits: list[tuple[RateLimitSettings, Bucket]] = []
        self.replace(limits)

    def replace(self, limits: Sequence[RateLimitSettings]) -> None:
        """Other tables; one that keeps its name keeps its tokens."""
        known = {limit.name: bucket for limit, bucket in self._limits}
        self._limits = [
            (limit, known.get(limit.name) or Bucket(limit.name, limit.per_second, limit.burst, self._clock))
            for limit in limits
        ]
        self.share(self._workers)

    def share(self, workers: int) -> None:
        """So many workers keep to the limits together from now on."""
        self._workers = workers
        for limit, bucket in self._limits:
            bucket.change(limit.per_second / workers, limit.burst / workers)

    def of(self, account: str, candidate: str, domain: str) -> tuple[Bucket, ...]:
        """What a message of `account` to `domain` by `candidate` takes a token from."""
        if not self._limits:
            return ()
        return tuple(bucket for limit, bucket in self._limits if _matches(limit.match, account, candidate, domain))


def _matches(match: RateMatchSettings, account: str, candidate: str, domain: str) -> bool:
    return (
        (not match.account or account in match.account)
        and (not match.candidate or candidate in match.candidate)
        and (not match.recipient_domain or any_domain(match.recipient_domain, domain))
    )
