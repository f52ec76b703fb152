"""Delivery by a time (RFC 2852): returned or told of when it is late, and told of where nobody keeps the time."""

from __future__ import annotations

import pytest
from delivery_kit import START, YES, FakeTransport, Setting, addresses, everybody, route, run, settings, until

from relay.mail.envelope import Recipient
from relay.mail.outcome import Deferred, Fault, Sent
from relay.mail.reply import reply
from relay.ports import DeliveryReport

LATER = Deferred(reply(451, "4.2.1", "Try again"))
SENT = Sent(reply(250, "2.0.0", "Ok"))
PROFILE = {"sendarix": {"delays": [100, 1000, 10_000], "jitter": 0}}


def setting(tmp_path, **sections):
    given = settings(route=[route("direct")], **{"retry": PROFILE, **sections})
    return Setting(tmp_path / "spool", given, {"direct": FakeTransport()})


def only_notices_pass(request, content):
    outcome = YES if request.reverse_path is None else LATER
    return DeliveryReport(dict.fromkeys(addresses(request), outcome), "mx.example")


def notices(one):
    direct = one.transports["direct"]
    pairs = zip(direct.requests, direct.contents, strict=True)
    return [content for request, content in pairs if request.reverse_path is None]


def tries(one):
    return [request for request in one.transports["direct"].requests if request.reverse_path is not None]


def test_what_is_to_be_returned_is_tried_no_more_and_returned_at_its_time(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            one.transports["direct"].answer = only_notices_pass
            one.feed()
            message_id = await one.accept(deliver_by=START + 500, by_mode="R")
            await one.run_out()
            assert await one.states(message_id) == ["expired"]
            assert one.clock.time == START + 500
            assert [request.by_seconds for request in tries(one)] == [500, 400]
            [notice] = notices(one)
            assert b"Deliver-By-Date: Fri, 15 Jan 2027 08:08:20 +0000\r\n" in notice
            assert b"Action: failed\r\nStatus: 5.4.7\r\n" in notice
            assert b"it could not be delivered before it expired" in notice

    run(scene())


def test_the_time_holds_for_what_waits_for_a_route_and_over_a_restart(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            refused = Deferred(reply(451, "4.7.0", "No"), Fault.ROUTE)
            one.transports["direct"].answer = everybody(refused)
            message_id = await one.accept(deliver_by=START + 60, by_mode="R", reverse_path=None)
            await one.idle()
            assert await one.spool.next_due_at(0.0) == START + 60
            await one.engine.stop(1.0)
            one.build()
            one.clock.time = START + 90
            one.feed()
            await one.run_out()
            assert await one.states(message_id) == ["expired"]
            assert len(tries(one)) == 0

    run(scene())


@pytest.mark.parametrize(
    ("notify", "whom", "told"),
    [((), "asked", True), (("DELAY",), "asked", True), (("FAILURE",), "asked", False), ((), "off", False)],
)
def test_who_wants_to_hear_of_it_is_told_when_it_is_late_and_it_is_tried_on(tmp_path, notify, whom, told):
    async def scene():
        async with setting(tmp_path, delivery={"delay_notices": whom}) as one:
            one.transports["direct"].answer = only_notices_pass
            one.feed()
            message_id = await one.accept(Recipient("c@d.example", notify), deliver_by=START + 500, by_mode="N")
            await one.idle()
            for seconds, number in ((100, 2), (500, 3)):
                await one.advance_to(START + seconds)
                await until(lambda: len(tries(one)) == number)  # noqa: B023 - waited for in this turn
                await one.idle()
            assert [request.by_seconds for request in tries(one)] == [500, 400, 0]
            assert len(notices(one)) == told
            assert await one.states(message_id) == ["deferred"]
            await one.run_out()
            delayed = [notice for notice in notices(one) if b"Action: delayed" in notice]
            assert len(delayed) == told
            # One more than the profile has.
            assert len(tries(one)) == 5

    run(scene())


@pytest.mark.parametrize(
    ("mode", "trace", "notify", "passed_on", "told"),
    [
        ("N", False, (), False, True),
        ("N", False, ("FAILURE",), False, True),
        ("N", False, ("NEVER",), False, False),
        ("N", False, (), True, False),
        ("R", False, (), True, False),
        ("R", True, (), True, True),
        ("N", True, ("NEVER",), True, False),
    ],
)
def test_the_sender_hears_where_nobody_keeps_the_time_and_of_every_hop_of_a_trace(
    tmp_path, mode, trace, notify, passed_on, told
):
    async def scene():
        async with setting(tmp_path) as one:
            one.transports["direct"].answer = lambda request, content: DeliveryReport(
                dict.fromkeys(addresses(request), SENT), "mx.example", by=passed_on
            )
            await one.accept(Recipient("c@d.example", notify), deliver_by=START + 500, by_mode=mode, by_trace=trace)
            await one.idle()
            assert [b"Action: relayed" in notice for notice in notices(one)] == [True] * told

    run(scene())
