"""Which candidate a message goes by: where its sender is known, and where there is room."""

from __future__ import annotations

from collections import Counter

from delivery_kit import FakeTransport, Setting, route, run, settings

PROVIDERS = ("smarthost:cheap", "smarthost:dear")


def setting(tmp_path, limit=(), **more):
    smarthosts = {
        "cheap": {"host": "cheap.example", **more.pop("cheap", {})},
        "dear": {"host": "dear.example", **more.pop("dear", {})},
    }
    given = settings(
        route=[route(*PROVIDERS, **more)],
        smarthost=smarthosts,
        limit=limit,
        server={"hostname": "r.example", "workers": 1},
    )
    return Setting(tmp_path, given, {name: FakeTransport() for name in PROVIDERS})


def used(one: Setting) -> Counter[str]:
    return Counter({name: len(transport.requests) for name, transport in one.transports.items()})


CHEAP = {"name": "cheap", "rate": "1/hour", "burst": 3, "match": {"candidate": ["smarthost:cheap"]}}


def test_what_the_first_has_no_token_for_overflows_to_the_next(tmp_path):
    async def scene():
        async with setting(tmp_path, [CHEAP], overflow=True) as one:
            for _ in range(10):
                await one.accept()
                await one.idle()
            assert used(one) == {"smarthost:cheap": 3, "smarthost:dear": 7}
            one.clock.time += 3600
            await one.accept()
            await one.idle()
            assert used(one) == {"smarthost:cheap": 4, "smarthost:dear": 7}

    run(scene())


def test_where_all_are_used_up_mail_waits_for_the_first(tmp_path):
    async def scene():
        dear = {**CHEAP, "name": "dear", "match": {"candidate": ["smarthost:dear"]}}
        async with setting(tmp_path, [CHEAP, dear], overflow=True) as one:
            for _ in range(6):
                await one.accept()
                await one.idle()
            held = await one.accept()
            assert used(one) == {"smarthost:cheap": 3, "smarthost:dear": 3}
            assert await one.states(held) == ["queued"]
            assert {name: waiting for name, waiting, _ in one.engine.queues()} == {"smarthost:cheap": 1}

    run(scene())


def test_a_sender_goes_only_where_its_domain_is_known(tmp_path):
    async def scene():
        async with setting(tmp_path, cheap={"sender_domains": ["other.example"]}) as one:
            await one.accept()
            await one.accept(reverse_path="x@other.example")
            await one.accept(reverse_path=None)
            await one.idle()
            assert used(one) == {"smarthost:cheap": 2, "smarthost:dear": 1}

    run(scene())


def test_a_sender_known_nowhere_is_refused_with_the_setting_that_says_so(tmp_path):
    async def scene():
        async with setting(
            tmp_path, cheap={"sender_domains": ["x.example"]}, dear={"sender_domains": ["y.example"]}
        ) as one:
            message_id = await one.accept()
            await one.idle()
            assert (await one.recipient(message_id))["reply"] == (
                "550 5.7.1 smarthost:dear takes no mail from b.example: see its sender_domains"
            )
            assert set(await one.states(message_id)) == {"bounced"}
            # The notice has no sender, and goes by the first.
            assert used(one) == {"smarthost:cheap": 1, "smarthost:dear": 0}

    run(scene())
