"""A lost answer with delivery.in_doubt = "query": the provider is asked before anything is sent a second time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from delivery_kit import (
    CONTENT,
    FakeTransport,
    Setting,
    addresses,
    everybody,
    open_files,
    route,
    run,
    settings,
    until,
)

from relay.delivery.job import RECIPIENTS_PER_JOB
from relay.mail.envelope import Recipient
from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Sent
from relay.mail.reply import reply
from relay.ports import DeliveryReport, DeliveryRequest, Knowledge
from relay.settings import RateLimitSettings
from relay.store.spool import SqliteSpool
from relay.store.spool_verbs import Act, Selection, Verb

A, B = "provider:a", "provider:b"
LOST = InDoubt(reply(451, "4.4.2", "Lost"))
TAKEN = Sent(reply(250, "2.0.0", "Ok"), "id-later")
NOTHING = Knowledge({}, complete=True, words="")
SILENT = Knowledge({}, complete=False, words="answered HTTP 503")

Known = Callable[[DeliveryRequest], Knowledge | None]


class Provider(FakeTransport):
    """Takes what it is given and loses the answer; says of it what a test wants."""

    def __init__(self, *, settles_doubt: bool = True, repeatable_for: float = 0.0) -> None:
        super().__init__()
        self.settles_doubt = settles_doubt
        self.repeatable_for = repeatable_for
        self.answer = everybody(LOST)
        self.knows: Known = lambda request: NOTHING
        self.asked: list[tuple[DeliveryRequest, bytes, float]] = []

    async def inquire(self, request: DeliveryRequest, content: bytes, since: float) -> Knowledge | None:
        self.asked.append((request, content, since))
        return self.knows(request)


def has(*wanted: str) -> Known:
    """It has these, or all it is asked about."""
    return lambda request: Knowledge(
        {one: f"id-{one}" for one in addresses(request) if not wanted or one in wanted}, complete=True, words=""
    )


class Scene(Setting):
    """Two providers, `a` first."""

    def __init__(
        self,
        folder: Path,
        in_doubt: str = "query",
        a: Provider | None = None,
        sections: dict[str, Any] | None = None,
        **delivery: Any,
    ) -> None:
        self.a = a or Provider()
        self.b = Provider()
        given = settings(
            route=[route(A, B)],
            provider={name: {"kind": "sendpost", "api_key_file": str(folder / "key")} for name in "ab"},
            delivery={"in_doubt": in_doubt, **delivery},
            **(sections or {}),
        )
        super().__init__(folder, given, {A: self.a, B: self.b})

    async def events(self, message_id: str) -> list[tuple[str, str]]:
        found = await self.spool.message(message_id)
        return [(one["kind"], one["reply"]) for one in found["events"]]

    async def kinds(self, message_id: str) -> list[str]:
        return [kind for kind, _ in await self.events(message_id)]

    async def asked_next(self) -> None:
        """Let time pass up to the next question, and its answer come in."""
        asked = len(self.a.asked)
        waiting = await self.spool.next_due_at(0.0)
        assert waiting is not None
        if self._feeding is None:
            self.feed()
        await self.advance_to(max(self.clock.time, waiting))
        await until(lambda: len(self.a.asked) > asked)
        await self.idle()


def test_what_the_provider_has_is_not_sent_again_and_ends_under_its_id(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            message_id = await one.accept("ann@x.example")
            await one.idle()
            recipient = await one.recipient(message_id)
            assert (recipient["state"], recipient["attempts"]) == ("deferred", 1)
            assert recipient["doubt"]["candidate"] == A
            assert await one.spool.next_due_at(0.0) == one.clock.time + 60

            one.a.knows = has()
            began = one.clock.time
            await one.asked_next()
            assert await one.events(message_id) == [
                ("queued", ""), ("in_doubt", "451 4.4.2 Lost"), ("sent", "250 2.0.0 provider:a was asked and has it"),
            ]  # fmt: skip
            recipient = await one.recipient(message_id)
            assert (recipient["remote_id"], recipient["doubt"]) == ("id-ann@x.example", None)
            [(request, content, since)] = one.a.asked
            assert (request.message_id, addresses(request), since) == (message_id, ["ann@x.example"], began)
            assert content.endswith(CONTENT)
            assert (len(one.a.requests), len(one.b.requests)) == (1, 0)
            assert one.heard.answers == [(A, 1, 0, 0)]
            assert one.heard.events[-1].detail["remote_id"] == "id-ann@x.example"

    run(scene())


def test_what_the_provider_has_not_is_sent_again_once_that_is_believed(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            message_id, began = await one.accept("ann@x.example"), one.clock.time
            await one.idle()
            for age in (60, 180, 420, 900):
                await one.asked_next()
                assert one.clock.time == began + age
                assert (await one.recipient(message_id))["doubt"]["missed"] == len(one.a.asked)
            one.a.answer = everybody(TAKEN)
            assert len(one.a.requests) == 1
            await one.asked_next()
            await until(lambda: "sent" in one.heard.kinds(message_id))
            assert one.clock.time == began + 1800
            assert await one.kinds(message_id) == ["queued", *["in_doubt"] * 5, "deferred", "sent"]
            assert (await one.events(message_id))[-2][1].endswith("was asked and has nothing of it; it is sent again")
            assert (await one.recipient(message_id))["attempts"] == 2
            assert [one.a.requests[1].attempt, len(one.a.requests)] == [2, 2]
            assert one.heard.answers == [(A, 0, 0, 1)] * 4 + [(A, 0, 1, 0)]

    run(scene())


def test_a_provider_of_its_own_patience_is_believed_earlier(tmp_path: Path) -> None:
    async def scene() -> None:
        one = Scene(tmp_path)
        one.settings.provider["a"].__dict__["query_trust"] = 120.0
        async with one:
            message_id = await one.accept("ann@x.example")
            await one.idle()
            await one.asked_next()
            await one.asked_next()
            assert (await one.kinds(message_id))[:4] == ["queued", "in_doubt", "in_doubt", "deferred"]

    run(scene())


def test_who_may_have_it_is_never_sent_to_by_another_provider_before_the_question_says_no(tmp_path: Path) -> None:
    """Also where the first one rests, or an operator chose another."""

    async def scene() -> None:
        async with Scene(tmp_path, query_trust=100) as one:
            message_id = await one.accept("ann@x.example")
            await one.idle()
            one.engine._pauses.watch(A, [Deferred(reply(451, "4.7.0", "key"), Fault.ROUTE)])
            assert A in one.engine.paused()
            await one.spool.act(Act(Verb.REROUTE, Selection((message_id,)), via=B))
            one.a.knows = lambda request: SILENT
            for _ in range(3):
                await one.asked_next()
            assert one.b.requests == []
            one.a.knows = lambda request: NOTHING
            one.b.answer = everybody(TAKEN)
            await one.asked_next()
            await one.asked_next()
            await until(lambda: "sent" in one.heard.kinds(message_id))
            assert (len(one.a.requests), len(one.b.requests)) == (1, 1)

    run(scene())


def test_who_cannot_say_is_asked_again_and_then_the_operator_decides(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path, query_times=3) as one:
            one.a.knows = lambda request: SILENT
            message_id = await one.accept("ann@x.example")
            await one.idle()
            for _ in range(3):
                await one.asked_next()
            assert await one.kinds(message_id) == ["queued", "in_doubt", "in_doubt", "in_doubt", "held"]
            assert (await one.events(message_id))[-1][1] == (
                "451 4.4.2 provider:a was asked and answered HTTP 503; it was asked for the last time;"
                " it may have been delivered"
            )
            assert await one.states(message_id) == ["held"]
            # Let go, it is sent: the operator has decided.
            one.a.answer = everybody(TAKEN)
            await one.spool.act(Act(Verb.RELEASE, Selection((message_id,))))
            one.feeder.look()
            await until(lambda: "sent" in one.heard.kinds(message_id))
            assert (len(one.a.asked), len(one.a.requests)) == (3, 2)

    run(scene())


@pytest.mark.parametrize("a", [Provider(settles_doubt=False), FakeTransport()])
def test_where_the_provider_cannot_be_asked_the_operator_decides_at_once(tmp_path: Path, a: Any) -> None:
    a.answer = everybody(LOST)

    async def scene() -> None:
        async with Scene(tmp_path, a=a) as one:
            message_id = await one.accept("ann@x.example")
            await one.idle()
            assert await one.events(message_id) == [
                ("queued", ""), ("held", "451 4.4.2 Lost; it may have been delivered"),
            ]  # fmt: skip

    run(scene())


def test_a_message_that_cannot_be_found_there_is_held(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            one.a.knows = lambda request: None
            message_id = await one.accept("ann@x.example")
            await one.idle()
            await one.asked_next()
            assert await one.kinds(message_id) == ["queued", "in_doubt", "held"]

    run(scene())


def test_recipients_that_were_not_in_the_lost_call_go_on_and_each_call_is_asked_for_by_itself(tmp_path: Path) -> None:
    people = [f"r{number}@x.example" for number in range(RECIPIENTS_PER_JOB + 2)]

    async def scene() -> None:
        def second_call_is_lost(request: DeliveryRequest, content: bytes) -> DeliveryReport:
            found = addresses(request)
            outcome = LOST if len(found) == 2 else TAKEN
            return DeliveryReport({address: LOST if address == people[0] else outcome for address in found}, "x")

        async with Scene(tmp_path) as one:
            one.a.answer = second_call_is_lost
            message_id = await one.accept(*people)
            await one.idle()
            states = await one.states(message_id)
            assert (states[0], set(states[1:-2]), states[-2:]) == ("deferred", {"sent"}, ["deferred"] * 2)
            one.clock.time += 60
            one.a.knows = has(people[-1])
            one.feed()
            await until(lambda: sum(len(addresses(request)) for request, _, _ in one.a.asked) >= 3)
            await one.idle()
            assert (await one.states(message_id))[-1] == "sent"
            assert (await one.recipient(message_id, len(people) - 2))["doubt"]["partly"]

    run(scene())


def test_who_is_missing_beside_others_of_the_call_is_asked_about_and_then_held(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path, query_times=4, query_trust=1) as one:
            one.a.knows = has("ann@x.example")
            message_id = await one.accept("ann@x.example", "bob@x.example")
            await one.idle()
            for _ in range(4):
                await one.asked_next()
            assert await one.states(message_id) == ["sent", "held"]
            assert len(one.a.requests) == 1
            assert "has others of the same call, but not this one" in (await one.recipient(message_id, 1))["reply"]

    run(scene())


def test_a_call_that_may_be_repeated_is_repeated_there_while_its_key_is_known(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path, a=Provider(repeatable_for=900)) as one:
            message_id = await one.accept("ann@x.example")
            await one.idle()
            one.engine._pauses.watch(A, [Deferred(reply(451, "4.7.0", "key"), Fault.ROUTE)])
            one.a.answer = everybody(TAKEN)
            one.feed()
            await one.advance_to(one.clock.time + 60)
            await until(lambda: "sent" in one.heard.kinds(message_id))
            assert (len(one.a.requests), len(one.a.asked), len(one.b.requests)) == (2, 0, 0)

    run(scene())


def test_a_key_that_is_forgotten_there_is_no_reason_to_repeat(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path, a=Provider(repeatable_for=900)) as one:
            one.a.knows = lambda request: None
            message_id = await one.accept("ann@x.example")
            await one.idle()
            one.feed()
            await one.advance_to(one.clock.time + 900)
            await until(lambda: "held" in one.heard.kinds(message_id))
            assert len(one.a.requests) == 1

    run(scene())


@pytest.mark.parametrize("policy", ["retry", "hold", "query"])
def test_a_call_that_has_to_be_repeated_goes_to_no_other_provider_while_its_key_is_known(
    tmp_path: Path, policy: str
) -> None:
    """Also where the second call never gets there: the first one may have."""

    async def scene() -> None:
        async with Scene(tmp_path, policy, Provider(repeatable_for=86_400)) as one:
            lost = Deferred(reply(451, "4.4.2", "Lost"), Fault.HOST, repeats=True)
            unreached = Deferred(reply(451, "4.4.1", "Refused"), Fault.HOST)
            one.a.answer = everybody(lost)
            one.b.answer = everybody(TAKEN)
            message_id = await one.accept("ann@x.example")
            await one.idle()
            one.feed()
            for number, answer in enumerate((unreached, lost, TAKEN), 2):
                one.a.answer = everybody(answer)
                waiting = await one.spool.next_due_at(0.0)
                assert waiting is not None
                await one.advance_to(max(one.clock.time, waiting))
                await until(lambda number=number: len(one.a.requests) == number)
                await one.idle()
            await until(lambda: "sent" in one.heard.kinds(message_id))
            assert one.b.requests == []

    run(scene())


@pytest.mark.parametrize(("policy", "kind", "by_others"), [("retry", "sent", 1), ("hold", "held", 0)])
def test_who_may_have_it_under_a_forgotten_key_follows_the_policy(
    tmp_path: Path, policy: str, kind: str, by_others: int
) -> None:
    async def scene() -> None:
        async with Scene(tmp_path, policy, Provider(repeatable_for=20)) as one:
            one.a.answer = everybody(Deferred(reply(451, "4.4.2", "Lost"), Fault.HOST, repeats=True))
            one.b.answer = everybody(TAKEN)
            message_id = await one.accept("ann@x.example")
            await one.idle()
            one.a.answer = everybody(Deferred(reply(451, "4.4.1", "Refused"), Fault.HOST))
            one.feed()
            for _ in range(3):
                waiting = await one.spool.next_due_at(0.0)
                if waiting is not None:
                    await one.advance_to(max(one.clock.time, waiting))
                    await one.idle()
            await until(lambda: kind in one.heard.kinds(message_id))
            assert len(one.b.requests) == by_others

    run(scene())


@pytest.mark.parametrize(("policy", "kind"), [("retry", "sent"), ("hold", "held")])
def test_who_waits_for_a_question_follows_another_policy(tmp_path: Path, policy: str, kind: str) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            message_id = await one.accept("ann@x.example")
            await one.idle()
            delivery = one.settings.delivery.model_copy(update={"in_doubt": policy})
            one.engine.reconfigure(one.settings.model_copy(update={"delivery": delivery}), one.transports)
            one.a.answer = everybody(TAKEN)
            one.feed()
            await one.advance_to(one.clock.time + 60)
            await until(lambda: kind in one.heard.kinds(message_id))
            assert one.a.asked == []
            assert len(one.a.requests) == 1 + (policy == "retry")

    run(scene())


@pytest.mark.parametrize("kept_open", [False, True])
def test_a_kill_before_or_during_the_question_leads_to_the_question_and_not_to_a_second_mail(
    tmp_path: Path, kept_open: bool
) -> None:
    """An attempt that never ended is in doubt as one that lost its answer is."""

    async def scene() -> None:
        async with Scene(tmp_path) as one:
            if not kept_open:
                one.a.answer = lambda request, content: asyncio.Event().wait()  # type: ignore[assignment, return-value]
            message_id = await one.accept("ann@x.example")
            if kept_open:
                await one.idle()

                async def forever(request: DeliveryRequest, content: bytes, since: float) -> Knowledge | None:
                    one.a.asked.append((request, content, since))
                    await asyncio.Event().wait()
                    return None

                one.a.inquire = forever  # type: ignore[method-assign]
                one.feed()
                await one.advance_to(one.clock.time + 60)
                await until(lambda: one.a.asked)
            else:
                await until(lambda: one.a.requests)
            began = one.clock.time - (60 if kept_open else 0)
            await one.stop_feeding()
            await one.engine.stop(0.0)
            await one.spool.close()
            one.clock.time += 5
            one.spool = SqliteSpool.open(one.folder, 0, one.clock, file_threshold=1000, in_doubt="query")
            assert one.spool.recovered == 1
            fresh = Provider()
            fresh.knows = has()
            one.a = one.transports[A] = fresh
            one.build()
            one.feed()
            await until(lambda: "sent" in one.heard.kinds(message_id))
            assert await one.kinds(message_id) == ["queued", "in_doubt", "sent"]
            assert [since for _, _, since in fresh.asked] == [began]
            assert fresh.requests == []
            assert (await one.recipient(message_id))["attempts"] == 1

    run(scene())


def test_an_attempt_by_mx_that_a_kill_interrupted_is_held(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path, a=FakeTransport()) as one:  # type: ignore[arg-type]
            one.a.answer = lambda request, content: asyncio.Event().wait()  # type: ignore[assignment, return-value]
            message_id = await one.accept("ann@x.example")
            await until(lambda: one.a.requests)
            await one.engine.stop(0.0)
            await one.spool.close()
            one.spool = SqliteSpool.open(one.folder, 0, one.clock, file_threshold=1000, in_doubt="query")
            one.build()
            one.feed()
            await until(lambda: "held" in one.heard.kinds(message_id))
            assert await one.kinds(message_id) == ["queued", "in_doubt", "held"]
            assert len(one.a.requests) == 1

    run(scene())


AGAIN = Deferred(reply(451, "4.4.2", "Lost"), Fault.HOST, repeats=True)


@pytest.mark.parametrize(("policy", "kind"), [("retry", "sent"), ("hold", "held"), ("query", "held")])
def test_a_call_that_is_refused_when_it_is_repeated_follows_the_policy_and_does_not_bounce(
    tmp_path: Path, policy: str, kind: str
) -> None:
    """The refusal may be of the key alone; and another candidate may carry the message."""

    async def scene() -> None:
        async with Scene(tmp_path, policy, Provider(repeatable_for=900)) as one:
            one.a.answer = everybody(AGAIN)
            one.a.knows = lambda request: None
            one.b.answer = everybody(TAKEN)
            message_id = await one.accept("ann@x.example")
            await one.idle()
            one.a.answer = everybody(Failed(reply(550, "5.6.0", "No"), elsewhere=True))
            one.feed()
            await one.advance_to(one.clock.time + 60)
            await until(lambda: kind in one.heard.kinds(message_id))
            assert one.heard.notices == []
            assert len(one.b.requests) == (policy == "retry")

    run(scene())


@pytest.mark.parametrize(("policy", "kind"), [("retry", "sent"), ("hold", "held"), ("query", "held")])
def test_a_call_is_not_repeated_for_fewer_recipients_than_it_had(tmp_path: Path, policy: str, kind: str) -> None:
    """The provider would take it for another call, and carry that out."""

    async def scene() -> None:
        async with Scene(tmp_path, policy, Provider(repeatable_for=900)) as one:
            one.a.answer = everybody(AGAIN)
            one.a.knows = lambda request: None
            one.b.answer = everybody(TAKEN)
            message_id = await one.accept("ann@x.example", "bob@y.example")
            await one.idle()
            assert (await one.recipient(message_id))["doubt"]["together"] == 2
            await one.spool.act(Act(Verb.CANCEL, Selection((message_id,), domain="y.example")))
            one.a.answer = everybody(TAKEN)
            one.feed()
            await one.advance_to(one.clock.time + 60)
            await until(lambda: kind in one.heard.kinds(message_id))
            assert all(len(addresses(request)) == 2 for request in one.a.requests if policy != "retry")
            assert await one.states(message_id) == [kind, "cancelled"]

    run(scene())


def test_a_call_is_not_repeated_for_fewer_where_one_is_cancelled_while_it_waits_in_memory(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path, "hold", Provider(repeatable_for=900)) as one:
            one.a.answer = everybody(AGAIN)
            message_id = await one.accept("ann@x.example", "bob@y.example")
            await one.idle()
            one.clock.time += 60
            [waiting] = await one.spool.due(0.0, one.clock.time, 10)
            await one.spool.act(Act(Verb.CANCEL, Selection((message_id,), domain="y.example")))
            one.engine.submit(waiting)
            await one.idle()
            assert await one.states(message_id) == ["held", "cancelled"]
            assert len(one.a.requests) == 1

    run(scene())


def test_a_lost_call_is_repeated_as_it_was_whatever_rate_limits_its_recipients_have(tmp_path: Path) -> None:
    limits = [
        {"name": domain[0], "match": {"recipient_domain": [domain], "candidate": [A]}, "rate": "10/second"}
        for domain in ("x.example", "y.example")
    ]

    async def scene() -> None:
        async with Scene(tmp_path, "retry", Provider(repeatable_for=900)) as one:
            one.a.answer = everybody(AGAIN)
            message_id = await one.accept("ann@x.example", "bob@y.example")
            await one.idle()
            tables = tuple(RateLimitSettings.model_validate(each) for each in limits)
            limited = one.settings.model_copy(update={"limit": tables})
            one.engine.reconfigure(limited, one.transports)
            one.a.answer = everybody(TAKEN)
            one.feed()
            await one.advance_to(one.clock.time + 60)
            await until(lambda: "sent" in one.heard.kinds(message_id))
            assert [addresses(request) for request in one.a.requests] == [["ann@x.example", "bob@y.example"]] * 2

    run(scene())


def test_a_question_keeps_to_the_rate_limits_of_who_is_asked(tmp_path: Path) -> None:
    limit = [{"name": "a", "match": {"candidate": [A]}, "rate": "3/hour", "burst": 3}]
    server = {"hostname": "r.example", "workers": 1}

    async def scene() -> None:
        async with Scene(tmp_path, sections={"limit": limit, "server": server}) as one:
            for name in ("ann", "bob", "cid"):
                await one.accept(f"{name}@x.example")
            await one.idle()
            assert len(one.a.requests) == 3
            one.clock.time += 60
            one.feed()
            await until(lambda: one.engine.queues() == [(A, 3, 0)])
            assert one.a.asked == []
            one.clock.time += 1200
            one.engine._wake()
            await until(lambda: one.engine.queues() == [(A, 2, 0)])
            assert len(one.a.asked) == 1

    run(scene())


@pytest.mark.parametrize("policy", ["retry", "hold", "query"])
def test_a_call_that_a_kill_interrupted_is_repeated_there_and_goes_to_no_other(tmp_path: Path, policy: str) -> None:
    async def scene() -> None:
        async with Scene(tmp_path, policy, Provider(repeatable_for=900)) as one:
            one.a.answer = lambda request, content: asyncio.Event().wait()  # type: ignore[assignment, return-value]
            message_id = await one.accept("ann@x.example")
            await until(lambda: one.a.requests)
            await one.engine.stop(0.0)
            await one.spool.close()
            one.spool = SqliteSpool.open(
                one.folder, 0, one.clock, file_threshold=1000, in_doubt=one.settings.delivery.in_doubt, repeats=[A]
            )
            one.build()
            one.engine._pauses.watch(A, [Deferred(reply(451, "4.7.0", "key"), Fault.ROUTE)])
            one.a.answer = everybody(TAKEN)
            one.feed()
            await until(lambda: "sent" in one.heard.kinds(message_id))
            assert await one.kinds(message_id) == ["queued", "in_doubt", "sent"]
            assert (len(one.a.requests), one.a.asked, one.b.requests) == (2, [], [])

    run(scene())


def test_a_bug_while_asking_leaves_the_doubt(tmp_path: Path) -> None:
    async def scene() -> None:
        def broken(request: DeliveryRequest) -> Knowledge:
            raise RuntimeError("a bug")

        async with Scene(tmp_path) as one:
            one.a.knows = broken
            message_id = await one.accept("ann@x.example")
            await one.idle()
            await one.asked_next()
            assert (await one.recipient(message_id))["doubt"]["asked"] == 1
            assert [where for where, _ in one.heard.failures] == [A]

            async def worse(*arguments: object) -> Any:
                raise RuntimeError("a bug of the engine's own")

            one.engine._questions.ask = worse  # type: ignore[method-assign]
            one.feeder.look()
            await one.advance_to(one.clock.time + 120)
            await until(lambda: len(one.heard.failures) == 2)
            await one.idle()
            assert (await one.recipient(message_id))["doubt"]["asked"] == 1
            assert len(one.a.requests) == 1

    run(scene())


def test_a_message_whose_time_is_over_is_asked_about_before_it_bounces(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            one.a.knows = has()
            message_id = await one.accept("ann@x.example", expires_at=one.clock.time + 30)
            await one.idle()
            await one.asked_next()
            assert await one.kinds(message_id) == ["queued", "in_doubt", "sent"]

    run(scene())


def test_a_doubt_about_the_last_attempt_is_asked_about_and_does_not_bounce(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path, query_trust=60) as one:
            one.a.answer = everybody(Deferred(reply(451, "4.3.0", "later")))
            message_id = await one.accept("ann@x.example")
            one.feed()
            for attempts in range(1, 6):
                await one.idle()
                assert (await one.recipient(message_id))["attempts"] == attempts
                if attempts == 5:
                    one.a.answer = everybody(LOST)
                waiting = await one.spool.next_due_at(0.0)
                await one.advance_to(waiting)
                await until(lambda attempts=attempts: len(one.a.requests) == attempts + 1)  # type: ignore[misc]
            await one.idle()
            assert await one.states(message_id) == ["deferred"]
            one.a.knows = has()
            await one.asked_next()
            assert await one.states(message_id) == ["sent"]
            assert one.heard.notices == []

    run(scene())


def test_a_sender_who_asked_is_told_of_success_when_the_question_found_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as one:
            one.a.knows = has()
            await one.accept(Recipient("ann@x.example", ("SUCCESS",)))
            await one.idle()
            await one.asked_next()
            assert len(one.heard.notices) == 1

    run(scene())


def test_a_long_message_is_asked_about_by_its_header_alone(tmp_path: Path) -> None:
    """It is not read whole: that would be memory beside `spool.memory`."""
    content = (
        b"From: a@b.example\r\nX-Relay-Tag: bulk\r\nMessage-ID: <1@b.example>\r\n\r\n" + b"0123456789abcd\r\n" * 80_000
    )

    async def scene() -> None:
        async with Scene(tmp_path, sections={"spool": {"memory": 1}}) as one:
            one.a.knows = has()
            message_id = await one.accept("ann@x.example", content=content)
            await one.idle()
            await one.asked_next()
            assert one.heard.kinds(message_id) == ["in_doubt", "sent"]
            [(request, asked_by, _)] = one.a.asked
            assert asked_by == b"From: a@b.example\r\nMessage-ID: <1@b.example>\r\n\r\n"
            assert request.directives.tags == ("bulk",)
            assert not [path for path in open_files() if ".bodies" in path]

    run(scene())
