"""The feeder: what is due comes, whatever the clock, the window, the store or another destination does."""

from __future__ import annotations

import asyncio
import math

import pytest
from delivery_kit import START, YES, FakeTransport, Setting, addresses, route, run, settings, until

from relay.delivery import feeder as feeder_module
from relay.delivery.job import InFlight, plan
from relay.mail.errors import StoreError
from relay.mail.outcome import Deferred, Failed
from relay.mail.reply import reply
from relay.ports import DeliveryReport
from relay.store.spool_verbs import Act, Selection, Verb

LATER = Deferred(reply(451, "4.2.1", "Try again"))
ELSEWHERE = Failed(reply(550, "5.7.1", "Not through here"), elsewhere=True)


def setting(tmp_path, **sections):
    return Setting(tmp_path / "spool", settings(route=[route("direct")], **sections), {"direct": FakeTransport()})


def everybody_but(slow: str, gate: asyncio.Event):
    """Mail for one domain hangs until the gate opens; the rest goes at once."""

    async def answer(request, content):
        if request.destination == slow:
            await gate.wait()
        return DeliveryReport(dict.fromkeys(addresses(request), YES))

    return answer


def delivered(one: Setting) -> set[str]:
    return {event.message_id for event in one.heard.events if event.kind.value == "delivered"}


