"""A long message stays in its file while it goes out, for a way out that takes it so; the others share the memory."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from delivery_kit import YES, FakeTransport, Setting, addresses, everybody, open_files, route, run, settings, until

from relay.delivery.whole import Whole
from relay.mail.outcome import Deferred, Failed
from relay.mail.reply import reply
from relay.ports import DeliveryReport, LongContent

SIGNATURE = b"X-Signature: 1\r\n"
HEADER = b"From: a@b.example\r\nX-Relay-Tag: bulk\r\nSubject: long\r\n"
KEPT = b"From: a@b.example\r\nSubject: long\r\n"
BODY = b"0123456789abcde\r\n" * 80_000
CONTENT = HEADER + b"\r\n" + BODY


class Reader(FakeTransport):
    """Takes long content, and reads it."""

    takes_long = True

    def __init__(self) -> None:
        super().__init__()
        self.long: list[LongContent] = []

    async def deliver(self, request, content):
        assert isinstance(content, LongContent)
        self.long.append(content)
        octets = b""
        while piece := await content.piece(len(octets)):
            octets += piece
        assert len(octets) == len(content)
        return await super().deliver(request, octets)


def setting(folder: Path, *via: str, transport: type[FakeTransport] = Reader, **sections) -> Setting:
    """Bodies are read from the spool."""
    sections.setdefault("spool", {"memory": 1})
    ways = via or ("direct",)
    return Setting(folder / "spool", settings(route=[route(*ways)], **sections), {one: transport() for one in ways})


def test_it_goes_out_signed_and_without_what_its_author_asked_for(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            await one.accept(content=CONTENT)
            await one.idle()
            [sent] = one.transports["direct"].contents
            assert sent == SIGNATURE + KEPT + b"\r\n" + BODY
            [long] = one.transports["direct"].long
            assert (long.header, long.isascii(), long.ends_line) == (SIGNATURE + KEPT, True, True)
            assert one.transports["direct"].requests[0].directives.tags == ("bulk",)
            assert one.signer.signed == [(KEPT + b"\r\n" + BODY, "b.example")]

    run(scene())


@pytest.mark.parametrize(
    ("body", "is_ascii", "ends_line"),
    [(BODY + "ü\r\n".encode(), False, True), (BODY + b"x", True, False), (BODY + b"\r", True, False)],
    ids=["eight-bit", "no line end", "half a line end"],
)
def test_what_the_next_hop_is_told_of_it_is_seen_in_its_file(tmp_path, body, is_ascii, ends_line):
    async def scene():
        async with setting(tmp_path) as one:
            await one.accept(content=KEPT + b"\r\n" + body)
            await one.idle()
            [long] = one.transports["direct"].long
            assert (long.isascii(), long.ends_line) == (is_ascii, ends_line)

    run(scene())


def test_the_mail_of_strangers_is_not_signed(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            await one.accept(content=CONTENT, account="")
            await one.idle()
            assert one.transports["direct"].contents == [CONTENT]
            assert one.signer.signed == []

    run(scene())


def test_jobs_of_one_message_look_at_it_once(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            await one.accept("x@one.example", "y@two.example", "z@three.example", content=CONTENT)
            await one.idle()
            assert one.transports["direct"].contents == [SIGNATURE + KEPT + b"\r\n" + BODY] * 3
            assert len(one.signer.signed) == 1

    run(scene())


def test_its_file_is_open_no_longer_than_the_attempt(tmp_path):
    """Whether it was sent, refused by a bug, or could not be read."""

    async def scene():
        async with setting(tmp_path) as one:
            for answer in (everybody(YES), lambda request, content: 1 // 0):
                one.transports["direct"].answer = answer
                await one.accept(content=CONTENT)
                await one.idle()
            one.signer.begin = lambda header, domain: 1 // 0
            await one.accept(content=CONTENT)
            await one.idle()
            assert not [path for path in open_files() if ".bodies" in path]
            assert [kind for kind, _ in one.heard.failures] == ["direct", "delivery"]

    run(scene())


def test_a_file_that_has_become_shorter_puts_the_message_off(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            transport = one.transports["direct"]
            real = transport.deliver

            async def cut_meanwhile(request, content):
                [path] = (one.folder / "0.bodies").rglob(request.message_id)
                os.truncate(path, 1_200_000)
                return await real(request, content)

            transport.deliver = cut_meanwhile
            message_id = await one.accept(content=CONTENT)
            await one.idle()
            assert (await one.recipient(message_id))[
                "reply"
            ] == "451 4.3.0 The stored message cannot be read; see the log"
            assert await one.states(message_id) == ["deferred"]
            assert "has become shorter" in str(one.heard.store_failures)
            assert transport.contents == []

    run(scene())


def test_a_header_without_end_is_read_whole(tmp_path):
    """What is no header either."""

    async def scene():
        async with setting(tmp_path, transport=FakeTransport) as one:
            one.transports["direct"].takes_long = True
            content = b"From: a@b.example\r\n" + b"X-Long: " + b"x\r\n " * 400_000 + b"y\r\n\r\nbody\r\n"
            await one.accept(content=content)
            await one.idle()
            assert one.transports["direct"].contents == [SIGNATURE + content]

    run(scene())


def test_a_binary_message_is_read_whole(tmp_path):
    """It may have to be made lines."""

    async def scene():
        async with setting(tmp_path, transport=FakeTransport) as one:
            one.transports["direct"].takes_long = True
            await one.accept(content=KEPT + b"\r\n" + BODY, binary=True)
            await one.idle()
            assert one.transports["direct"].contents == [SIGNATURE + KEPT + b"\r\n" + BODY]

    run(scene())


@pytest.mark.parametrize(("budget", "together"), [(2, 2), (1, 1), (0.5, 1)], ids=str)
def test_who_needs_all_of_it_at_once_waits_until_there_is_memory(tmp_path, budget, together):
    """One message always has room."""

    async def scene():
        memory = int(budget * len(CONTENT))
        async with setting(tmp_path, transport=FakeTransport, spool={"memory": memory}) as one:
            under_way, most, gate = set(), 0, asyncio.Event()

            async def answer(request, content):
                nonlocal most
                under_way.add(request.message_id)
                most = max(most, len(under_way))
                await gate.wait()
                under_way.discard(request.message_id)
                return DeliveryReport(dict.fromkeys(addresses(request), YES))

            one.transports["direct"].answer = answer
            for _ in range(5):
                await one.accept("x@y.example", content=CONTENT, submit=False)
            one.feed()
            await until(lambda: len(under_way) == together)
            begun = [await one.spool.message(found.id) for found in await one.spool.due(0.0, one.clock.now(), 10)]
            # Who waits for memory has no attempt on disk: a crash now leaves no doubt of him.
            assert sum(len(each["attempts"]) for each in begun) == together
            gate.set()
            await until(lambda: len(one.transports["direct"].requests) == 5 and not one.engine.active)
            assert most == together

    run(scene())


def test_who_stops_waiting_for_memory_leaves_it_to_the_next():
    async def scene():
        whole = Whole(10)
        await whole.take(8)
        waiting = [asyncio.create_task(whole.take(octets)) for octets in (9, 2, 3)]
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [False, False, False]
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [True, True, False]
        whole.give(8)
        await waiting[2]

    run(scene())


@pytest.mark.parametrize("largest", [2_000_000, 100], ids=["all", "header"])
def test_a_notice_returns_all_of_it_or_its_header(tmp_path, largest):
    """As `delivery.returned_size` says, and RET=FULL asks."""

    async def scene():
        async with setting(tmp_path, delivery={"returned_size": largest}) as one:
            refused = Failed(reply(550, "5.1.1", "Nobody"))
            one.transports["direct"].answer = everybody(refused)
            await one.accept(content=CONTENT, ret="FULL")
            await until(lambda: one.heard.notices)
            notice = await one.spool.read_content(one.heard.notices[0][1])
            assert (b"message/rfc822\r\n" in notice) == (largest > len(CONTENT))
            assert (b"text/rfc822-headers\r\n\r\n" + HEADER + b"\r\n--" in notice) == (largest < len(CONTENT))
            assert (BODY in notice) == (largest > len(CONTENT))

    run(scene())


def test_a_next_hop_that_puts_it_off_gets_it_again(tmp_path):
    async def scene():
        async with setting(tmp_path) as one:
            one.transports["direct"].answer = everybody(Deferred(reply(451, "4.2.1", "Later")))
            message_id = await one.accept(content=CONTENT)
            await one.idle()
            one.transports["direct"].answer = everybody(YES)
            one.feed()
            await one.run_out()
            assert one.heard.kinds(message_id) == ["deferred", "delivered"]
            assert one.transports["direct"].contents == [SIGNATURE + KEPT + b"\r\n" + BODY] * 2

    run(scene())
