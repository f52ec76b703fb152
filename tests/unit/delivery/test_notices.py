"""Who is told what: failures, delays and successes, by what the client asked for (RFC 3461)."""

from __future__ import annotations

import email
import email.policy

import pytest
from delivery_kit import START, YES, FakeTransport, Setting, addresses, everybody, route, run, settings, until

from relay.mail.envelope import Recipient
from relay.mail.outcome import Deferred, Failed, InDoubt, Sent
from relay.mail.reply import reply
from relay.ports import DeliveryReport

LATER = Deferred(reply(451, "4.2.1", "Try again"))
NO = Failed(reply(550, "5.1.1", "No such user"))
SENT = Sent(reply(250, "2.0.0", "Ok"))
DOUBT = InDoubt(reply(451, "4.4.2", "Connection lost after the last byte"))


def setting(tmp_path, **sections):
    given = settings(route=[route("direct")], **sections)
    return Setting(tmp_path / "spool", given, {"direct": FakeTransport()})


def notices(one):
    """Bytes of the notices that went out."""
    direct = one.transports["direct"]
    pairs = zip(direct.requests, direct.contents, strict=True)
    return [content for request, content in pairs if request.reverse_path is None]


def attempts(one):
    return sum(request.reverse_path is not None for request in one.transports["direct"].requests)


def report(outcome, *, dsn):
    return lambda request, content: DeliveryReport(dict.fromkeys(addresses(request), outcome), "mx.example", dsn=dsn)


@pytest.mark.parametrize(
    ("notify", "outcome", "dsn", "told"),
    [
        (("SUCCESS",), YES, False, True),
        (("SUCCESS",), SENT, False, True),
        (("SUCCESS",), YES, True, False),
        (("FAILURE", "DELAY"), YES, False, False),
        ((), YES, False, False),
        (("NEVER",), YES, False, False),
    ],
)
def test_a_success_is_told_to_who_asked_unless_the_next_hop_does_it(tmp_path, notify, outcome, dsn, told):
    async def scene():
        async with setting(tmp_path) as one:
            one.transports["direct"].answer = report(outcome, dsn=dsn)
            await one.accept(Recipient("c@d.example", notify, "rfc822;C+40d.example"), envid="QQ+2B1")
            await one.idle()
            found = notices(one)
            assert len(found) == told
            if told:
                assert b"Subject: Mail was handed on\r\n" in found[0]
                assert b"Action: relayed\r\nStatus: 2." in found[0]
                assert b"Original-Recipient: rfc822;C@d.example\r\n" in found[0]
                assert b"Original-Envelope-Id: QQ+1\r\n" in found[0]

    run(scene())


