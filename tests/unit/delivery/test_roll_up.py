"""Mail for many domains with the same MX hosts: never more deliveries to those hosts than they may have."""

from __future__ import annotations

import asyncio

from delivery_kit import YES, FakeTransport, Setting, everybody, route, run, settings

from relay.mail.outcome import Deferred, Fault
from relay.mail.reply import reply


class Shared(FakeTransport):
    """Takes its time, and counts how many deliveries run together. `odd` domains have hosts of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}

    async def site(self, destination: str) -> str:
        await asyncio.sleep(0)
        if destination.startswith("broken"):
            raise RuntimeError("a bug")
        return "" if destination.startswith("odd") else "mx:shared"

    async def deliver(self, request, content):
        site = await self.site(request.destination) if not request.destination.startswith("broken") else ""
        self.running[site] = self.running.get(site, 0) + 1
        self.most[site] = max(self.most.get(site, 0), self.running[site])
        await asyncio.sleep(0.05)
        self.running[site] -= 1
        return await super().deliver(request, content)


def setting(tmp_path, **delivery):
    given = settings(route=[route("direct")], delivery={"destination_concurrency": 3, **delivery})
    return Setting(tmp_path, given, {"direct": Shared()})


def test_all_domains_of_the_hosts_together_have_the_places_of_one(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            ids = [await one.accept(f"x@d{number}.example") for number in range(40)]
            odd = [await one.accept(f"x@odd{number}.example") for number in range(10)]
            await one.idle()
            shared = one.transports["direct"]
            assert shared.most["mx:shared"] <= 3
            assert shared.most[""] > 3
            for message_id in ids + odd:
                assert await one.states(message_id) == ["delivered"]
            assert len(shared.requests) == 50

    run(scene())


def test_dead_hosts_are_found_dead_for_all_their_domains(tmp_path):
    async def scene():
        async with setting(tmp_path, dead_host_faults=3) as one:
            direct = one.transports["direct"]
            direct.answer = everybody(Deferred(reply(421, "4.4.1", "No answer"), Fault.HOST))
            for number in range(20):
                await one.accept(f"x@d{number}.example")
            await one.idle()
            assert len(direct.requests) <= 5
            assert list(one.engine.open_hops()) == ["mx:shared"]
            one.engine.resume("mx:shared")
            assert one.engine.open_hops() == {}

    run(scene())


def test_a_bug_in_finding_the_hosts_keeps_no_mail_back(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            one.transports["direct"].answer = everybody(YES)
            message_id = await one.accept("x@broken.example")
            await one.idle()
            assert await one.states(message_id) == ["delivered"]
            assert [where for where, _ in one.heard.failures] == ["direct"]

    run(scene())
