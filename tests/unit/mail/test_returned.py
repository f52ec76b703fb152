"""What came back is read in every form hosts use, and whatever a stranger sends is no more than not read."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail import dsn
from relay.mail.dsn import NoticeFacts, RecipientStatus
from relay.mail.envelope import Envelope
from relay.mail.reply import reply
from relay.mail.returned import ReportedRecipient, read_report

POSTFIX = """\
Return-Path: <>
From: MAILER-DAEMON@mx.example (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="5E0D3.1/mx.example"

This is a MIME-encapsulated message.

--5E0D3.1/mx.example
Content-Type: text/plain; charset=us-ascii

<bob@example.com>: user unknown

--5E0D3.1/mx.example
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example
X-Postfix-Queue-ID: 5E0D3
Arrival-Date: Wed, 25 Nov 2026 10:00:00 +0000 (UTC)

Final-Recipient: rfc822; robert@example.com
Original-Recipient: rfc822;bob+2Bnews@example.com
Action: failed
Status: 5.1.1
Diagnostic-Code: X-Postfix; unknown user:
    "robert"

Final-Recipient: rfc822; carol@example.com
Action: delayed
Status: 4.4.1 (Persistent transient failure)
Will-Retry-Until: Wed, 25 Nov 2026 12:00:00 +0000

--5E0D3.1/mx.example
Content-Type: text/rfc822-headers

Subject: hello

--5E0D3.1/mx.example--
"""


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def test_a_report_says_of_each_recipient_what_became_of_it() -> None:
    assert read_report(crlf(POSTFIX)) == (
        ReportedRecipient(
            "failed",
            ("bob+2Bnews@example.com", "bob+news@example.com", "robert@example.com"),
            "5.1.1",
            'unknown user: "robert"',
        ),
        ReportedRecipient("delayed", ("carol@example.com",), "4.4.1", "4.4.1 (Persistent transient failure)"),
    )


def test_a_report_in_base64_and_deep_in_the_message_is_found() -> None:
    status = (
        b"Reporting-MTA: dns; a.example\n\nFinal-Recipient: rfc822;<bob@example.com>\nAction: FAILED\nStatus: 5.2.2\n"
    )
    inner = (
        b'Content-Type: multipart/report; boundary="in"\r\n\r\n--in\r\n'
        b"Content-Type: message/delivery-status\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(status).replace(b"\n", b"\r\n")
        + b"--in--\r\n"
    )
    content = (
        b'From: a@b.example\r\nContent-Type: multipart/mixed; boundary="out"\r\n\r\n--out\r\n' + inner + b"--out--\r\n"
    )

    assert read_report(content) == (ReportedRecipient("failed", ("bob@example.com",), "5.2.2", "5.2.2"),)


def test_exim_without_a_report_says_it_in_a_field() -> None:
    content = crlf("From: Mailer-Daemon@x.example\nX-Failed-Recipients: bob@example.com, al@b.example\n\nx\n")

    assert [one.addresses for one in read_report(content)] == [("bob@example.com",), ("al@b.example",)]


def test_qmail_says_it_in_prose() -> None:
    content = crlf(
        "From: MAILER-DAEMON@q.example\nSubject: failure notice\n\n"
        "Hi. This is the qmail-send program at q.example.\nI'm afraid I wasn't able to deliver your message.\n\n"
        "<bob@example.com>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n"
        "<al@b.example>:\n192.0.2.1 does not like recipient.\nRemote host said: 550 no\n\n"
        "--- Below this line is a copy of the message.\n\nFrom: <me@here.example>:\n"
    )

    assert read_report(content) == (
        ReportedRecipient("failed", ("bob@example.com",), "5.1.1", "Sorry, no mailbox here by that name. (#5.1.1)"),
        ReportedRecipient(
            "failed", ("al@b.example",), "", "192.0.2.1 does not like recipient. Remote host said: 550 no"
        ),
    )


def test_of_qmails_paragraphs_the_first_line_alone_names_a_recipient() -> None:
    """A megabyte of such lines is one paragraph, and read once."""
    start = "From: MAILER-DAEMON@q.example\n\nHi. This is the qmail-send program at q.example.\n\n"
    content = crlf(start + "<bob@example.com>:\n" + "<al@b.example>:\n" * 60_000 + "\n\n<cid@c.example>:\nno\n")

    assert [one.addresses for one in read_report(content)] == [("bob@example.com",), ("cid@c.example",)]


@pytest.mark.parametrize("address", ["bob@example.com", "jürgen@bücher.example"])
@pytest.mark.parametrize("action", ["failed", "delayed", "relayed"])
def test_a_notice_of_our_own_is_understood(address: str, action: dsn.Action) -> None:
    facts = NoticeFacts("relay.example", "1" * 16, "2" * 16, "now", "then", Envelope("a@b.example", ()))
    status = RecipientStatus(address, None, action, reply(550, "5.1.1", "No such user"), "mx.example", "it failed")

    [one] = read_report(dsn.build(facts, [status], b"Subject: x\r\n\r\n"))

    assert (one.action, one.addresses, one.status) == (action, (address,), "5.1.1")
    assert one.words == "550 5.1.1 No such user"


@pytest.mark.parametrize(
    "content",
    [
        b"From: a@b.example\r\nSubject: I am on holiday\r\n\r\nuntil Monday\r\n",
        b"",
        b"\r\n",
        b"Content-Type: multipart/report; boundary=x\r\n\r\nno boundary at all\r\n",
        POSTFIX.replace("Action: failed", "Action: exploded").replace("Action: delayed", "X: y").encode(),
    ],
)
def test_what_is_no_report_reports_nothing(content: bytes) -> None:
    assert read_report(content) == ()


def test_hostile_words_come_out_printable_and_short() -> None:
    content = crlf(POSTFIX.replace("unknown user:", "\x1b[31m\x00" + "a" * 5000))

    assert read_report(content)[0].words.isprintable()
    assert len(read_report(content)[0].words) <= 300


def test_at_most_a_thousand_recipients_are_read() -> None:
    block = "Final-Recipient: rfc822; a@b.example\nAction: failed\nStatus: 5.0.0\n\n"
    content = crlf(POSTFIX.replace("Final-Recipient: rfc822; robert", block * 3000 + "Final-Recipient: rfc822; robert"))

    assert len(read_report(content)) == 1000


@given(
    st.binary(max_size=400)
    | st.text(max_size=400).map(lambda text: crlf(POSTFIX).replace(b"5.1.1", text.encode("utf-8", "replace")))
)
def test_no_octets_make_it_raise(content: bytes) -> None:
    for one in read_report(content):
        assert one.words.isascii()
