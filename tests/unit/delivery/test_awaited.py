"""Mail for a provider that owes reports: kept until it has reported, and sent another way when it is silent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from delivery_kit import FakeTransport, Setting, everybody, route, run, settings

from relay.delivery.reports import Reports
from relay.mail.envelope import Recipient
from relay.mail.event import Event, EventKind
from relay.mail.outcome import Sent
from relay.mail.reply import reply
from relay.policy.health import SILENT_AFTER
from relay.ports import DeliveryReport, DeliveryRequest, Report
from relay.store.spool_verbs import Act, Selection, Verb

A, B = "provider:a", "provider:b"
WITHIN = 60.0


class Scene(Setting):
    """Two providers; `a` owes reports."""

    def __init__(self, folder: Path, *via: str, unreported: str = "in_doubt", in_doubt: str = "retry") -> None:
        key, hook = folder / "key", folder / "hook"
        key.write_text("k" * 40)
        hook.write_text("h" * 40)
        common = {"kind": "sendpost", "api_key_file": str(key)}
        watched = {"hook_token_file": str(hook), "report_within": WITHIN, "unreported": unreported}
        given = settings(
            route=[route(*(via or (A, B)))],
            provider={"a": {**common, **watched}, "b": common},
            delivery={"in_doubt": in_doubt},
            account={"acme": {"retry": "otp"}},
        )
        super().__init__(folder, given, {A: FakeTransport(), B: FakeTransport()})
        for name in (A, B):
            self.transports[name].answer = self.taken(name)
        self.news: list[tuple[Event, bool]] = []

    def taken(self, name: str) -> Any:
        def answer(request: DeliveryRequest, content: bytes) -> DeliveryReport:
            return everybody(Sent(reply(250, "2.0.0", "Ok"), f"{name}-{request.message_id}"))(request, content)  # type: ignore[return-value] -- at once

        return answer

    def reports(self) -> Reports:
        return Reports(
            self.spool, lambda: self.settings, self.clock, lambda event, ended: self.news.append((event, ended)),
            self.heard, lambda: None, self.engine.health.reported,
        )  # fmt: skip

    async def told(self, message_id: str, kind: EventKind, *, by: str = A, recipient: str = "") -> list[bool]:
        key = f"{kind} {message_id} {recipient}"
        report = Report(kind, f"{by}-{message_id}", recipient, key, self.clock.time, "said")
        return await self.reports().take([report])

    def asked(self, name: str) -> list[str]:
        return [request.message_id for request in self.transports[name].requests]


async def pass_time(one: Scene, seconds: float) -> None:
    """Until nothing is due any more."""
    if one._feeding is None:
        one.feed()
    await one.advance_to(one.clock.time + seconds)
    async with asyncio.timeout(60):
        while one.engine.active or ((due := await one.spool.next_due_at(0.0)) and due <= one.clock.time):
            await asyncio.sleep(0.001)


def test_what_it_took_waits_with_its_body_until_it_is_reported(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            sent = await one.accept()
            await one.idle()
            assert await one.states(sent) == ["deferred"]
            assert one.heard.kinds(sent) == ["awaited"]
            assert await one.spool.read_content(sent)
            assert await one.told(sent, EventKind.DELIVERED) == [True]
            assert await one.states(sent) == ["delivered"]
            [(event, ended)] = one.news
            assert (event.kind, ended) == (EventKind.DELIVERED, True)
            assert (await one.spool.counts()).messages == 0
            await pass_time(one, WITHIN)
            assert one.asked(A) == [sent]
            assert one.asked(B) == []

    run(scene())


def test_a_bounce_it_reports_ends_it_with_a_notice(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            sent = await one.accept()
            await one.idle()
            await one.told(sent, EventKind.BOUNCED)
            assert await one.states(sent) == ["bounced"]
            assert len(one.heard.notices) == 1

    run(scene())


def test_success_is_told_to_who_asked_when_it_is_reported(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            sent = await one.accept(Recipient("c@d.example", ("SUCCESS",)))
            await one.idle()
            assert one.heard.notices == []
            await one.told(sent, EventKind.DELIVERED)
            [(_, notice, to)] = one.heard.notices
            assert to == "a@b.example"
            assert b"Action: delivered" in await one.spool.read_content(notice)

    run(scene())


def test_what_alone_is_not_reported_is_in_doubt_and_its_provider_is_not_silent(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            lost = await one.accept()
            await one.idle()
            one.clock.time += 1
            later = await one.accept()
            await one.idle()
            await one.told(later, EventKind.DELIVERED)
            await pass_time(one, WITHIN)
            assert one.heard.kinds(lost) == ["awaited", "in_doubt"]
            assert one.heard.hops == []

    run(scene())


def test_a_report_that_decides_nothing_shows_that_it_was_sent(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            sent = await one.accept()
            await one.idle()
            await one.told(sent, EventKind.DELAYED)
            await pass_time(one, WITHIN)
            assert await one.states(sent) == ["sent"]
            found = await one.recipient(sent)
            assert (found["remote_id"], found["attempts"]) == (f"{A}-{sent}", 1)
            assert one.asked(B) == []

    run(scene())


def test_what_a_silent_provider_took_is_in_doubt_and_goes_another_way(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            first = [await one.accept() for _ in range(3)]
            await one.idle()
            await pass_time(one, WITHIN)
            assert one.heard.hops == [("silent", A)]
            await pass_time(one, 20)
            assert sorted(one.asked(B)) == sorted(first)
            assert [one.heard.kinds(each) for each in first] == [["awaited", "in_doubt", "sent"]] * 3
            late = await one.accept()
            await one.idle()
            assert late in one.asked(B)
            assert late not in one.asked(A)
            assert one.engine.silent().keys() == {A}

    run(scene())


def test_what_is_in_doubt_is_held_where_the_operator_wants_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path, in_doubt="hold") as one:
            sent = await one.accept()
            await one.idle()
            await pass_time(one, WITHIN)
            assert await one.states(sent) == ["held"]
            assert "it may have been delivered" in (await one.recipient(sent))["reply"]

    run(scene())


def test_a_probe_finds_that_it_reports_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            await one.accept()
            await one.idle()
            await pass_time(one, WITHIN)
            await pass_time(one, WITHIN)
            probe = await one.accept()
            await one.idle()
            assert probe in one.asked(A)
            await one.told(probe, EventKind.DELIVERED)
            assert one.heard.hops == [("silent", A), ("heard", A)]
            after = await one.accept()
            await one.idle()
            assert after in one.asked(A)

    run(scene())


def test_where_there_is_no_other_mail_goes_on_to_a_silent_one(tmp_path: Path) -> None:
    """It may have lost its callbacks alone."""

    async def scene() -> None:
        async with Scene(tmp_path, A, unreported="sent") as one:
            sent = [await one.accept() for _ in range(SILENT_AFTER)]
            await one.idle()
            one.clock.time += WITHIN
            sent.append(await one.accept())
            await one.idle()
            assert one.asked(A) == sent

    run(scene())


def test_without_doubt_mail_is_sent_at_once_and_silence_puts_others_first(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path, unreported="sent") as one:
            sent = [await one.accept() for _ in range(SILENT_AFTER)]
            await one.idle()
            assert [await one.states(each) for each in sent] == [["sent"]] * SILENT_AFTER
            one.clock.time += WITHIN
            late = await one.accept()
            await one.idle()
            assert one.asked(B) == [late]

    run(scene())


def test_after_a_restart_it_has_its_time_once_more(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            sent = await one.accept()
            await one.idle()
            one.clock.time += WITHIN
            one.build()
            await pass_time(one, 0)
            assert one.heard.kinds(sent) == ["awaited", "awaited"]
            assert (await one.recipient(sent))["attempts"] == 1
            await one.told(sent, EventKind.DELIVERED)
            assert await one.states(sent) == ["delivered"]

    run(scene())


def test_what_an_operator_sends_another_way_waits_for_no_report(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            sent = await one.accept()
            await one.idle()
            await one.spool.act(Act(Verb.REROUTE, Selection(ids=(sent,)), via=B))
            await pass_time(one, 1)
            assert one.asked(B) == [sent]
            assert await one.states(sent) == ["sent"]

    run(scene())


@pytest.mark.parametrize("verb", [Verb.HOLD, Verb.RETRY])
def test_other_verbs_leave_the_report_owed(tmp_path: Path, verb: Verb) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            sent = await one.accept()
            await one.idle()
            await one.spool.act(Act(verb, Selection(ids=(sent,))))
            await pass_time(one, 1)
            assert one.asked(B) == []
            assert await one.told(sent, EventKind.DELIVERED) == [True]
            assert await one.states(sent) == ["delivered"]

    run(scene())
