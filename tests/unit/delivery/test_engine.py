"""The engine on a real spool: every accepted recipient ends, the attempt is on disk first, nobody is sent twice."""

from __future__ import annotations

import asyncio
import random

import pytest
from delivery_kit import (
    CONTENT,
    START,
    TERMINAL,
    YES,
    FakeTransport,
    Setting,
    addresses,
    everybody,
    route,
    run,
    settings,
    until,
)

from relay.delivery import engine as engine_module
from relay.delivery import record as record_module
from relay.mail.envelope import Recipient
from relay.mail.errors import StoreError
from relay.mail.outcome import Deferred, Delivered, Failed, Fault, InDoubt, Sent
from relay.mail.reply import reply
from relay.mail.session import TlsFacts
from relay.ports import DeliveryReport
from relay.store import spool_read
from relay.store.ids import to_number
from relay.store.spool import open_read_only
from relay.store.spool_verbs import Act, Selection, Verb

LATER = Deferred(reply(451, "4.2.1", "Try again"))
NO = Failed(reply(550, "5.1.1", "No such user"))
ELSEWHERE = Failed(reply(550, "5.6.1", "Cannot represent this"), elsewhere=True)
DOWN = Deferred(reply(421, "4.4.1", "Connection refused"), Fault.HOST)
REFUSED = Deferred(reply(451, "4.7.8", "Bad key"), Fault.ROUTE)
DOUBT = InDoubt(reply(451, "4.4.2", "Connection lost after the last byte"))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(record_module, "SECONDS_TO_TRY_AGAIN", 0.001)
    monkeypatch.setattr(engine_module, "_SECONDS_BETWEEN_TRIES", 0.001)


def setting(tmp_path, *via, dice=None, **sections):
    """A setting whose only route is `via`."""
    given = settings(route=[route(*(via or ("direct",)))], **sections)
    transports = {name: FakeTransport() for name in (via or ("direct",))}
    return Setting(tmp_path / "spool", given, transports, dice)


# --- one attempt ---------------------------------------------------------------------------------------------


