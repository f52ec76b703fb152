"""What header fields ask for reaches the transport as a value, and the fields reach nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from delivery_kit import FakeTransport, Setting, route, run, settings

ASKING = (
    b'From: a@b.example\r\nX-PM-Tag: welcome\r\nX-Mailgun-Variables: {"order": 42}\r\nSubject: hello\r\n\r\nbody\r\n'
)
PLAIN = b"From: a@b.example\r\nSubject: hello\r\n\r\nbody\r\n"


def setting(folder: Path, *via: str, **smarthost: Any) -> Setting:
    given = settings(route=[route(*via)], smarthost={"one": {"host": "one.example", **smarthost}})
    return Setting(folder, given, {name: FakeTransport() for name in via})


def test_the_transport_is_told_and_gets_the_message_without_the_fields(tmp_path):
    async def scene():
        async with setting(tmp_path, "direct") as one:
            await one.accept(content=ASKING)
            await one.idle()
            [request] = one.transports["direct"].requests
            assert (request.directives.tags, request.directives.metadata) == (("welcome",), (("order", "42"),))
            assert one.transports["direct"].contents == [b"X-Signature: 1\r\n" + PLAIN]
            assert one.signer.signed == [(PLAIN, "b.example")]

    run(scene())


def test_a_smarthost_gets_the_fields_of_its_own_dialect_and_no_others(tmp_path):
    async def scene():
        async with setting(tmp_path, "smarthost:one", dialect="postmark") as one:
            await one.accept(content=ASKING)
            await one.idle()
            [content] = one.transports["smarthost:one"].contents
            assert b"X-PM-Tag: welcome\r\n" in content
            assert b"X-Mailgun" not in content

    run(scene())


def test_a_stranger_asks_no_vendor_for_anything(tmp_path):
    async def scene():
        async with setting(tmp_path, "smarthost:one", dialect="postmark") as one:
            await one.accept(content=ASKING, account="")
            await one.idle()
            [request] = one.transports["smarthost:one"].requests
            assert request.directives.tags == ()
            assert one.transports["smarthost:one"].contents == [PLAIN]

    run(scene())


def test_mail_of_strangers_that_goes_by_mx_is_left_as_it_is(tmp_path):
    async def scene():
        async with setting(tmp_path, "direct") as one:
            await one.accept(content=ASKING, account="")
            await one.idle()
            assert one.transports["direct"].contents == [ASKING]

    run(scene())