def test_a_success_and_a_failure_of_one_attempt_are_one_notice(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            one.transports["direct"].answer = lambda request, content: DeliveryReport(
                {"a@d.example": YES, "b@d.example": NO, "a@b.example": YES}
            )
            await one.accept(Recipient("a@d.example", ("SUCCESS",)), Recipient("b@d.example"))
            await one.idle()
            [notice] = notices(one)
            assert b"Subject: Undelivered mail returned to sender\r\n" in notice
            assert (notice.count(b"Action: relayed"), notice.count(b"Action: failed")) == (1, 1)

    run(scene())


@pytest.mark.parametrize(
    ("notify", "whom", "told"),
    [
        (("DELAY",), "asked", True),
        (("DELAY",), "off", False),
        ((), "asked", False),
        ((), "all", True),
        (("FAILURE",), "all", False),
        (("NEVER",), "all", False),
    ],
)
def test_a_delay_is_told_once_when_it_is_long_also_over_a_restart(tmp_path, notify, whom, told):
    async def scene():
        sections = {"retry": {"sendarix": {"delays": [3600] * 10, "jitter": 0}}, "delivery": {"delay_notices": whom}}
        async with setting(tmp_path, **sections) as one:
            one.transports["direct"].answer = lambda request, content: DeliveryReport(
                {"c@d.example": LATER, "a@b.example": YES}
            )
            one.feed()
            await one.accept(Recipient("c@d.example", notify))
            await one.idle()
            for hour in range(1, 8):
                if hour == 6:
                    await one.stop_feeding()
                    await one.engine.stop(1.0)
                    one.build()
                    one.feed()
                await one.advance_to(START + hour * 3600 + 1)
                await until(lambda: attempts(one) == hour + 1)  # noqa: B023 - waited for in this turn
                await one.idle()
                assert len(notices(one)) == (told and hour >= 4), hour
            if told:
                [notice] = notices(one)
                assert b"Subject: Mail is delayed and still being tried\r\n" in notice
                assert b"Action: delayed\r\nStatus: 4.2.1\r\n" in notice
                assert b"Will-Retry-Until: Fri, 15 Jan 2027 18:00:00 +0000\r\n" in notice

    run(scene())


@pytest.mark.parametrize(
    ("ret", "size", "whole"), [("FULL", 10_000, True), ("HDRS", 10_000, False), ("FULL", 10, False)]
)
def test_ret_full_returns_the_whole_message_with_a_failure_where_it_is_not_too_large(tmp_path, ret, size, whole):
    async def scene():
        async with setting(tmp_path, delivery={"returned_size": size}) as one:
            one.transports["direct"].answer = lambda request, content: DeliveryReport(
                {"c@d.example": NO, "a@b.example": YES}
            )
            await one.accept(ret=ret)
            await one.idle()
            [notice] = notices(one)
            parsed = email.message_from_bytes(notice, policy=email.policy.default)
            last = list(parsed.iter_parts())[-1]
            assert last.get_content_type() == ("message/rfc822" if whole else "text/rfc822-headers")
            assert (b"body" in last.as_bytes()) == whole

    run(scene())


def test_a_message_in_doubt_is_held_where_the_policy_says_so(tmp_path):
    async def scene():
        async with setting(tmp_path, delivery={"in_doubt": "hold"}) as one:
            one.transports["direct"].answer = everybody(DOUBT)
            message_id = await one.accept()
            await one.idle()
            assert await one.states(message_id) == ["held"]
            assert one.heard.kinds(message_id) == ["held"]
            assert "it may have been delivered" in (await one.recipient(message_id))["reply"]

    run(scene())


def test_the_most_particular_retry_profile_counts():
    given = settings(
        route=[route("direct")],
        account={"acme": {"retry": "otp"}},
        delivery={"retry": "mta"},
        retry={"own": {"delays": [1]}},
    )
    otp, mta, own = given.retry_profile("otp"), given.retry_profile("mta"), given.retry_profile("own")
    assert given.retry_profile_for("", None, "acme") == otp
    assert given.retry_profile_for("", None, "other") == mta
    assert given.retry_profile_for("", "own", "acme") == own
    assert given.retry_profile_for("own", "mta", "acme") == own
    assert given.retry_profile_for("gone", None, "acme") == otp


def test_a_message_ends_when_it_says_so(tmp_path):
    async def scene():
        async with setting(tmp_path, retry={"sendarix": {"delays": [60] * 50, "jitter": 0}}) as one:
            one.transports["direct"].answer = lambda request, content: DeliveryReport(
                {"c@d.example": LATER, "a@b.example": YES}
            )
            one.feed()
            message_id = await one.accept(expires_at=START + 300)
            await one.run_out()
            assert await one.states(message_id) == ["expired"]
            assert one.clock.time <= START + 300
            assert len(one.transports["direct"].requests) <= 6 + 1

    run(scene())


def test_a_notice_is_as_urgent_as_what_it_tells_of(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            one.transports["direct"].answer = everybody(NO)
            await one.accept(priority=6)
            await one.idle()
            [told] = [request for request in one.transports["direct"].requests if request.reverse_path is None]
            assert told.envelope.priority == 6

    run(scene())


def test_a_sender_that_had_too_many_notices_gets_none_and_what_became_of_the_mail_is_written_all_the_same(tmp_path):
    rooms = iter(("yes", "last", "no"))

    async def scene():
        async with setting(tmp_path) as one:
            one.may_tell = lambda message: next(rooms)
            one.build()
            one.transports["direct"].answer = lambda request, content: report(
                NO if request.reverse_path else YES, dsn=False
            )(request, content)
            sent = []
            for _ in range(3):
                sent.append(await one.accept("c@d.example"))
                await one.idle()
            assert [await one.states(message) for message in sent] == [["bounced"]] * 3
            assert [b"further ones are withheld" in notice for notice in notices(one)] == [False, True]

    run(scene())