def test_a_start_brings_what_an_earlier_run_left(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            ids = [await one.accept(submit=False) for _ in range(30)]
            one.feed()
            await until(lambda: delivered(one) == set(ids))

    run(scene())


def test_a_deferral_comes_back_when_it_is_due_and_not_before(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            direct = one.transports["direct"]
            direct.answer = lambda request, content: DeliveryReport({"c@d.example": LATER})
            message_id = await one.accept()
            await one.idle()
            due = await one.spool.next_due_at(0.0)
            direct.answer = lambda request, content: DeliveryReport({"c@d.example": YES})
            one.feed()
            await one.advance_to(due - 0.001)
            await until(one._has_looked)
            assert len(direct.requests) == 1
            await one.advance_to(due)
            await until(lambda: delivered(one) == {message_id})

    run(scene())


def test_the_feeder_is_awake_when_the_next_deferral_is_due(tmp_path):
    """No one has to tell it: it sleeps until then by itself."""

    async def scene():
        async with setting(
            tmp_path, retry={"quick": {"delays": [0.05], "jitter": 0}}, delivery={"retry": "quick"}
        ) as one:
            direct = one.transports["direct"]
            direct.answer = lambda request, content: DeliveryReport({"c@d.example": LATER})
            one.feed()
            await until(one._has_looked)
            message_id = await one.accept()
            await until(lambda: one.heard.events)
            direct.answer = lambda request, content: DeliveryReport({"c@d.example": YES})
            one.clock.time += 0.05
            await until(lambda: delivered(one) == {message_id}, seconds=2.0)

    run(scene())


def test_a_queue_longer_than_one_read_is_walked_along(tmp_path, monkeypatch):
    async def scene():
        monkeypatch.setattr(feeder_module, "_LARGEST_READ", 5)
        async with setting(tmp_path) as one:
            gate = asyncio.Event()
            one.transports["direct"].answer = everybody_but("slow.example", gate)
            slow = [await one.accept("x@slow.example", submit=False) for _ in range(30)]
            one.clock.time += 1
            quick = [await one.accept("x@quick.example", submit=False) for _ in range(30)]
            one.feed()
            await until(lambda: delivered(one) >= set(quick))
            gate.set()
            await until(lambda: delivered(one) == {*slow, *quick})

    run(scene())


def test_many_with_one_due_time_do_not_hide_who_comes_after(tmp_path, monkeypatch):
    async def scene():
        monkeypatch.setattr(feeder_module, "_LARGEST_READ", 5)
        async with setting(tmp_path) as one:
            gate = asyncio.Event()
            one.transports["direct"].answer = everybody_but("slow.example", gate)
            slow = [await one.accept("x@slow.example", submit=False) for _ in range(30)]
            quick = await one.accept("x@quick.example", submit=False)
            one.feed()
            await until(lambda: quick in delivered(one))
            gate.set()
            await until(lambda: delivered(one) == {*slow, quick})

    run(scene())


def test_a_destination_that_hangs_fills_its_share_of_the_window_and_no_more(tmp_path):
    async def scene():
        given = {"spool": {"window": 40}, "delivery": {"destination_concurrency": 2}}
        async with setting(tmp_path, **given) as one:
            gate = asyncio.Event()
            one.transports["direct"].answer = everybody_but("slow.example", gate)
            one.feed()
            slow = [await one.accept("x@slow.example") for _ in range(100)]
            assert one.engine.room >= 30
            quick = [await one.accept(f"x@d{n}.example") for n in range(60)]
            await until(lambda: delivered(one) == set(quick))
            gate.set()
            await until(lambda: delivered(one) == {*slow, *quick})
            assert len(one.transports["direct"].requests) == 160

    run(scene())


def test_a_destination_that_hangs_does_not_hide_the_retries_of_others_in_the_spool(tmp_path, monkeypatch):
    async def scene():
        monkeypatch.setattr(feeder_module, "_LARGEST_READ", 5)
        given = {"spool": {"window": 40}, "delivery": {"destination_concurrency": 2}}
        async with setting(tmp_path, **given) as one:
            gate = asyncio.Event()
            one.transports["direct"].answer = everybody_but("slow.example", gate)
            slow = [await one.accept("x@slow.example", submit=False) for _ in range(60)]
            one.clock.time += 10
            quick = [await one.accept("x@quick.example", submit=False) for _ in range(60)]
            one.feed()
            await until(lambda: delivered(one) == set(quick))
            gate.set()
            await until(lambda: delivered(one) == {*slow, *quick})

    run(scene())


def test_the_bulk_of_one_account_does_not_keep_another_ones_message_out_of_memory(tmp_path):
    async def scene():
        given = {"spool": {"window": 40}, "delivery": {"destination_concurrency": 1}}
        async with setting(tmp_path, **given) as one:
            direct = one.transports["direct"]
            one.feed()
            gate = asyncio.Event()
            direct.answer = everybody_but("slow.example", gate)
            for _ in range(60):
                await one.accept("x@slow.example", account="bulk")
            small = await one.accept("x@slow.example", account="shop")
            await until(lambda: len(direct.requests) == 1)
            gate.set()
            await until(lambda: len(delivered(one)) == 61)
            assert [request.message_id for request in direct.requests].index(small) == 2

    run(scene())


def test_what_is_read_from_the_spool_before_its_first_attempt_is_new_mail(tmp_path):
    async def scene():
        async with setting(tmp_path, delivery={"destination_concurrency": 1}) as one:
            one.clock.time = START + 0.123456789
            await one.accept(submit=False)
            one.clock.time += 10
            [message] = await one.spool.due(0.0, one.clock.time, 10)
            [job] = plan(InFlight(message, None), message.due, ())
            assert not job.place.again

    run(scene())


def test_one_message_may_find_one_of_its_next_hops_crowded(tmp_path):
    async def scene():
        given = {"spool": {"window": 10}, "delivery": {"destination_concurrency": 1}}
        async with setting(tmp_path, **given) as one:
            gate = asyncio.Event()
            one.transports["direct"].answer = everybody_but("slow.example", gate)
            one.feed()
            for _ in range(3):
                await one.accept("x@slow.example")
            message_id = await one.accept("x@slow.example", "x@quick.example")
            await until(lambda: one.heard.kinds(message_id, "x@quick.example") == ["delivered"])
            assert (message_id, 0) not in one.engine.active
            gate.set()
            await until(lambda: len(delivered(one)) == 4 and len(one.heard.events) == 5)

    run(scene())


@pytest.mark.parametrize("jump", [-86_400.0, -3.0, 86_400.0 * 365])
def test_a_clock_that_jumps_loses_nothing(tmp_path, jump):
    async def scene():
        async with setting(tmp_path, spool={"window": 3}) as one:
            gate = asyncio.Event()
            one.transports["direct"].answer = everybody_but("slow.example", gate)
            one.feed()
            ids = [await one.accept("x@slow.example") for _ in range(6)]
            await one.advance_to(START + 60)
            await until(one._has_looked)
            await one.advance_to(START + 60 + jump)
            ids += [await one.accept("x@slow.example") for _ in range(6)]
            gate.set()
            await until(lambda: len(delivered(one)) >= 6 if jump < -10 else len(delivered(one)) == 12)
            await one.advance_to(START + 86_400 * 366)
            await until(lambda: delivered(one) == set(ids))
            assert len(one.transports["direct"].requests) == 12

    run(scene())


def test_a_retry_comes_in_time_after_a_clock_that_was_wrong_for_a_while(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            direct = one.transports["direct"]
            direct.answer = lambda request, content: DeliveryReport({"c@d.example": LATER})
            one.feed()
            await one.advance_to(START + 86_400)
            await until(lambda: one.feeder._cursor > START + 86_000)
            one.clock.time = START + 10
            message_id = await one.accept()
            await one.idle()
            direct.answer = lambda request, content: DeliveryReport({"c@d.example": YES})
            await one.advance_to(START + 50)
            await until(lambda: delivered(one) == {message_id}, seconds=5.0)

    run(scene())


def test_what_is_put_off_while_the_clock_jumps_ahead_comes_back_at_once(tmp_path):
    """Its due time is the old clock's, and the cursor has passed that when it is on disk."""

    async def scene():
        async with setting(tmp_path) as one:
            direct, gate = one.transports["direct"], asyncio.Event()
            direct.answer = lambda request, content: DeliveryReport({"c@d.example": LATER})
            real = one.spool.end_attempt

            async def end_attempt(end):
                await gate.wait()
                return await real(end)

            one.spool.end_attempt = end_attempt
            one.feed()
            message_id = await one.accept()
            await until(lambda: direct.requests)
            await one.advance_to(START + 6 * 86_400)
            await until(lambda: one.feeder._cursor > START + 86_400)
            direct.answer = lambda request, content: DeliveryReport({"c@d.example": YES})
            gate.set()
            await until(lambda: delivered(one) == {message_id}, seconds=5.0)

    run(scene())


def test_who_was_put_off_comes_back_though_another_recipient_kept_the_message_busy_beyond_that(tmp_path):
    async def scene():
        gate, asked = asyncio.Event(), []

        async def first(request, content):
            asked.append(addresses(request))
            answers = {"late@d.example": LATER, "slow@d.example": ELSEWHERE}
            told = YES if len(asked) > 1 else None
            return DeliveryReport({one: told or answers[one] for one in addresses(request)})

        async def second(request, content):
            await gate.wait()
            return DeliveryReport(dict.fromkeys(addresses(request), YES))

        given = settings(route=[route("smarthost:a", "smarthost:b")])
        transports = {"smarthost:a": FakeTransport(), "smarthost:b": FakeTransport()}
        transports["smarthost:a"].answer, transports["smarthost:b"].answer = first, second
        async with Setting(tmp_path / "spool", given, transports) as one:
            one.feed()
            message_id = await one.accept("late@d.example", "slow@d.example")
            await until(lambda: transports["smarthost:b"].requests)
            await one.advance_to(START + 300)
            await until(lambda: one.feeder._cursor > START + 200)
            gate.set()
            await until(lambda: one.heard.kinds(message_id, "late@d.example")[-1:] == ["delivered"], seconds=5.0)

    run(scene())


def test_a_message_left_out_during_a_look_is_not_lost(tmp_path):
    """Its commit may take long: the cursor has passed its time when the engine says no."""

    async def scene():
        async with setting(tmp_path, spool={"window": 2}) as one:
            gate = asyncio.Event()
            one.transports["direct"].answer = everybody_but("slow.example", gate)
            first = await one.accept("x@slow.example")
            one.feed()
            await one.advance_to(START + 100)
            await until(lambda: one.feeder._cursor > START + 90)
            one.clock.time = START + 20
            second = await one.accept("x@slow.example", submit=False)
            one.clock.time = START + 100
            [late] = [message for message in await one.spool.due(0.0, START + 50, 10) if message.id == second]
            real, filler = one.spool.due, []

            async def due(after, until_, limit):
                found = await real(after, until_, limit)
                one.spool.due = real
                filler.append(await one.accept("x@slow.example"))
                one.offer(late)
                assert one.feeder._left_out == START + 20
                return [message for message in found if message.id != second]

            one.spool.due = due
            await one.advance_to(START + 101)
            await until(lambda: one.spool.due == real and filler)
            gate.set()
            await until(lambda: delivered(one) == {first, second, *filler}, seconds=5.0)

    run(scene())


def test_a_store_that_cannot_be_read_is_asked_again(tmp_path, monkeypatch):
    async def scene():
        monkeypatch.setattr(feeder_module, "_AFTER_AN_ERROR", 0.001)
        async with setting(tmp_path) as one:
            message_id = await one.accept(submit=False)
            real, errors = one.spool.due, [StoreError("disk"), RuntimeError("bug"), StoreError("disk")]

            async def due(*arguments):
                if errors:
                    raise errors.pop()
                return await real(*arguments)

            one.spool.due = due
            one.feed()
            await until(lambda: delivered(one) == {message_id})
            assert len(one.heard.store_failures) == 2
            assert [where for where, _ in one.heard.failures] == ["feeder"]

    run(scene())


def test_a_refill_that_fails_is_made_again(tmp_path, monkeypatch):
    async def scene():
        monkeypatch.setattr(feeder_module, "_AFTER_AN_ERROR", 0.001)
        given = {"spool": {"window": 10}, "delivery": {"destination_concurrency": 1}}
        async with setting(tmp_path, **given) as one:
            gate = asyncio.Event()
            one.transports["direct"].answer = everybody_but("slow.example", gate)
            ids = [await one.accept("x@slow.example") for _ in range(8)]
            await one.advance_to(START + 1000)
            one.feed()
            await until(lambda: one.feeder._cursor > START + 900)
            real, errors = one.spool.due, [StoreError("disk"), StoreError("disk")]

            async def due(*arguments):
                if errors:
                    raise errors.pop()
                return await real(*arguments)

            one.spool.due = due
            gate.set()
            await until(lambda: delivered(one) == set(ids))
            assert not errors

    run(scene())


def test_what_the_operator_made_due_comes_at_once(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            direct = one.transports["direct"]
            direct.answer = lambda request, content: DeliveryReport({"c@d.example": LATER})
            ids = [await one.accept() for _ in range(20)]
            await one.idle()
            direct.answer = lambda request, content: DeliveryReport({"c@d.example": YES})
            one.feed()
            await until(one._has_looked)
            one.clock.time += 1
            assert len(await one.spool.act(Act(Verb.RETRY, Selection(tuple(ids))))) == 20
            one.feeder.look()
            await until(lambda: delivered(one) == set(ids))

    run(scene())


def test_a_row_nobody_told_of_is_found_by_the_full_look(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            one.feed()
            await one.advance_to(START + 1000)
            await until(one._has_looked)
            one.clock.time = START
            message_id = await one.accept(submit=False)
            await one.advance_to(START + 1500)
            await until(one._has_looked)
            await one.advance_to(START + 2300)
            await until(lambda: delivered(one) == {message_id})

    run(scene())


def reads_of(one: Setting, takes: float = 0.0) -> list[float]:
    """From where the feeder reads, from now on; each read takes so long."""
    real, reads = one.spool.due, []

    async def due(after, until, limit):
        reads.append(after)
        one.clock.time += takes
        return await real(after, until, limit)

    one.spool.due = due
    return reads


def test_the_full_look_at_a_long_backlog_holds_up_nobody_else(tmp_path, monkeypatch):
    """A retry that becomes due meanwhile is brought by the next read, not once a million rows have been walked."""

    async def scene():
        monkeypatch.setattr(feeder_module, "_LARGEST_READ", 5)
        monkeypatch.setattr(feeder_module, "_FULL_LOOK_READ", 5)
        given = {"spool": {"window": 40}, "delivery": {"destination_concurrency": 2}}
        async with setting(tmp_path, **given) as one:
            gate = asyncio.Event()
            one.transports["direct"].answer = everybody_but("slow.example", gate)
            for _ in range(100):
                await one.accept("x@slow.example", submit=False)
                one.clock.time += 0.001
            one.feed()
            await one.advance_to(START + 100)
            await until(lambda: one.feeder._cursor > START + 90)
            one.clock.time = START + 700
            quick = await one.accept("x@quick.example", submit=False)
            reads = reads_of(one)
            await one.advance_to(START + 700)
            await until(lambda: quick in delivered(one))
            await until(one._has_looked)
            assert len([place for place in reads if place < START + 90]) <= 1
            gate.set()

    run(scene())


def test_the_full_look_takes_a_fiftieth_of_the_time(tmp_path, monkeypatch):
    """A stretch whose reading took 10 ms is followed by half a second without one, and in the end all was looked at."""

    async def scene():
        monkeypatch.setattr(feeder_module, "_FULL_LOOK_READ", 5)
        given = {"spool": {"window": 40}, "delivery": {"destination_concurrency": 2}}
        async with setting(tmp_path, **given) as one:
            gate = asyncio.Event()
            one.transports["direct"].answer = everybody_but("slow.example", gate)
            for _ in range(23):
                await one.accept("x@slow.example", submit=False)
                one.clock.time += 0.001
            one.feed()
            await one.advance_to(START + 100)
            await until(lambda: one.feeder._cursor > START + 90)
            reads, real, done, looks = reads_of(one, takes=0.010), one.feeder._feed, [], []

            async def feed():
                await real()
                done.append(True)

            one.feeder._feed = feed
            one.clock.time = START + 700
            for _ in range(11):
                reads.clear()
                done.clear()
                await one.advance_to(one.clock.time + 0.25)
                await until(lambda: done)
                looks.append(len([place for place in reads if place < START + 90]))
            assert looks == [1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0]
            assert one.feeder._full_look == math.inf
            gate.set()

    run(scene())


def test_the_loop_goes_on_while_what_was_read_is_planned(tmp_path, monkeypatch):
    """A read brings thousands; they are planned some at a time."""

    async def scene():
        monkeypatch.setattr(feeder_module, "_PLANNED_AT_A_TIME", 10)
        async with setting(tmp_path) as one:
            for _ in range(45):
                await one.accept(submit=False)
            real, log = one.engine.submit, []
            one.engine.submit = lambda message: log.append("planned") or real(message)

            async def beside():
                while True:
                    log.append("turn")
                    await asyncio.sleep(0)

            ticking = asyncio.create_task(beside())
            one.feed()
            await until(lambda: log.count("planned") >= 45)
            ticking.cancel()
            stretches = "".join("p" if one == "planned" else " " for one in log).split()
            assert [len(stretch) for stretch in stretches[:5]] == [10, 10, 10, 10, 5]

    run(scene())


def test_what_a_clock_far_ahead_put_off_does_not_wait_until_it_is_that_late_again(tmp_path):
    """Six days ahead for a moment, and back: nothing waits longer than a retry profile can make it."""

    async def scene():
        async with setting(tmp_path) as one:
            direct = one.transports["direct"]
            direct.answer = lambda request, content: DeliveryReport({"c@d.example": LATER})
            one.feed()
            one.clock.time = START + 6 * 86_400
            message_id = await one.accept()
            await one.idle()
            assert await one.states(message_id) == ["deferred"]
            direct.answer = lambda request, content: DeliveryReport({"c@d.example": YES})
            await one.advance_to(START)
            await until(lambda: len(direct.requests) == 2)
            await one.idle()
            assert await one.states(message_id) == ["delivered"]

    run(scene())


def test_the_longest_wait_of_a_profile_is_left_alone_when_the_clock_jumps_back(tmp_path):
    async def scene():
        async with setting(tmp_path, retry={"sendarix": {"delays": [100_000], "jitter": 0}}) as one:
            one.transports["direct"].answer = lambda request, content: DeliveryReport({"c@d.example": LATER})
            one.feed()
            message_id = await one.accept()
            await one.idle()
            await one.advance_to(START + 10)
            await one.advance_to(START - 10)
            await asyncio.sleep(0.05)
            assert await one.states(message_id) == ["deferred"]
            assert len(one.transports["direct"].requests) == 1

    run(scene())


def test_after_a_start_urgent_mail_is_brought_before_older_mail_that_fills_the_memory(tmp_path):
    async def scene():
        async with setting(tmp_path, spool={"window": 5}, delivery={"concurrency": 1}) as one:
            for number in range(30):
                await one.accept(f"c@d{number}.example", submit=False)
            urgent = await one.accept("c@urgent.example", submit=False, priority=3)
            one.feed()
            await until(lambda: len(delivered(one)) == 31)
            assert urgent in {request.message_id for request in one.transports["direct"].requests[:2]}

    run(scene())


def test_a_full_memory_has_room_for_some_urgent_mail(tmp_path):
    async def scene():
        gate = asyncio.Event()
        async with setting(tmp_path, spool={"window": 10}, delivery={"concurrency": 5}) as one:
            one.transports["direct"].answer = everybody_but("slow.example", gate)
            for _ in range(12):
                await one.accept("c@slow.example")
            assert not one.engine.room
            await one.accept("c@d.example")
            await one.accept("c@urgent.example", priority=1)
            await until(lambda: "urgent.example" in one.transports["direct"].destinations)
            assert "d.example" not in one.transports["direct"].destinations
            gate.set()

    run(scene())
