"""Mail under a rate limit waits its turn: in the scheduler without a place, in the engine without an attempt."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

from delivery_kit import START, FakeTransport, ManualClock, Setting, route, run, settings, until

from relay.delivery.job import InFlight, Job, plan
from relay.delivery.scheduler import Scheduler
from relay.mail.envelope import Envelope, Recipient
from relay.policy.bucket import Bucket
from relay.policy.rate_limits import RateLimits
from relay.ports import QueuedMessage, QueuedRecipient
from relay.settings import RateLimitSettings, RouteSettings

DIRECT = RouteSettings(name="direct", via=("direct",))


def message(*addresses: str, account: str = "acme") -> QueuedMessage:
    recipients = tuple(map(Recipient, addresses))
    due = tuple(QueuedRecipient(n, one, 0, 1.0) for n, one in enumerate(recipients))
    return QueuedMessage("0" * 16, account, "app", Envelope("a@b.example", recipients), 10, 1.0, (), due)


def job(*limits: Bucket, account: str = "acme", domain: str = "a.example") -> Job:
    one = message(f"x@{domain}", account=account)
    return Job(InFlight(one, b""), one.due, DIRECT, domain, limits)


def scheduler_of(*jobs: Job, concurrency: int = 10) -> Scheduler:
    scheduler = Scheduler(concurrency, lambda queue: 10)
    for one in jobs:
        scheduler.add(one)
    return scheduler


def test_what_a_limit_holds_back_takes_no_place_and_lets_others_by():
    bucket = Bucket("x", 1.0, 1, ManualClock())
    held = [job(bucket, account="bulk") for _ in range(5)]
    free = [job(account="shop"), job(domain="b.example")]
    scheduler = scheduler_of(*held, *free, concurrency=3)
    started = [scheduler.pop() for _ in range(3)]
    assert held[0] in started
    assert set(map(id, free)) <= set(map(id, started))
    for one in started:
        scheduler.release(one)
    assert scheduler.pop() is None
    assert scheduler.running == 0
    assert scheduler.seconds == 1.0


def test_a_next_hop_all_of_whose_mail_is_held_back_does_not_hide_the_next_one():
    bucket = Bucket("x", 1.0, 1, ManualClock())
    bucket.take()
    free = job(domain="b.example")
    scheduler = scheduler_of(job(bucket), free)
    assert scheduler.pop() is free


def test_what_was_held_back_goes_when_there_is_a_token_again():
    clock = ManualClock()
    bucket = Bucket("x", 0.5, 1, clock)
    scheduler = scheduler_of(job(bucket), job(bucket))
    assert scheduler.pop() is not None
    assert scheduler.pop() is None
    clock.time += scheduler.seconds
    scheduler.wake()
    assert scheduler.pop() is not None
    assert (scheduler.pop(), scheduler.seconds) == (None, math.inf)


def test_a_job_waits_for_the_slowest_of_its_limits_and_takes_from_each():
    clock = ManualClock()
    quick, slow = Bucket("quick", 10.0, 1, clock), Bucket("slow", 0.1, 1, clock)
    scheduler = scheduler_of(job(quick, slow), job(quick, slow))
    assert scheduler.pop() is not None
    assert scheduler.pop() is None
    assert scheduler.seconds == 10.0
    assert quick.wait() > 0.0


def test_accounts_take_turns_at_the_tokens_they_share():
    clock = ManualClock()
    bucket = Bucket("x", 1.0, 1, clock)
    scheduler = scheduler_of(*(job(bucket, account="bulk") for _ in range(9)), job(bucket, account="shop"))
    accounts = []
    for _ in range(3):
        accounts.append(scheduler.pop().message.account)
        clock.time += 1.0
        scheduler.wake()
    assert accounts == ["bulk", "shop", "bulk"]


def test_what_is_removed_while_held_back_does_not_go():
    bucket = Bucket("x", 1.0, 1, ManualClock())
    bucket.take()
    scheduler = scheduler_of(job(bucket))
    assert scheduler.pop() is None
    assert len(scheduler.remove(lambda one: True)) == 1
    scheduler.wake()
    assert scheduler.pop() is None


def test_recipients_under_different_limits_do_not_wait_for_each_other():
    table = RateLimitSettings.model_validate(
        {"name": "x", "rate": "1/hour", "match": {"recipient_domain": ["slow.example"]}}
    )
    limits = RateLimits([table], 1, ManualClock())
    one = message("a@slow.example", "b@x.example", "c@slow.example", "d@y.example")
    provider = RouteSettings(name="provider", via=("provider:one",))
    jobs = plan(InFlight(one, b""), one.due, [provider], limits.of)
    assert [[waiting.index for waiting in found.recipients] for found in jobs] == [[0, 2], [1, 3]]
    assert [len(found.limits) for found in jobs] == [1, 0]


def setting(folder: Path, *limits: dict[str, Any]) -> Setting:
    given = settings(route=[route("direct")], limit=limits, server={"hostname": "relay.example", "workers": 2})
    return Setting(folder, given, {"direct": FakeTransport()})


def test_mail_beyond_the_rate_goes_later_in_order_without_an_attempt_and_other_mail_at_once(tmp_path):
    async def scene():
        match = {"recipient_domain": ["slow.example"]}
        async with setting(tmp_path, {"name": "slow", "rate": "100/second", "burst": 4, "match": match}) as one:
            direct = one.transports["direct"]
            slow = [await one.accept("x@slow.example") for _ in range(5)]
            quick = [await one.accept("x@quick.example") for _ in range(5)]
            await until(lambda: len(direct.requests) == 7)
            await asyncio.sleep(0.05)
            assert [request.message_id for request in direct.requests if request.message_id in slow] == slow[:2]
            assert {request.message_id for request in direct.requests} == {*slow[:2], *quick}
            assert (await one.recipient(slow[2]))["attempts"] == 0
            for number in (3, 4, 5):
                one.clock.time += 0.021
                await until(lambda number=number: len(direct.requests) == 5 + number)
            await one.idle()
            assert [request.message_id for request in direct.requests if request.message_id in slow] == slow
            assert one.clock.time < START + 1.0

    run(scene())


def test_a_stop_does_not_wait_for_a_token(tmp_path):
    async def scene():
        async with setting(tmp_path, {"name": "all", "rate": "1/hour"}) as one:
            for _ in range(3):
                await one.accept()
            await until(lambda: len(one.heard.events) == 1)
            await one.engine.stop(5.0)
            assert len(one.transports["direct"].requests) == 1

    run(scene())


def test_a_smarthosts_own_rate_holds_its_mail_back(tmp_path):
    async def scene():
        smarthosts = {"b": {"host": "b.example", "rate": "1/hour"}}
        given = settings(route=[route("smarthost:b")], smarthost=smarthosts)
        async with Setting(tmp_path, given, {"smarthost:b": FakeTransport()}) as one:
            for _ in range(3):
                await one.accept()
            await until(lambda: len(one.heard.events) == 1)
            await asyncio.sleep(0.05)
            assert len(one.transports["smarthost:b"].requests) == 1
            await one.engine.stop(5.0)

    run(scene())
