"""The verbs of `relay queue` as the server carries them out: on a real spool, engine and feeder, over HTTP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from delivery_kit import YES, FakeTransport, Setting, everybody, route, settings

from relay import __version__
from relay.delivery.expiry import Expiry
from relay.httpd.application import make_app
from relay.httpd.queue import queue_router
from relay.httpd.server import HttpServer
from relay.mail.envelope import Recipient
from relay.mail.errors import StoreError
from relay.mail.event import EventKind
from relay.mail.outcome import Deferred, Fault
from relay.mail.reply import reply
from relay.ports import AttemptBegun, AttemptStart, DeliveryReport, DeliveryRequest

LATER = everybody(Deferred(reply(451, "4.3.0", "Later")))
REFUSED = everybody(Deferred(reply(535, "5.7.8", "Bad credentials"), Fault.ROUTE))
BOTH = "c@d.example", "e@f.example"


class Silent:
    """An observer that minds nothing."""

    def http_request(self, interface: str, method: str, path: str, status: int, seconds: float) -> None: ...

    def failure(self, where: str, error: BaseException) -> None: ...


class Lane:
    """A spool, an engine and a feeder at work, and the verbs over them."""

    def __init__(self, setting: Setting, transport: FakeTransport, url: str, client: aiohttp.ClientSession) -> None:
        self.setting = setting
        self.transport = transport
        self._url = url
        self._client = client

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self._client.request(method, self._url + path, json=body) as answer:
            return answer.status, await answer.json()

    async def verb(self, verb: str, *ids: str) -> int:
        status, answer = await self.ask("POST", f"/admin/queue/{verb}", {"ids": ids})
        assert status == 200, answer
        recipients: int = answer["recipients"]
        return recipients

    async def until(self, message_id: str, *kinds: str) -> None:
        """Wait until the sink has heard just these events of a message."""
        async with asyncio.timeout(60):
            while self.setting.heard.kinds(message_id) != list(kinds):
                await asyncio.sleep(0.01)

    async def states(self, message_id: str) -> list[str]:
        message = await self.setting.spool.message(message_id)
        return [recipient["state"] for recipient in message["recipients"]]


@asynccontextmanager
async def lane(folder: Path, **sections: Any) -> AsyncIterator[Lane]:
    transport = FakeTransport()
    given = settings(**({"route": [route("direct")], "smarthost": {"b": {"host": "b.example"}}} | sections))
    async with (
        Setting(folder, given, {"direct": transport, "smarthost:b": transport}) as setting,
        aiohttp.ClientSession() as client,
    ):
        app = make_app("control", Silent())
        spool, heard, clock = setting.spool, setting.heard, setting.clock
        expiry = Expiry(spool, lambda: setting.settings, clock, heard, heard)
        app.include_router(queue_router(spool, setting.engine, expiry, setting.feeder.look, heard, clock, lambda: 7))
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        server = HttpServer(app, [listening])
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        await server.start()
        setting.feed()
        try:
            yield Lane(setting, transport, url, client)
        finally:
            await server.stop(1)


def holding(gate: asyncio.Event, answer: Any) -> Any:
    """A transport that is busy until the gate opens."""

    async def deliver(request: DeliveryRequest, content: bytes) -> DeliveryReport:
        await gate.wait()
        report: DeliveryReport = answer(request, content)
        return report

    return deliver


def test_retry_delivers_at_once_what_was_put_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            one.transport.answer = LATER
            message_id = await one.setting.accept(*BOTH)
            await one.until(message_id, "deferred", "deferred")
            one.transport.answer = everybody(YES)
            assert await one.verb("retry", message_id) == 2
            await one.until(message_id, "deferred", "deferred", "delivered", "delivered")

    asyncio.run(scenario())


def test_retry_of_what_does_not_wait_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            message_id = await one.setting.accept()
            await one.until(message_id, "delivered")
            assert await one.verb("retry", message_id, "0" * 16) == 0
            assert await one.states(message_id) == ["delivered"]

    asyncio.run(scenario())


def test_cancel_ends_what_waits_with_an_event_for_each_recipient(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            one.transport.answer = LATER
            message_id = await one.setting.accept(*BOTH)
            await one.until(message_id, "deferred", "deferred")
            assert await one.verb("cancel", message_id) == 2
            assert await one.states(message_id) == ["cancelled", "cancelled"]
            ended = [event for event in one.setting.heard.events if event.kind is EventKind.CANCELLED]
            assert [(event.message_id, event.recipient) for event in ended] == [(message_id, to) for to in BOTH]
            assert await one.verb("retry", message_id) == 0
            assert await one.verb("cancel", message_id) == 0

    asyncio.run(scenario())


def test_a_message_named_twice_is_cancelled_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            one.transport.answer = LATER
            message_id = await one.setting.accept()
            await one.until(message_id, "deferred")
            assert await one.verb("cancel", message_id, message_id) == 1
            message = await one.setting.spool.message(message_id)
            assert [event["kind"] for event in message["events"]].count("cancelled") == 1

    asyncio.run(scenario())


def test_cancel_does_not_touch_what_is_being_delivered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            gate = asyncio.Event()
            one.transport.answer = holding(gate, one.transport.answer)
            message_id = await one.setting.accept()
            async with asyncio.timeout(60):
                while not one.transport.requests:
                    await asyncio.sleep(0.01)
            assert await one.verb("cancel", message_id) == 0
            gate.set()
            await one.until(message_id, "delivered")
            assert await one.states(message_id) == ["delivered"]

    asyncio.run(scenario())


def test_what_was_scheduled_and_is_cancelled_is_never_tried(tmp_path: Path) -> None:
    """The next hop is busy; when it is free, and the feeder has looked again, nothing is left to bring."""

    async def scenario() -> None:
        async with lane(tmp_path, delivery={"destination_concurrency": 1}) as one:
            gate = asyncio.Event()
            one.transport.answer = holding(gate, one.transport.answer)
            first = await one.setting.accept()
            waiting = [await one.setting.accept() for _ in range(5)]
            assert await one.verb("cancel", *waiting[:4]) == 4
            one.setting.feeder.look()
            gate.set()
            await one.until(first, "delivered")
            await one.until(waiting[4], "delivered")
            assert {request.message_id for request in one.transport.requests} == {first, waiting[4]}
            for message_id in waiting[:4]:
                assert await one.states(message_id) == ["cancelled"]

    asyncio.run(scenario())


def test_cancel_and_delivery_at_the_same_time_end_each_recipient_once(tmp_path: Path) -> None:
    """Sixty messages, cancelled while they are delivered: each is delivered or cancelled, never both."""

    async def scenario() -> None:
        async with lane(tmp_path, delivery={"destination_concurrency": 3}) as one:
            plain, gate = one.transport.answer, asyncio.Event()

            async def deliver(request: DeliveryRequest, content: bytes) -> DeliveryReport:
                await gate.wait()
                await asyncio.sleep(0.002)
                report = plain(request, content)
                assert isinstance(report, DeliveryReport)
                return report

            one.transport.answer = deliver
            ids = [await one.setting.accept() for _ in range(60)]
            cancelled = 0
            gate.set()
            for start in range(59, 0, -6):
                cancelled += await one.verb("cancel", *ids[start - 5 : start + 1])
                one.setting.feeder.look()
                await asyncio.sleep(0)
            async with asyncio.timeout(60):
                while "queued" in [state for one_id in ids for state in await one.states(one_id)]:
                    await asyncio.sleep(0.02)
            heard = [one.setting.heard.kinds(message_id) for message_id in ids]
            assert [len(kinds) for kinds in heard] == [1] * 60
            assert heard.count(["cancelled"]) == cancelled
            assert cancelled > 0
            sent = {request.message_id for request in one.transport.requests}
            assert sent == {message_id for message_id, kinds in zip(ids, heard, strict=True) if kinds == ["delivered"]}

    asyncio.run(scenario())


def test_a_spool_that_fails_cancels_nothing_and_delivers_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            one.transport.answer = LATER
            message_id = await one.setting.accept()
            await one.until(message_id, "deferred")

            async def broken(*_: Any) -> Any:
                raise StoreError("/secret: disk full")

            one.setting.spool.act = broken
            status, answer = await one.ask("POST", "/admin/queue/cancel", {"ids": [message_id]})
            assert (status, answer["error"]["code"]) == (503, "unavailable")
            assert one.setting.heard.kinds(message_id) == ["deferred"]
            assert await one.states(message_id) == ["deferred"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "ids",
    [["f" * 16], ["8" + "0" * 15], ["0" * 15], ["0" * 17], ["G" * 16], [5], "0" * 16, None, ["0" * 16] * 10_001],
)
def test_what_is_no_list_of_message_ids_reaches_no_spool(tmp_path: Path, ids: Any) -> None:
    """An id too large for the database would fail the whole commit, with everybody's mail in it."""

    async def scenario() -> None:
        async with lane(tmp_path) as one:
            for verb in ("retry", "cancel"):
                status, answer = await one.ask("POST", f"/admin/queue/{verb}", {"ids": ids})
                assert status == 422
                assert answer["error"]["fields"][0]["field"].startswith("ids")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "wanted",
    [{}, {"ids": []}, {"domain": ""}, {"dry_run": True}, {"domian": "x.example"}, {"state": "sent"}, {"older": 0}],
)
def test_what_does_not_say_which_is_refused_and_touches_nothing(tmp_path: Path, wanted: Any) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            one.transport.answer = LATER
            message_id = await one.setting.accept()
            await one.until(message_id, "deferred")
            assert (await one.ask("POST", "/admin/queue/cancel", wanted))[0] == 422
            assert (await one.ask("POST", "/admin/queue/explode", {"all": True}))[0] == 422
            assert await one.states(message_id) == ["deferred"]

    asyncio.run(scenario())


