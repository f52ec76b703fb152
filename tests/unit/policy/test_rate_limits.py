"""Which limits a message is under, and what share of them one worker has."""

from __future__ import annotations

from typing import Any

import pytest

from relay.policy.rate_limits import RateLimits
from relay.settings import RateLimitSettings


class Time:
    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 1000.0


def limits(*given: dict[str, Any], workers: int = 1) -> RateLimits:
    tables = [
        RateLimitSettings.model_validate({"name": f"l{n}", "rate": "10/second", **one}) for n, one in enumerate(given)
    ]
    return RateLimits(tables, workers, Time())


def names(found: RateLimits, account: str = "shop", candidate: str = "direct", domain: str = "a.example") -> list[str]:
    return [bucket.name for bucket in found.of(account, candidate, domain)]


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({}, True),
        ({"account": ["bank", "shop"]}, True),
        ({"account": ["bank"]}, False),
        ({"candidate": ["direct"]}, True),
        ({"candidate": ["provider:one"]}, False),
        ({"recipient_domain": ["A.example"]}, True),
        ({"recipient_domain": ["*.example"]}, True),
        ({"recipient_domain": ["*.a.example"]}, False),
        ({"account": ["shop"], "recipient_domain": ["b.example"]}, False),
    ],
)
def test_a_limit_counts_when_all_its_conditions_hold(match, holds):
    assert bool(names(limits({"match": match}))) is holds


def test_a_message_is_under_every_limit_that_matches():
    found = limits({"match": {"account": ["shop"]}}, {"match": {"account": ["bank"]}}, {})
    assert names(found) == ["l0", "l2"]


def test_mail_that_matches_one_limit_shares_its_tokens():
    found = limits({"match": {"recipient_domain": ["*.example"]}})
    [one], [other] = found.of("shop", "direct", "a.example"), found.of("bank", "direct", "b.example")
    one.take()
    assert other.wait() > 0.0


@pytest.mark.parametrize(
    ("rate", "workers", "seconds"),
    [("10/second", 1, 0.1), ("10/second", 4, 0.4), ("30/minute", 1, 2.0), ("60/hour", 2, 120.0)],
)
def test_each_worker_has_its_share_of_the_rate(rate, workers, seconds):
    [bucket] = limits({"rate": rate}, workers=workers).of("shop", "direct", "a.example")
    bucket.take()
    assert bucket.wait() == pytest.approx(seconds)


@pytest.mark.parametrize(("burst", "workers", "at_once"), [(8, 4, 2), (1, 4, 1)])
def test_each_worker_has_its_share_of_the_burst_and_one_at_least(burst, workers, at_once):
    [bucket] = limits({"burst": burst}, workers=workers).of("shop", "direct", "a.example")
    count = 0
    while not bucket.wait():
        bucket.take()
        count += 1
    assert count == at_once


def test_the_share_follows_the_number_of_workers_that_live():
    found = limits({"rate": "10/second"}, workers=2)
    [bucket] = found.of("shop", "direct", "a.example")
    bucket.take()
    assert bucket.wait() == pytest.approx(0.2)
    found.share(1)
    assert bucket.wait() == pytest.approx(0.1)


def test_a_limit_that_keeps_its_name_keeps_what_was_taken():
    found = limits({"burst": 5})
    [bucket] = found.of("shop", "direct", "a.example")
    for _ in range(5):
        bucket.take()
    found.replace([RateLimitSettings.model_validate({"name": "l0", "rate": "20/second", "burst": 5})])
    assert found.of("shop", "direct", "a.example") == (bucket,)
    assert bucket.wait() == pytest.approx(0.05)
    found.replace([])
    assert found.of("shop", "direct", "a.example") == ()
