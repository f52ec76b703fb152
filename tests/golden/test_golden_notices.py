"""Whole notices, octet by octet: what a sender's program gets, and what a change to it would look like."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.mail.dsn import NoticeFacts, RecipientStatus, build
from relay.mail.envelope import Envelope, Recipient
from relay.mail.reply import reply

FOLDER = Path(__file__).with_name("notices")
ORIGINAL = b"Received: from app.example\r\nFrom: a@b.example\r\nSubject: hello\r\n\r\nThe body.\r\n"
UTF8_ORIGINAL = "From: a@b.example\r\nSubject: Grüße\r\n\r\nThe body.\r\n".encode()
NO_USER = reply(550, "5.1.1", "No such user")
BUSY = reply(451, "4.4.1", "No answer")
UNTIL = "Sat, 28 Nov 2026 03:20:00 +0000"

FAILED = RecipientStatus("c@d.example", None, "failed", NO_USER, "mx.d.example", "the next mail host refused it")
DELAYED = RecipientStatus("e@d.example", "rfc822;E+40d@d.example", "delayed", BUSY, "", "it is tried again", UNTIL)
RELAYED = RecipientStatus(
    "f@g.example", None, "relayed", reply(250, "2.0.0", "Ok"), "mx.g.example", "the next mail host took it"
)
UTF8 = RecipientStatus("jürgen@d.example", None, "failed", NO_USER, "mx.d.example", "the next mail host refused it")

CASES = {
    "failed": ({}, [FAILED], ORIGINAL),
    "failed-returned-whole": ({"ret": "FULL", "envid": "order+2B42"}, [FAILED], ORIGINAL),
    "delayed": ({}, [DELAYED], ORIGINAL),
    "relayed": ({"ret": "FULL"}, [RELAYED], ORIGINAL),
    "everything-at-once": ({"envid": "order-42"}, [FAILED, DELAYED, RELAYED], ORIGINAL),
    "utf-8": ({}, [UTF8], UTF8_ORIGINAL),
    "the-last-for-a-while": ({}, [FAILED], ORIGINAL),
}


@pytest.mark.parametrize("name", CASES)
def test_the_notice_is_that_of_the_file(name: str) -> None:
    options, statuses, original = CASES[name]
    envelope = Envelope("a@b.example", (Recipient("c@d.example"),), **options)
    facts = NoticeFacts(
        "relay.example",
        "00000000000000ff",
        "00000000000000aa",
        "Wed, 25 Nov 2026 03:21:21 +0000",
        "Wed, 25 Nov 2026 03:20:00 +0000",
        envelope,
        last=name == "the-last-for-a-while",
    )
    notice = build(facts, statuses, original, 100_000)

    assert notice.replace(b"\r\n", b"\n") == (FOLDER / f"{name}.eml").read_bytes()
    assert b"\n" not in notice.replace(b"\r\n", b"")


def test_every_file_has_its_case() -> None:
    assert {path.stem for path in FOLDER.glob("*.eml")} == set(CASES)