def test_what_is_held_is_not_tried_until_it_is_released(tmp_path: Path) -> None:
    """Also what was scheduled behind a busy next hop."""

    async def scenario() -> None:
        async with lane(tmp_path, delivery={"destination_concurrency": 1}) as one:
            gate = asyncio.Event()
            one.transport.answer = holding(gate, one.transport.answer)
            first = await one.setting.accept()
            async with asyncio.timeout(60):
                while not one.transport.requests:
                    await asyncio.sleep(0.01)
            held, other = await one.setting.accept(), await one.setting.accept()
            assert await one.verb("hold", held) == 1
            assert await one.verb("retry", held) == 0
            one.setting.feeder.look()
            gate.set()
            await one.until(first, "delivered")
            await one.until(other, "delivered")
            assert await one.states(held) == ["held"]
            assert one.setting.heard.kinds(held) == ["held"]
            assert await one.verb("release", held) == 1
            await one.until(held, "held", "released", "delivered")
            assert [request.message_id for request in one.transport.requests].count(held) == 1

    asyncio.run(scenario())


def test_a_dry_run_names_what_it_would_touch_and_touches_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            one.transport.answer = LATER
            message_id = await one.setting.accept(*BOTH)
            await one.until(message_id, "deferred", "deferred")
            wanted = {"domain": "F.example", "dry_run": True}
            for _ in range(2):
                status, answer = await one.ask("POST", "/admin/queue/cancel", wanted)
                found = {"address": "e@f.example", "state": "deferred", "in_flight": False}
                assert (status, answer) == (
                    200,
                    {
                        "recipients": 1,
                        "in_flight": 0,
                        "messages": [{"id": message_id, "recipients": [found]}],
                        "after": None,
                    },
                )
            assert one.setting.heard.kinds(message_id) == ["deferred", "deferred"]
            assert await one.states(message_id) == ["deferred", "deferred"]

    asyncio.run(scenario())


