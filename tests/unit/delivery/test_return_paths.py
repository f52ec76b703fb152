"""Mail leaves under a return path of ours, and what comes back to it moves its recipient and goes on to its sender."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from delivery_kit import FakeTransport, Setting, everybody, route, run, settings

from relay.delivery.engine import Engine
from relay.delivery.returns import Returns
from relay.mail.envelope import Recipient
from relay.mail.event import Event, EventKind
from relay.mail.outcome import Deferred, Delivered, Fault
from relay.mail.reply import reply
from relay.mail.return_path import KEY_OCTETS, ReturnPaths
from relay.mail.returned import ReportedRecipient
from relay.ports import Origin, ReturnedMail

KEY = b"k" * KEY_OCTETS
PATHS = ReturnPaths("back.example", KEY)
TO = ("c@d.example", "e@d.example")


class Returning(Setting):
    """With return paths, and what came back."""

    def __init__(self, folder: Path, *via: str, bounces: dict[str, Any] | None = None, **sections: Any) -> None:
        given = settings(
            route=[route(*(via or ("direct",)))], bounces={"domain": "back.example", **(bounces or {})}, **sections
        )
        super().__init__(folder, given, {name: FakeTransport() for name in via or ("direct",)})
        self.told: list[tuple[Event, bool]] = []

    def build(self, spool: Any = None) -> None:
        super().build(spool)
        self.engine = Engine(
            self.settings, self.spool, self.transports, self.signer, self.clock, self.dice, self.heard, self.heard, KEY
        )
        self.returns = Returns(self.spool, lambda: self.settings, lambda *event: self.told.append(event))

    async def delivered(self, *to: str | Recipient, **options: Any) -> str:
        message_id = await self.accept(*to, **options)
        await self.idle()
        return message_id

    async def back(
        self, message_id: str, *reported: ReportedRecipient, index: int | None = None, key: str = "1"
    ) -> Any:
        return await self.returns.take(ReturnedMail(message_id, index, key, self.clock.now(), reported))


def said(action: str, *addresses: str, status: str = "5.1.1") -> ReportedRecipient:
    return ReportedRecipient(action, addresses, status, "no such user")


def senders(one: Setting, name: str = "direct") -> list[str | None]:
    return [request.reverse_path for request in one.transports[name].requests]


def test_what_goes_out_by_mx_carries_the_message_and_a_lone_recipient_in_its_sender(tmp_path):
    async def scene():
        async with Returning(tmp_path) as one:
            two = await one.delivered(*TO)
            lone = await one.delivered(TO[0])
            assert senders(one) == [PATHS.of(two, None), PATHS.of(lone, 0)]

    run(scene())


def test_per_recipient_each_has_a_transaction_and_a_sender_of_its_own(tmp_path):
    async def scene():
        async with Returning(tmp_path, bounces={"per_recipient": True}) as one:
            message_id = await one.delivered(*TO)
            assert senders(one) == [PATHS.of(message_id, 0), PATHS.of(message_id, 1)]
            assert [[r.address for r in request.recipients] for request in one.transports["direct"].requests] == [
                [TO[0]],
                [TO[1]],
            ]
            assert await one.states(message_id) == ["delivered", "delivered"]

    run(scene())


def test_per_recipient_a_host_that_gives_no_session_is_asked_once(tmp_path):
    async def scene():
        async with Returning(tmp_path, bounces={"per_recipient": True}) as one:
            one.transports["direct"].answer = everybody(Deferred(reply(421, "4.4.2", "busy"), Fault.HOST))
            message_id = await one.delivered(*TO)
            assert len(senders(one)) == 1
            assert await one.states(message_id) == ["deferred", "deferred"]

    run(scene())


@pytest.mark.parametrize(
    "options", [{"reverse_path": None}, {"account": ""}], ids=["the null sender", "mail of a stranger"]
)
def test_a_notice_and_a_stranger_keep_their_sender(tmp_path, options):
    async def scene():
        async with Returning(tmp_path) as one:
            await one.delivered(**options)
            assert senders(one) == [options.get("reverse_path", "a@b.example")]

    run(scene())


@pytest.mark.parametrize(("setting", "ours"), [("client", False), ("bounces", True)])
def test_a_smarthost_sees_the_senders_own_address_unless_it_is_told_otherwise(tmp_path, setting, ours):
    async def scene():
        hosts = {"one": {"host": "one.example", "return_path": setting}}
        async with Returning(tmp_path, "smarthost:one", smarthost=hosts) as one:
            message_id = await one.delivered()
            assert senders(one, "smarthost:one") == [PATHS.of(message_id, 0) if ours else "a@b.example"]

    run(scene())


def test_a_bounce_that_comes_back_moves_its_recipient_once_and_goes_on_to_the_sender(tmp_path):
    async def scene():
        async with Returning(tmp_path) as one:
            message_id = await one.delivered(*TO)
            failed = said("failed", "E@d.example")
            assert await one.back(message_id, failed) == Origin("acme", "a@b.example")
            assert await one.back(message_id, failed) == Origin("acme", "a@b.example")
            assert await one.states(message_id) == ["delivered", "bounced"]
            [(event, ended)] = one.told
            assert (event.kind, event.recipient, ended) == ("bounced", "e@d.example", False)
            assert event.reply == "550 5.1.1 Returned later: no such user"

    run(scene())


def test_a_return_path_of_one_recipient_knows_whom_an_alias_hides(tmp_path):
    async def scene():
        async with Returning(tmp_path) as one:
            message_id = await one.delivered(*TO)
            await one.back(message_id, said("failed", "elsewhere@z.example"), index=1)
            assert await one.states(message_id) == ["delivered", "bounced"]

    run(scene())


def test_an_address_nobody_knows_moves_nobody_and_still_goes_on(tmp_path):
    async def scene():
        async with Returning(tmp_path) as one:
            message_id = await one.delivered(*TO)
            assert await one.back(message_id, said("failed", "other@z.example")) == Origin("acme", "a@b.example")
            assert await one.states(message_id) == ["delivered", "delivered"]

    run(scene())


def test_the_gravest_of_several_reports_of_one_recipient_counts(tmp_path):
    async def scene():
        async with Returning(tmp_path) as one:
            message_id = await one.delivered(TO[0])
            await one.back(message_id, said("delivered", TO[0]), said("failed", TO[0]), said("delayed", TO[0]))
            assert [event.kind for event, _ in one.told] == ["bounced"]

    run(scene())


def test_a_failure_with_a_temporary_status_is_a_bounce_all_the_same(tmp_path):
    async def scene():
        async with Returning(tmp_path) as one:
            message_id = await one.delivered(TO[0])
            await one.back(message_id, said("failed", TO[0], status="4.4.7"))
            assert one.told[0][0].reply == "550 5.4.7 Returned later: no such user"

    run(scene())


def test_a_delay_is_an_event_and_no_state(tmp_path):
    async def scene():
        async with Returning(tmp_path) as one:
            message_id = await one.delivered(TO[0])
            assert await one.back(message_id, said("delayed", TO[0], status="4.4.1")) == Origin("acme", "")
            assert await one.states(message_id) == ["delivered"]
            assert [event.kind for event, _ in one.told] == ["delayed"]

    run(scene())


@pytest.mark.parametrize(
    ("notify", "action", "wanted"),
    [
        ((), "failed", True),
        ((), "relayed", False),
        ((), "delayed", False),
        (("NEVER",), "failed", False),
        (("SUCCESS",), "failed", False),
        (("SUCCESS",), "delivered", True),
        (("SUCCESS",), "relayed", True),
        (("SUCCESS",), "expanded", True),
        (("DELAY",), "delayed", True),
    ],
)
def test_the_sender_gets_what_was_asked_for(tmp_path, notify, action, wanted):
    async def scene():
        async with Returning(tmp_path) as one:
            message_id = await one.delivered(Recipient(TO[0], notify))
            origin = await one.back(message_id, said(action, TO[0]))
            assert origin == Origin("acme", "a@b.example" if wanted else "")

    run(scene())


def test_an_account_that_wants_no_later_bounces_gets_none_and_its_events_all_the_same(tmp_path):
    async def scene():
        async with Returning(tmp_path, account={"acme": {"later_bounces": "none"}}) as one:
            message_id = await one.delivered(TO[0])
            assert await one.back(message_id, said("failed", TO[0])) == Origin("acme", "")
            assert await one.states(message_id) == ["bounced"]

    run(scene())


def test_what_is_no_report_goes_on_whatever_was_asked_for(tmp_path):
    async def scene():
        async with Returning(tmp_path) as one:
            message_id = await one.delivered(Recipient(TO[0], ("NEVER",)))
            assert await one.back(message_id) == Origin("acme", "a@b.example")

    run(scene())


def test_a_message_that_is_not_known_any_more_is_gone(tmp_path):
    async def scene():
        async with Returning(tmp_path) as one:
            assert await one.back("0" * 16, said("failed", TO[0])) == "gone"
            message_id = await one.delivered(TO[0])
            assert await one.back(message_id, said("failed", TO[0]), index=3) == "gone"

    run(scene())


def test_a_bounce_that_overtakes_the_answer_comes_again_once(tmp_path):
    async def scene():
        async with Returning(tmp_path) as one:
            message_id = await one.accept(TO[0], submit=False)
            early = ReturnedMail(message_id, 0, "1", one.clock.now(), (said("failed", TO[0]),), patient=True)
            assert await one.returns.take(early) == "early"
            one.transports["direct"].answer = everybody(Delivered(reply(250, "2.0.0", "ok")))
            one.offer((await one.spool.due(0.0, one.clock.now(), 10))[0])
            await one.idle()
            assert await one.returns.take(early) == Origin("acme", "a@b.example")
            assert await one.states(message_id) == ["bounced"]

    run(scene())


def test_a_bounce_that_comes_back_is_told_to_the_suppression_list(tmp_path):
    """With account, address and the words of the host."""

    async def scene():
        async with Returning(tmp_path) as one:
            heard: list[tuple[Any, ...]] = []

            async def suppress(*what: Any) -> None:
                heard.append(what)

            one.returns = Returns(one.spool, lambda: one.settings, lambda *event: None, suppress)
            message_id = await one.delivered(TO[0])
            await one.back(message_id, said("failed", TO[0]), index=0)
            assert heard == [("acme", TO[0], EventKind.BOUNCED, "550 5.1.1 Returned later: no such user")]

    run(scene())