def test_a_message_goes_out_signed_and_is_recorded_and_told_of(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            facts = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
            direct = one.transports["direct"]
            direct.answer = lambda request, content: DeliveryReport({"c@d.example": YES}, "mx.d.example", facts)
            message_id = await one.accept("c@d.example", tags=("t",))
            await one.idle()
            [request] = direct.requests
            assert (request.message_id, request.account, request.reverse_path) == (message_id, "acme", "a@b.example")
            assert (request.destination, request.attempt) == ("d.example", 1)
            assert direct.contents == [b"X-Signature: 1\r\n" + CONTENT]
            assert one.signer.signed == [(CONTENT, "b.example")]
            [event] = one.heard.events
            assert (event.kind.value, event.message_id, event.recipient) == ("delivered", message_id, "c@d.example")
            assert (event.reply, event.detail) == ("250 2.1.5 Ok", {"transport": "direct", "host": "mx.d.example"})
            found = await one.spool.message(message_id)
            [attempt] = found["attempts"]
            assert (attempt["host"], attempt["tls"]) == ("mx.d.example", "TLSv1.3 TLS_AES_256_GCM_SHA384")
            assert await one.states(message_id) == ["delivered"]

    run(scene())


def test_mail_without_an_account_is_not_ours_to_sign(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            await one.accept(account="")
            await one.idle()
            assert one.transports["direct"].contents == [CONTENT]
            assert one.signer.signed == []

    run(scene())


def test_a_message_is_signed_once_for_all_its_jobs(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            await one.accept("a@x.example", "b@y.example", "c@z.example")
            await one.idle()
            assert sorted(one.transports["direct"].destinations) == ["x.example", "y.example", "z.example"]
            assert len(one.signer.signed) == 1

    run(scene())


def test_the_attempt_is_on_disk_before_the_transport_is_called(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            seen = []

            def answer(request, content):
                reader = open_read_only(one.folder / "0.db")
                seen.append(spool_read.describe(reader, to_number(request.message_id))["attempts"])
                reader.close()
                return DeliveryReport(dict.fromkeys(addresses(request), YES))

            one.transports["direct"].answer = answer
            await one.accept("a@x.example", "b@x.example")
            await one.idle()
            [[attempt]] = seen
            assert (attempt["ended_at"], attempt["recipients"]) == (None, [0, 1])
            assert (attempt["transport"], attempt["destination"]) == ("direct", "x.example")

    run(scene())


def test_the_transport_is_not_called_when_the_attempt_cannot_be_written(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            real = one.spool.begin_attempt
            failing = [StoreError("disk full"), StoreError("disk full")]

            async def begin(start):
                if failing:
                    raise failing.pop()
                assert one.transports["direct"].requests == []
                return await real(start)

            one.spool.begin_attempt = begin
            one.feed()
            message_id = await one.accept()
            await until(lambda: one.heard.events)
            assert len(one.heard.store_failures) == 2
            assert one.heard.kinds(message_id) == ["delivered"]
            assert len(one.transports["direct"].requests) == 1

    run(scene())


def test_an_interrupted_attempt_is_made_again_after_a_restart_as_one_in_doubt(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            one.transports["direct"].answer = lambda request, content: asyncio.Event().wait()
            message_id = await one.accept()
            await until(lambda: one.transports["direct"].requests)
            await one.engine.stop(0.0)
            await one.spool.close()
            async with setting(tmp_path) as again:
                assert again.spool.recovered == 1
                again.feed()
                await until(lambda: again.heard.events)
                found = await again.spool.message(message_id)
                assert [event["kind"] for event in found["events"]] == ["queued", "in_doubt", "delivered"]
                assert again.transports["direct"].requests[0].attempt == 2
            one.spool = again.spool = FakeSpool()

    run(scene())


class FakeSpool:
    async def close(self):
        pass


def test_a_message_whose_body_is_gone_still_ends(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            one.transports["direct"].answer = lambda request, content: pytest.fail("there is nothing to send")

            async def gone(message_id):
                raise StoreError("no such file")

            one.spool.read_content = gone
            message_id = await one.accept(submit=False)
            one.feed()
            await one.run_out()
            assert one.heard.kinds(message_id) == ["deferred"] * 5 + ["bounced"]
            assert len(one.heard.notices) == 1

    run(scene())


# --- faults of ours ------------------------------------------------------------------------------------------


def raising(request, content):
    raise RuntimeError("a bug")


@pytest.mark.parametrize("error", [RuntimeError("bug"), TimeoutError(), KeyError("x"), asyncio.CancelledError()])
def test_a_transport_that_raises_means_deferred(tmp_path, error):
    async def scene():
        async with setting(tmp_path) as one:

            def answer(request, content):
                raise error

            one.transports["direct"].answer = answer
            message_id = await one.accept()
            await one.idle()
            assert one.heard.kinds(message_id) == ["deferred"]
            assert one.heard.failures == [("direct", error)]
            assert (await one.recipient(message_id))["reply"] == "451 4.3.0 Internal error while delivering"
            found = await one.spool.message(message_id)
            assert found["attempts"][0]["ended_at"] is not None

    run(scene())


def test_a_recipient_missing_from_a_report_is_deferred_and_the_others_are_not(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            one.transports["direct"].answer = lambda request, content: DeliveryReport({"a@x.example": YES})
            message_id = await one.accept("a@x.example", "b@x.example")
            await one.idle()
            assert await one.states(message_id) == ["delivered", "deferred"]
            assert one.heard.kinds(message_id, "b@x.example") == ["deferred"]

    run(scene())


def test_a_signer_that_raises_means_deferred(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            one.signer.sign = raising
            message_id = await one.accept()
            await one.idle()
            assert await one.states(message_id) == ["deferred"]
            assert one.transports["direct"].requests == []
            found = await one.spool.message(message_id)
            assert found["attempts"][0]["ended_at"] is not None

    run(scene())


def test_a_bug_after_one_candidate_has_settled_some_touches_only_the_others(tmp_path):
    async def scene():
        async with setting(tmp_path, "smarthost:one", "smarthost:two") as one:
            one.transports["smarthost:one"].answer = lambda request, content: DeliveryReport(
                {"a@x.example": YES, "b@x.example": ELSEWHERE}
            )
            real = one.spool.begin_attempt

            async def begin(start):
                if start.transport == "smarthost:two":
                    raise RuntimeError("a bug")
                return await real(start)

            one.spool.begin_attempt = begin
            message_id = await one.accept("a@x.example", "b@x.example")
            await one.idle()
            assert await one.states(message_id) == ["delivered", "deferred"]
            assert one.heard.kinds(message_id) == ["delivered", "deferred"]

    run(scene())


def test_a_notice_that_cannot_be_built_loses_no_result(tmp_path, monkeypatch):
    async def scene():
        async with setting(tmp_path) as one:
            one.transports["direct"].answer = lambda request, content: DeliveryReport(
                {"a@x.example": YES, "b@x.example": NO}
            )
            monkeypatch.setattr(record_module, "notice", raising)
            message_id = await one.accept("a@x.example", "b@x.example")
            await one.idle()
            assert await one.states(message_id) == ["delivered", "bounced"]
            assert [where for where, _ in one.heard.failures] == ["notice"]

    run(scene())


def test_a_word_of_a_provider_that_no_database_takes_does_not_stop_delivery(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            odd = Sent(reply(250, "2.0.0", "Ok"), "id\ud800\r\n\x00")
            one.transports["direct"].answer = everybody(odd, "host\ud800\r\n")
            message_id = await one.accept()
            await one.idle()
            assert await one.states(message_id) == ["sent"]
            assert (await one.recipient(message_id))["remote_id"] == "id?"
            assert one.heard.events[0].detail["host"] == "host?"

    run(scene())


# --- candidates ----------------------------------------------------------------------------------------------


def test_candidates_try_in_order_and_only_who_may_go_elsewhere_goes(tmp_path):
    async def scene():
        outcomes = {
            "a@x.example": YES,
            "b@x.example": NO,
            "c@x.example": LATER,
            "d@x.example": DOUBT,
            "e@x.example": ELSEWHERE,
            "f@x.example": DOWN,
            "g@x.example": Sent(reply(250, "2.0.0", "Ok"), "remote-1"),
        }
        async with setting(tmp_path, "smarthost:one", "smarthost:two") as one:
            one.transports["smarthost:one"].answer = lambda request, content: DeliveryReport(outcomes)
            message_id = await one.accept(*outcomes, reverse_path=None)
            await one.idle()
            assert one.heard.attempts == ["smarthost:one", "smarthost:two"]
            assert addresses(one.transports["smarthost:one"].requests[0]) == list(outcomes)
            assert addresses(one.transports["smarthost:two"].requests[0]) == ["e@x.example", "f@x.example"]
            assert await one.states(message_id) == [
                "delivered",
                "bounced",
                "deferred",
                "deferred",
                "delivered",
                "delivered",
                "sent",
            ]
            assert one.heard.kinds(message_id, "d@x.example") == ["in_doubt"]
            assert (await one.recipient(message_id, 6))["remote_id"] == "remote-1"
            found = await one.spool.message(message_id)
            assert [attempt["transport"] for attempt in found["attempts"]] == ["smarthost:one", "smarthost:two"]

    run(scene())


@pytest.mark.parametrize(("outcome", "state"), [(ELSEWHERE, "bounced"), (DOWN, "deferred")])
def test_after_the_last_candidate_its_own_verdict_counts(tmp_path, outcome, state):
    async def scene():
        async with setting(tmp_path, "smarthost:one", "smarthost:two") as one:
            for transport in one.transports.values():
                transport.answer = everybody(outcome)
            message_id = await one.accept(reverse_path=None)
            await one.idle()
            assert one.heard.attempts == ["smarthost:one", "smarthost:two"]
            assert await one.states(message_id) == [state]

    run(scene())


def test_a_route_at_fault_rests_and_keeps_its_mail_without_using_up_attempts(tmp_path):
    async def scene():
        async with setting(tmp_path, "smarthost:one") as one:
            transport = one.transports["smarthost:one"]
            transport.answer = everybody(REFUSED)
            message_id = await one.accept()
            await one.idle()
            assert one.heard.pauses == [("paused", "smarthost:one")]
            assert one.engine.paused() == {"smarthost:one": 300.0}
            other = await one.accept()
            await one.idle()
            assert len(transport.requests) == 1
            for one_id in (message_id, other):
                waiting = await one.recipient(one_id)
                assert (waiting["state"], waiting["attempts"]) == ("deferred", 0)
            assert await one.spool.next_due_at(0.0) == START + 300
            transport.answer = everybody(YES)
            one.feed()
            await one.run_out()
            assert one.heard.pauses == [("paused", "smarthost:one"), ("resumed", "smarthost:one")]
            assert one.heard.kinds(message_id) == one.heard.kinds(other) == ["deferred", "delivered"]

    run(scene())


def test_a_route_at_fault_for_weeks_still_keeps_its_mail(tmp_path):
    async def scene():
        async with setting(tmp_path, "smarthost:one") as one:
            one.transports["smarthost:one"].answer = everybody(REFUSED)
            message_id = await one.accept()
            one.feed()
            for _ in range(20):
                await one.idle()
                await one.advance_to(await one.spool.next_due_at(0.0))
                await until(lambda: one.heard.kinds(message_id)[-1:] == ["deferred"] and one.engine.active)
            await one.idle()
            assert (await one.recipient(message_id))["attempts"] == 0
            one.transports["smarthost:one"].answer = everybody(YES)
            await one.run_out()
            assert await one.states(message_id) == ["delivered"]

    run(scene())


def test_a_message_with_an_expiry_does_not_outlive_it_on_a_route_at_fault(tmp_path):
    async def scene():
        async with setting(tmp_path, "smarthost:one", delivery={"retry": "otp"}) as one:
            one.transports["smarthost:one"].answer = everybody(REFUSED)
            message_id = await one.accept()
            one.feed()
            await one.run_out(2000.0)
            assert one.heard.kinds(message_id) == ["deferred", "deferred", "deferred", "expired"]
            assert len(one.heard.notices) == 1

    run(scene())


def test_the_next_candidate_carries_the_mail_of_one_at_fault(tmp_path):
    async def scene():
        async with setting(tmp_path, "smarthost:one", "smarthost:two") as one:
            one.transports["smarthost:one"].answer = everybody(REFUSED)
            first, second = await one.accept(), None
            await one.idle()
            second = await one.accept()
            await one.idle()
            assert one.heard.attempts == ["smarthost:one", "smarthost:two", "smarthost:two"]
            assert await one.states(first) == await one.states(second) == ["delivered"]

    run(scene())


def test_a_refusal_that_may_go_elsewhere_waits_for_a_candidate_that_rests(tmp_path):
    async def scene():
        async with setting(tmp_path, "smarthost:one", "smarthost:two") as one:
            one.transports["smarthost:one"].answer = everybody(DOWN)
            one.transports["smarthost:two"].answer = everybody(REFUSED)
            await one.accept()
            await one.idle()
            one.transports["smarthost:one"].answer = everybody(ELSEWHERE)
            message_id = await one.accept()
            await one.idle()
            waiting = await one.recipient(message_id)
            assert (waiting["state"], waiting["attempts"]) == ("deferred", 0)
            one.transports["smarthost:two"].answer = everybody(YES)
            one.feed()
            await one.run_out()
            assert await one.states(message_id) == ["delivered"]

    run(scene())


def test_the_operator_can_end_a_pause(tmp_path):
    async def scene():
        async with setting(tmp_path, "smarthost:one") as one:
            one.transports["smarthost:one"].answer = everybody(REFUSED)
            await one.accept()
            await one.idle()
            one.engine.resume("smarthost:one")
            assert one.engine.paused() == {}
            one.transports["smarthost:one"].answer = everybody(YES)
            message_id = await one.accept()
            await one.idle()
            assert await one.states(message_id) == ["delivered"]

    run(scene())


# --- results that cannot be written --------------------------------------------------------------------------


def test_a_result_that_cannot_be_written_stops_delivery_and_is_tried_until_it_can(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            real, broken = one.spool.end_attempt, [True]

            async def end(result):
                if broken:
                    raise StoreError("disk full")
                return await real(result)

            one.spool.end_attempt = end
            first = await one.accept()
            await until(lambda: len(one.heard.store_failures) > 3)
            assert not one.engine.healthy
            second = await one.accept()
            await asyncio.sleep(0.02)
            assert len(one.transports["direct"].requests) == 1
            assert one.heard.events == []
            broken.clear()
            await one.idle()
            assert one.engine.healthy
            assert len(one.transports["direct"].requests) == 2
            assert await one.states(first) == await one.states(second) == ["delivered"]

    run(scene())


# --- notices -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipient", "reverse_path", "told"),
    [
        (Recipient("c@d.example"), "a@b.example", True),
        (Recipient("c@d.example", ("FAILURE",)), "a@b.example", True),
        (Recipient("c@d.example", ("SUCCESS", "FAILURE", "DELAY")), "a@b.example", True),
        (Recipient("c@d.example", ("NEVER",)), "a@b.example", False),
        (Recipient("c@d.example", ("SUCCESS", "DELAY")), "a@b.example", False),
        (Recipient("c@d.example"), None, False),
    ],
)
def test_a_failure_is_told_to_the_sender_who_wants_it(tmp_path, recipient, reverse_path, told):
    async def scene():
        async with setting(tmp_path) as one:
            one.transports["direct"].answer = lambda request, content: DeliveryReport(
                {"c@d.example": NO, "a@b.example": YES}
            )
            message_id = await one.accept(recipient, reverse_path=reverse_path)
            await one.idle()
            assert await one.states(message_id) == ["bounced"]
            requests = one.transports["direct"].requests
            assert len(requests) == 1 + told
            if told:
                [(failed, notice_id, to)] = one.heard.notices
                assert (failed, to) == (message_id, "a@b.example")
                notice = requests[1]
                assert (notice.message_id, notice.reverse_path) == (notice_id, None)
                assert addresses(notice) == ["a@b.example"]
                assert b"Final-Recipient: rfc822; c@d.example" in one.transports["direct"].contents[1]
                assert b"Subject: hello" in one.transports["direct"].contents[1]
                assert await one.states(notice_id) == ["delivered"]

    run(scene())


def test_one_notice_tells_of_all_who_failed_in_one_attempt(tmp_path):
    async def scene():
        async with setting(tmp_path, "smarthost:one") as one:
            one.transports["smarthost:one"].answer = lambda request, content: DeliveryReport(
                {"a@x.example": NO, "b@y.example": YES, "c@z.example": NO, "a@b.example": YES}
            )
            await one.accept("a@x.example", "b@y.example", "c@z.example")
            await one.idle()
            notice = one.transports["smarthost:one"].contents[1]
            assert notice.count(b"Final-Recipient:") == 2
            assert b"b@y.example" not in notice

    run(scene())


def test_a_notice_that_fails_ends_without_another(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            one.transports["direct"].answer = everybody(NO)
            await one.accept()
            await one.idle()
            [(_, notice_id, _)] = one.heard.notices
            assert await one.states(notice_id) == ["bounced"]
            assert await one.spool.next_due_at(0.0) is None

    run(scene())


def test_a_notice_about_utf8_addresses_travels_as_what_it_is(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            one.transports["direct"].answer = everybody(NO)
            await one.accept("jürgen@d.example", reverse_path="zoë@b.example", smtputf8=True)
            await one.idle()
            notice = one.transports["direct"].requests[1]
            assert (notice.envelope.smtputf8, notice.envelope.body_8bit) == (True, True)
            assert "Final-Recipient: utf-8; jürgen@d.example".encode() in one.transports["direct"].contents[1]

    run(scene())


def test_a_notice_that_finds_no_room_is_left_to_the_spool_and_goes_out_later(tmp_path):
    async def scene():
        async with setting(tmp_path, spool={"window": 1}) as one:
            one.transports["direct"].answer = lambda request, content: DeliveryReport(
                {"c@d.example": NO, "a@b.example": YES}
            )
            told, real = [], one.engine.on_left_out
            one.engine.on_left_out = lambda next_at: (told.append(next_at), real(next_at))
            one.feed()
            await one.accept()
            await until(lambda: any(event.recipient == "a@b.example" for event in one.heard.events))
            assert told == [START]

    run(scene())


# --- retries -------------------------------------------------------------------------------------------------


def test_by_default_there_are_six_attempts_and_then_a_bounce(tmp_path):
    async def scene():
        async with setting(tmp_path, dice=Halves()) as one:
            times = []

            def answer(request, content):
                times.append(one.clock.time - START)
                assert request.attempt == len(times)
                return DeliveryReport({"c@d.example": LATER})

            one.transports["direct"].answer = answer
            message_id = await one.accept("c@d.example", reverse_path=None)
            one.feed()
            await one.run_out()
            assert times == [0, 30, 330, 2130, 9330, 27330]
            assert one.heard.kinds(message_id) == ["deferred"] * 5 + ["bounced"]
            assert await one.states(message_id) == ["bounced"]

    run(scene())


class Halves:
    """Dice that always show the middle: no jitter."""

    def random(self):
        return 0.5

    def shuffle(self, x):
        pass


def test_recipients_put_off_together_come_back_together_under_the_same_key(tmp_path):
    """A provider that took the first request knows the second by its idempotency key."""

    async def scene():
        async with setting(tmp_path, "smarthost:one") as one:
            transport = one.transports["smarthost:one"]
            transport.answer = everybody(DOUBT)
            await one.accept(*(f"r{n}@d{n}.example" for n in range(20)))
            await one.idle()
            transport.answer = everybody(YES)
            one.feed()
            await one.run_out()
            first, second = transport.requests
            assert (first.attempt, second.attempt) == (1, 2)
            assert first.idempotency_key == second.idempotency_key != ""

    run(scene())


# --- all of it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_whatever_transports_do_every_accepted_recipient_ends_once_and_is_told_of(tmp_path, seed):
    """Promise 2, and no recipient is handed over again after a yes."""

    async def scene():
        dice = random.Random(seed)
        taken: list[tuple[str, str]] = []
        choices = [YES, NO, LATER, DOWN, ELSEWHERE, REFUSED, DOUBT, Sent(reply(250, "2.0.0", "Ok"), "x"), None]

        def answer(request, content):
            if dice.random() < 0.1:
                raise RuntimeError("a bug")
            outcomes = {}
            for address in addresses(request):
                outcome = dice.choice(choices)
                if outcome is None:
                    continue
                outcomes[address] = outcome
                if isinstance(outcome, Delivered | Sent | Failed) and not getattr(outcome, "elsewhere", False):
                    taken.append((request.message_id, address))
            return DeliveryReport(outcomes)

        async with setting(tmp_path, "smarthost:one", "direct", dice=dice, spool={"window": 7, "memory": 300}) as one:
            for transport in one.transports.values():
                transport.answer = answer
            accepted = {}
            one.feed()
            for _ in range(15):
                to = [f"r{n}@d{n % 3}.example" for n in range(dice.randrange(1, 8))]
                sender = dice.choice(["a@b.example", None])
                accepted[await one.accept(*to, reverse_path=sender)] = to
                one.clock.time += dice.choice([0, 0.001, 5])
            await one.run_out()
            accepted |= {notice: [to] for _, notice, to in one.heard.notices}
            for message_id, to in accepted.items():
                for address in to:
                    ends = [
                        event
                        for event in one.heard.events
                        if (event.message_id, event.recipient) == (message_id, address) and event.kind in TERMINAL
                    ]
                    assert len(ends) == 1, (message_id, address)
                assert all(
                    state in ("sent", "delivered", "bounced", "expired") for state in await one.states(message_id)
                )
            assert len(taken) == len(set(taken))
            assert one.engine.room == 7
            assert (await one.spool.counts()).messages == 0

    run(scene())


# --- the window ----------------------------------------------------------------------------------------------


def test_what_finds_no_room_stays_in_the_spool_and_is_brought_when_there_is_some(tmp_path):
    async def scene():
        async with setting(tmp_path, spool={"window": 4}) as one:
            gate, most = asyncio.Event(), 0

            async def answer(request, content):
                nonlocal most
                most = max(most, 4 - one.engine.room)
                await gate.wait()
                return DeliveryReport(dict.fromkeys(addresses(request), YES))

            one.transports["direct"].answer = answer
            one.feed()
            ids = [await one.accept(f"x@d{n}.example") for n in range(40)]
            assert len(one.engine.active) == 4
            gate.set()
            await until(lambda: len(one.heard.events) == 40)
            assert sorted(event.message_id for event in one.heard.events) == ids
            assert most == 4

    run(scene())


def test_beyond_the_memory_budget_bodies_are_read_from_the_spool(tmp_path):
    async def scene():
        async with setting(tmp_path, spool={"memory": len(CONTENT)}) as one:
            read = []
            real = one.spool.read_content

            async def reading(message_id):
                read.append(message_id)
                return await real(message_id)

            one.spool.read_content = reading
            first, second = await one.accept(), await one.accept()
            await one.idle()
            assert read == [second]
            assert one.transports["direct"].contents == [b"X-Signature: 1\r\n" + CONTENT] * 2
            assert await one.states(first) == ["delivered"]
            await one.accept()
            await one.idle()
            assert read == [second]

    run(scene())


def test_a_message_offered_twice_is_scheduled_once(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            gate = asyncio.Event()

            async def answer(request, content):
                await gate.wait()
                return DeliveryReport(dict.fromkeys(addresses(request), YES))

            one.transports["direct"].answer = answer
            await one.accept()
            await until(lambda: one.transports["direct"].requests)
            [again] = await one.spool.due(0.0, one.clock.now(), 10)
            assert one.engine.submit(again)
            gate.set()
            await one.idle()
            assert one.engine.submit(again)  # as a reader would that looked before the result was written
            await one.idle()
            assert len(one.transports["direct"].requests) == 1

    run(scene())


def test_more_than_a_hundred_recipients_go_in_several_jobs(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            message_id = await one.accept(*(f"r{n}@d.example" for n in range(250)))
            await one.idle()
            assert sorted(len(request.recipients) for request in one.transports["direct"].requests) == [50, 100, 100]
            assert set(await one.states(message_id)) == {"delivered"}

    run(scene())


def test_two_recipients_of_one_address_get_the_same_outcome(tmp_path):
    """Intake makes them unique; outcomes are by address, and that must be safe all the same."""

    async def scene():
        async with setting(tmp_path) as one:
            message_id = await one.accept("c@d.example", "c@d.example")
            await one.idle()
            assert await one.states(message_id) == ["delivered", "delivered"]

    run(scene())


def test_a_clock_set_back_does_not_keep_a_message_from_going_out(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            queued_id = one.spool.new_id()
            await one.accept(submit=False)
            [queued] = await one.spool.due(0.0, START, 10)
            one.clock.time -= 3600
            one.offer(queued)
            await one.idle()
            assert await one.states(queued.id) == ["delivered"]
            assert queued_id < queued.id

    run(scene())


# --- the end -------------------------------------------------------------------------------------------------


def test_stop_lets_what_runs_end_and_leaves_the_rest_in_the_spool(tmp_path):
    async def scene():
        async with setting(tmp_path, delivery={"destination_concurrency": 2}) as one:
            gate = asyncio.Event()

            async def answer(request, content):
                await gate.wait()
                return DeliveryReport(dict.fromkeys(addresses(request), YES))

            one.transports["direct"].answer = answer
            ids = [await one.accept() for _ in range(6)]
            await until(lambda: len(one.transports["direct"].requests) == 2)
            stopping = asyncio.create_task(one.engine.stop(10.0))
            await asyncio.sleep(0)
            assert not one.engine.submit((await one.spool.due(0.0, START, 10))[0])
            gate.set()
            await stopping
            assert [(await one.states(message_id))[0] for message_id in ids] == ["delivered"] * 2 + ["queued"] * 4
            assert len(one.transports["direct"].requests) == 2

    run(scene())


def test_stop_cuts_off_what_does_not_end_in_time(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            one.transports["direct"].answer = lambda request, content: asyncio.Event().wait()
            message_id = await one.accept()
            await until(lambda: one.transports["direct"].requests)
            await one.engine.stop(0.01)
            assert await one.states(message_id) == ["queued"]
            found = await one.spool.message(message_id)
            assert found["attempts"][0]["ended_at"] is None

    run(scene())


def test_forgotten_messages_are_not_delivered_until_the_spool_brings_them_again(tmp_path):
    async def scene():
        async with setting(tmp_path, delivery={"destination_concurrency": 1}) as one:
            gate = asyncio.Event()

            async def answer(request, content):
                await gate.wait()
                return DeliveryReport(dict.fromkeys(addresses(request), YES))

            one.transports["direct"].answer = answer
            ids = [await one.accept() for _ in range(4)]
            await until(lambda: one.transports["direct"].requests)
            one.engine.forget(frozenset(ids[1:3]))
            (cancelled,) = await one.spool.act(Act(Verb.CANCEL, Selection((ids[1],))))
            assert (cancelled.message_id, cancelled.in_flight) == (ids[1], False)
            one.feed()
            gate.set()
            await until(lambda: len(one.heard.events) == 3)
            assert [(await one.states(one_id))[0] for one_id in ids] == [
                "delivered",
                "cancelled",
                "delivered",
                "delivered",
            ]

    run(scene())


def test_a_binary_message_goes_with_its_form_as_lines_each_signed(tmp_path):
    async def scene():
        async with Setting(tmp_path / "spool", settings(route=[route("direct")]), {"direct": FakeTransport()}) as one:
            content = b"Subject: b\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\n"
            await one.accept(content=content, binary=True)
            await one.accept(content=content, binary=True, account="")
            await one.accept(content=b"DKIM-Signature: v=1\r\n" + content, binary=True)
            await one.accept()
            await one.idle()
            lines = b"Subject: b\r\nContent-Transfer-Encoding: base64\r\n\r\nAAo=\r\n"
            direct = one.transports["direct"]
            texts = [request.text for request in direct.requests]
            assert texts == [b"X-Signature: 1\r\n" + lines, lines, None, None]
            assert direct.contents[0] == b"X-Signature: 1\r\n" + content

    run(scene())
