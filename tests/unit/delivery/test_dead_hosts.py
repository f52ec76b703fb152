"""Mail for a next hop that gives no session: not dialled again and again, not lost, and not kept for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from delivery_kit import START, YES, FakeTransport, Setting, everybody, route, run, settings, until

from relay.mail.outcome import Deferred, Fault
from relay.mail.reply import reply

DOWN = Deferred(reply(451, "4.4.1", "Connection refused"), Fault.HOST)


def setting(folder: Path, *via: str, **sections: object) -> Setting:
    delivery = {"dead_host_faults": 3, "destination_concurrency": 1}
    given = settings(route=[route(*via)], delivery=delivery, **sections)
    return Setting(folder, given, {name: FakeTransport() for name in via})


async def killed(one: Setting, via: str) -> None:
    """Three messages find the host dead."""
    one.transports[via].answer = everybody(DOWN)
    for _ in range(3):
        await one.accept("x@dead.example")
    await one.idle()


def test_after_some_faults_in_a_row_mail_is_put_off_without_dialling_or_using_up_an_attempt(tmp_path):
    async def scene():
        async with setting(tmp_path, "direct") as one:
            await killed(one, "direct")
            assert one.heard.hops == [("opened", "direct:dead.example")]
            late = await one.accept("x@dead.example")
            await one.idle()
            assert len(one.transports["direct"].requests) == 3
            waiting = await one.recipient(late)
            assert (waiting["state"], waiting["attempts"]) == ("deferred", 0)
            [told] = [event for event in one.heard.events if event.message_id == late]
            assert told.reply == (
                "450 4.4.1 Next hop is not dialled before 08:00:26 UTC; it said last: 451 4.4.1 Connection refused"
            )
            [seconds] = one.engine.open_hops().values()
            assert 25 < seconds < 35

    run(scene())


def test_another_destination_is_dialled_all_the_while(tmp_path):
    async def scene():
        async with setting(tmp_path, "direct") as one:
            await killed(one, "direct")
            one.transports["direct"].answer = everybody(YES)
            other = await one.accept("x@alive.example")
            await one.idle()
            assert await one.states(other) == ["delivered"]

    run(scene())


def test_one_probe_finds_that_it_answers_again_and_then_all_goes_out(tmp_path):
    async def scene():
        async with setting(tmp_path, "direct") as one:
            await killed(one, "direct")
            ids = [await one.accept("x@dead.example") for _ in range(20)]
            await one.idle()
            one.transports["direct"].answer = everybody(YES)
            one.feed()
            await one.run_out(3600.0)
            assert one.heard.hops == [("opened", "direct:dead.example"), ("closed", "direct:dead.example")]
            assert [await one.states(message_id) for message_id in ids] == [["delivered"]] * 20
            assert one.engine.open_hops() == {}

    run(scene())


def test_a_probe_that_fails_costs_one_message_an_attempt_and_the_others_nothing(tmp_path):
    async def scene():
        async with setting(tmp_path, "direct") as one:
            await killed(one, "direct")
            ids = [await one.accept("x@dead.example") for _ in range(20)]
            await one.idle()
            one.feed()
            await one.advance_to(START + 60.0)
            await until(lambda: len(one.transports["direct"].requests) > 3)
            await one.idle()
            attempts = [(await one.recipient(message_id))["attempts"] for message_id in ids]
            assert len(one.transports["direct"].requests) == 4
            assert sum(attempts) <= 1

    run(scene())


def test_the_next_candidate_carries_the_mail_of_a_dead_one_without_dialling_it(tmp_path):
    async def scene():
        async with setting(tmp_path, "smarthost:one", "smarthost:two") as one:
            await killed(one, "smarthost:one")
            one.heard.attempts.clear()
            message_id = await one.accept("x@dead.example")
            await one.idle()
            assert one.heard.attempts == ["smarthost:two"]
            assert await one.states(message_id) == ["delivered"]

    run(scene())


def test_mail_for_a_host_that_stays_dead_ends_and_its_sender_is_told(tmp_path):
    async def scene():
        async with setting(tmp_path, "direct", retry={"sendarix": {"delays": [30, 300, 1800]}}) as one:
            one.transports["direct"].answer = everybody(DOWN)
            ids = [await one.accept("x@dead.example", reverse_path="a@dead.example") for _ in range(30)]
            one.feed()
            await one.run_out(86_400.0)
            assert {state for message_id in ids for state in await one.states(message_id)} == {"bounced"}
            assert len(one.heard.notices) == 30
            assert len(one.transports["direct"].requests) < 60

    run(scene())


def test_a_route_at_fault_is_not_a_dead_host(tmp_path):
    async def scene():
        async with setting(tmp_path, "smarthost:one") as one:
            one.transports["smarthost:one"].answer = everybody(Deferred(reply(450, "4.7.8", "Key"), Fault.ROUTE))
            for _ in range(5):
                await one.accept()
                await one.idle()
                one.engine.resume("smarthost:one")
            assert one.engine.open_hops() == {}

    run(scene())


def test_the_operator_can_have_it_dialled_at_once(tmp_path):
    async def scene():
        async with setting(tmp_path, "direct") as one:
            await killed(one, "direct")
            one.engine.resume("direct:dead.example")
            one.transports["direct"].answer = everybody(YES)
            message_id = await one.accept("x@dead.example")
            await one.idle()
            assert await one.states(message_id) == ["delivered"]

    run(scene())


@pytest.mark.parametrize("outcome", [DOWN, Deferred(reply(450, "4.7.8", "Key"), Fault.ROUTE)])
def test_what_was_read_from_the_spool_before_it_ended_or_was_put_off_is_left_alone(tmp_path, outcome):
    async def scene():
        async with setting(tmp_path, "smarthost:one") as one:
            early = await one.accept(submit=False)
            put_off = await one.accept(submit=False)
            stale = await one.spool.due(0.0, START, 10)
            for message in stale[:1]:
                one.offer(message)
            await one.idle()
            one.transports["smarthost:one"].answer = everybody(outcome)
            for _ in range(3):
                await one.accept()
            one.offer(stale[1])
            await one.idle()
            before = await one.recipient(put_off)
            assert one.engine.open_hops() or one.engine.paused()
            for message in stale:
                one.offer(message)
            await one.idle()
            assert await one.recipient(put_off) == before
            assert one.heard.kinds(early) == ["delivered"]
            assert one.heard.kinds(put_off) == ["deferred"]

    run(scene())