def test_what_is_being_delivered_is_said_and_not_held(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            gate = asyncio.Event()
            one.transport.answer = holding(gate, one.transport.answer)
            message_id = await one.setting.accept()
            async with asyncio.timeout(60):
                while not one.transport.requests:
                    await asyncio.sleep(0.01)
            answer = (await one.ask("POST", "/admin/queue/hold", {"all": True}))[1]
            assert (answer["recipients"], answer["in_flight"]) == (0, 1)
            gate.set()
            await one.until(message_id, "delivered")

    asyncio.run(scenario())


def test_status_shows_next_hops_and_resting_routes_and_resume_ends_the_rest(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path, delivery={"destination_concurrency": 1}) as one:
            one.transport.answer = REFUSED
            message_id = await one.setting.accept()
            await one.until(message_id, "deferred")
            gate = asyncio.Event()
            status, answer = await one.ask("GET", "/admin/status")
            assert status == 200
            assert answer["version"] == __version__
            assert answer["sessions"] == 7
            assert answer["pid"] > 0
            assert list(answer["paused"]) == ["direct"]
            assert (await one.ask("POST", "/admin/route/resume", {"route": "direct"}))[1] == {"resumed": True}
            assert (await one.ask("POST", "/admin/route/resume", {"route": "direct"}))[1] == {"resumed": False}
            one.transport.answer = holding(gate, LATER)
            await one.setting.accept()
            await one.setting.accept()
            answer = (await one.ask("GET", "/admin/status"))[1]
            (queue,) = answer["queues"]
            assert (queue["waiting"], queue["running"]) == (1, 1)
            assert answer["paused"] == {}
            gate.set()

    asyncio.run(scenario())


def test_status_shows_next_hops_that_are_not_dialled_and_resume_has_them_dialled(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path, delivery={"dead_host_faults": 1}) as one:
            one.transport.answer = everybody(Deferred(reply(451, "4.4.1", "Connection refused"), Fault.HOST))
            await one.until(await one.setting.accept(), "deferred")
            answer = (await one.ask("GET", "/admin/status"))[1]
            assert list(answer["open"]) == ["direct:d.example"]
            resume = {"route": "direct:d.example"}
            assert (await one.ask("POST", "/admin/route/resume", resume))[1] == {"resumed": True}
            assert (await one.ask("GET", "/admin/status"))[1]["open"] == {}

    asyncio.run(scenario())


def test_expire_ends_what_waits_and_its_sender_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            one.transport.answer = LATER
            message_id = await one.setting.accept(*BOTH)
            await one.until(message_id, "deferred", "deferred")
            one.transport.answer = everybody(YES)
            dry = (await one.ask("POST", "/admin/queue/expire", {"domain": "f.example", "dry_run": True}))[1]
            assert (dry["recipients"], await one.states(message_id)) == (1, ["deferred", "deferred"])
            assert await one.verb("hold", message_id) == 2
            assert await one.verb("expire", message_id) == 2
            assert await one.verb("expire", message_id) == 0
            assert await one.states(message_id) == ["expired", "expired"]
            await one.until(message_id, "deferred", "deferred", "held", "held", "expired", "expired")
            [(about, notice_id, to)] = one.setting.heard.notices
            assert (about, to) == (message_id, "a@b.example")
            await one.until(notice_id, "delivered")
            notice = one.transport.contents[-1]
            assert notice.count(b"Status: 5.4.7") == 2
            assert b"Expired by the operator; the last answer was: 451 4.3.0 Later" in notice
            assert b"Subject: hello" in notice

    asyncio.run(scenario())


@pytest.mark.parametrize("sender", [None, "a@b.example"])
def test_nobody_is_told_who_wants_no_notice(tmp_path: Path, sender: str | None) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            one.transport.answer = LATER
            silent = Recipient("c@d.example", ("NEVER",)) if sender else Recipient("c@d.example")
            message_id = await one.setting.accept(silent, reverse_path=sender)
            await one.until(message_id, "deferred")
            assert await one.verb("expire", message_id) == 1
            assert (await one.states(message_id), one.setting.heard.notices) == (["expired"], [])

    asyncio.run(scenario())


def test_expire_leaves_a_message_that_is_begun_meanwhile(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            gate = asyncio.Event()
            one.transport.answer = holding(gate, one.transport.answer)
            message_id = await one.setting.accept()
            async with asyncio.timeout(60):
                while not one.transport.requests:
                    await asyncio.sleep(0.01)
            answer = (await one.ask("POST", "/admin/queue/expire", {"all": True}))[1]
            assert (answer["recipients"], answer["in_flight"]) == (0, 1)
            gate.set()
            await one.until(message_id, "delivered")
            assert one.setting.heard.notices == []

    asyncio.run(scenario())


def test_what_is_rerouted_goes_the_other_way_at_once_and_reset_goes_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            one.transport.answer = LATER
            first, second = await one.setting.accept(), await one.setting.accept()
            await one.until(second, "deferred")
            await one.until(first, "deferred")
            one.setting.heard.attempts.clear()
            one.transport.answer = everybody(YES)
            status, answer = await one.ask("POST", "/admin/queue/reroute", {"ids": [first], "via": "smarthost:b"})
            assert (status, answer["recipients"]) == (200, 1)
            await one.until(first, "deferred", "rerouted", "delivered")
            assert one.setting.heard.attempts == ["smarthost:b"]
            assert one.transport.requests[-1].destination == ""
            assert await one.verb("hold", second) == 1
            for via in ("smarthost:b", ""):
                assert (await one.ask("POST", "/admin/queue/reroute", {"ids": [second], "via": via}))[0] == 200
            assert await one.verb("release", second) == 1
            await one.until(second, "deferred", "held", "rerouted", "rerouted", "released", "delivered")
            assert one.setting.heard.attempts == ["smarthost:b", "direct"]

    asyncio.run(scenario())


def test_what_is_scheduled_behind_a_busy_next_hop_can_be_rerouted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path, delivery={"destination_concurrency": 1}) as one:
            gate = asyncio.Event()
            plain = one.transport.answer

            async def deliver(request: DeliveryRequest, content: bytes) -> DeliveryReport:
                if request.destination:
                    await gate.wait()
                report = plain(request, content)
                assert isinstance(report, DeliveryReport)
                return report

            one.transport.answer = deliver
            first = await one.setting.accept()
            async with asyncio.timeout(60):
                while not one.transport.requests:
                    await asyncio.sleep(0.01)
            second = await one.setting.accept()
            assert (await one.ask("POST", "/admin/queue/reroute", {"all": True, "via": "smarthost:b"}))[1][
                "recipients"
            ] == 1
            await one.until(second, "rerouted", "delivered")
            gate.set()
            await one.until(first, "delivered")

    asyncio.run(scenario())


def test_a_way_that_is_not_configured_any_more_keeps_its_mail_and_uses_up_no_attempt(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            one.transport.answer = LATER
            message_id = await one.setting.accept()
            await one.until(message_id, "deferred")
            await one.ask("POST", "/admin/queue/hold", {"all": True})
            await one.ask("POST", "/admin/queue/reroute", {"all": True, "via": "smarthost:b"})
            one.setting.transports.pop("smarthost:b")
            await one.verb("release", message_id)
            await one.until(message_id, "deferred", "held", "rerouted", "released", "deferred")
            (recipient,) = (await one.setting.spool.message(message_id))["recipients"]
            assert (recipient["attempts"], recipient["via"]) == (1, "smarthost:b")
            assert "not configured any more" in recipient["reply"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("verb", "wanted", "words"),
    [
        ("reroute", {"all": True}, "say which way"),
        ("reroute", {"all": True, "via": "smarthost:x"}, "'smarthost:x'; configured: direct, smarthost:b"),
        ("hold", {"all": True, "via": "direct"}, "means nothing to hold"),
    ],
)
def test_a_way_that_makes_no_sense_is_named_by_its_field_and_touches_nothing(
    tmp_path: Path, verb: str, wanted: Any, words: str
) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            one.transport.answer = LATER
            message_id = await one.setting.accept()
            await one.until(message_id, "deferred")
            status, answer = await one.ask("POST", f"/admin/queue/{verb}", wanted)
            assert status == 422
            [wrong] = answer["error"]["fields"]
            assert wrong["field"] == "via"
            assert words in wrong["message"]
            assert await one.states(message_id) == ["deferred"]

    asyncio.run(scenario())


def test_the_ways_out_are_listed_with_those_that_rest(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lane(tmp_path) as one:
            one.transport.answer = REFUSED
            await one.until(await one.setting.accept(), "deferred")
            status, answer = await one.ask("GET", "/admin/route")
            assert status == 200
            assert [way["name"] for way in answer["candidates"]] == ["direct", "smarthost:b"]
            assert [way["rests"] is None for way in answer["candidates"]] == [False, True]

    asyncio.run(scenario())


def test_what_was_about_to_be_begun_goes_the_way_chosen_meanwhile(tmp_path: Path) -> None:
    """Its job runs already, so the feeder passes it over; the attempt finds nobody, and it is brought again."""

    async def scenario() -> None:
        async with lane(tmp_path) as one:
            spool, gate = one.setting.spool, asyncio.Event()
            begin, waiting = spool.begin_attempt, asyncio.Event()

            async def late(start: AttemptStart) -> AttemptBegun:
                waiting.set()
                await gate.wait()
                begun: AttemptBegun = await begin(start)
                return begun

            spool.begin_attempt = late
            message_id = await one.setting.accept()
            async with asyncio.timeout(60):
                await waiting.wait()
            assert (await one.ask("POST", "/admin/queue/reroute", {"all": True, "via": "smarthost:b"}))[0] == 200
            await asyncio.sleep(0.05)
            gate.set()
            await one.until(message_id, "rerouted", "delivered")
            assert one.setting.heard.attempts == ["smarthost:b"]

    asyncio.run(scenario())
