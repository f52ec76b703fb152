"""The notice, read back by Python's email package and checked field by field (RFC 3464, RFC 6522, RFC 6533)."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.dsn import NoticeFacts, RecipientStatus, build
from relay.mail.envelope import Envelope, Recipient
from relay.mail.reply import Reply, reply

DATE = "Wed, 25 Nov 2026 03:21:21 +0000"
ARRIVAL = "Wed, 25 Nov 2026 03:20:00 +0000"
ORIGINAL = b"From: a@b.example\r\nSubject: hello\r\nX-Odd: one\r\n two\r\n\r\nThe body stays out.\r\n"
NO_SUCH_USER = reply(550, "5.1.1", "No such user")


def facts(sender: str = "a@b.example", **options: object) -> NoticeFacts:
    envelope = Envelope(sender, (Recipient("c@d.example"),), **options)  # type: ignore[arg-type]
    return NoticeFacts("relay.example", "00000000000000ff", "00000000000000aa", DATE, ARRIVAL, envelope)


def status(address: str = "c@d.example", **changes: object) -> RecipientStatus:
    given = {"orcpt": None, "action": "failed", "reply": NO_SUCH_USER, "remote": "mx.d.example", "reason": "refused"}
    return RecipientStatus(address, **{**given, **changes})  # type: ignore[arg-type]


def parsed(content: bytes) -> EmailMessage:
    assert content.count(b"\n") == content.count(b"\r\n") == content.count(b"\r")
    assert all(len(line) <= 998 for line in content.split(b"\r\n"))
    message = email.message_from_bytes(content, policy=email.policy.default)
    defects = [defect for part in message.walk() for defect in part.defects]
    assert not defects
    assert isinstance(message, EmailMessage)
    return message


def blocks(message: EmailMessage) -> list[EmailMessage]:
    """The per-message block and one block a recipient."""
    part = list(message.iter_parts())[1]
    return list(part.get_payload())  # type: ignore[arg-type]


def fields_of(content: bytes) -> list[list[str]]:
    """The lines of the status part by block, where the email package knows no such type (RFC 6533)."""
    part = content.split(b"--=_00000000000000ff")[2].partition(b"\r\n\r\n")[2]
    return [block.split("\r\n") for block in part.decode().rstrip("\r\n").split("\r\n\r\n")]


def test_the_header_says_who_reports_and_that_a_machine_does():
    message = parsed(build(facts(), [status()], ORIGINAL))
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@relay.example>"
    assert message["To"] == "a@b.example" or message["To"] == "<a@b.example>"
    assert message["Date"] == DATE
    assert message["Message-ID"] == "<00000000000000ff@relay.example>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["MIME-Version"] == "1.0"
    assert message["Subject"] == "Undelivered mail returned to sender"
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"


def test_a_notice_has_text_status_and_the_header_of_the_original_in_this_order():
    message = parsed(build(facts(), [status()], ORIGINAL))
    text, report, returned = message.iter_parts()
    assert (text.get_content_type(), report.get_content_type(), returned.get_content_type()) == (
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    )
    body = text.get_content()
    for words in ("relay.example", "00000000000000aa", "c@d.example", "refused", "550 5.1.1 No such user"):
        assert words in body
    header = returned.get_content()
    assert "Subject: hello" in header
    assert "two" in header
    assert "The body stays out" not in header


def test_every_recipient_has_a_block_of_its_own_with_the_fields_of_rfc_3464():
    expired = reply(451, "4.4.1", "No answer from host")
    statuses = [
        status(orcpt="rfc822;Original@d.example"),
        status("x@y.example", reply=expired, remote="", reason="expired"),
    ]
    message = parsed(build(facts(envid="ENV-1"), statuses, ORIGINAL))
    about, first, second = blocks(message)
    assert about.items() == [
        ("Reporting-MTA", "dns; relay.example"),
        ("Original-Envelope-Id", "ENV-1"),
        ("Arrival-Date", ARRIVAL),
    ]
    assert first.items() == [
        ("Original-Recipient", "rfc822;Original@d.example"),
        ("Final-Recipient", "rfc822; c@d.example"),
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Remote-MTA", "dns; mx.d.example"),
        ("Diagnostic-Code", "smtp; 550 5.1.1 No such user"),
    ]
    assert second.items() == [
        ("Final-Recipient", "rfc822; x@y.example"),
        ("Action", "failed"),
        ("Status", "4.4.1"),
        ("Diagnostic-Code", "smtp; 451 4.4.1 No answer from host"),
    ]


def test_a_utf8_recipient_is_reported_in_the_type_that_has_room_for_one():
    content = build(facts(smtputf8=True), [status("jürgen@bücher.example")], ORIGINAL)
    message = parsed(content)
    text, report, returned = message.iter_parts()
    assert report.get_content_type() == "message/global-delivery-status"
    assert report["Content-Transfer-Encoding"] == "8bit"
    assert text["Content-Transfer-Encoding"] == "8bit"
    assert "jürgen@bücher.example" in text.get_content()
    assert fields_of(content)[1][0] == "Final-Recipient: utf-8; jürgen@bücher.example"
    assert returned.get_content_type() == "text/rfc822-headers"


def test_ascii_recipients_of_an_smtputf8_message_are_reported_the_plain_way():
    message = parsed(build(facts(smtputf8=True), [status()], ORIGINAL))
    assert [part.get_content_type() for part in message.iter_parts()][1:] == [
        "message/delivery-status",
        "text/rfc822-headers",
    ]


def test_a_sender_in_utf8_is_addressed_as_it_is():
    message = parsed(build(facts("jürgen@b.example", smtputf8=True), [status()], ORIGINAL))
    assert "jürgen@b.example" in message["To"]


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("Subject: Grüße\r\n".encode(), "message/global-headers"),
        ("Subject: Grüße\r\n".encode("latin-1"), "text/rfc822-headers"),
        (b"Subject: hello\r\n", "text/rfc822-headers"),
    ],
)
def test_a_returned_header_is_labelled_by_what_it_holds(header, kind):
    content = build(facts(), [status()], header + b"\r\nbody")
    returned = list(parsed(content).iter_parts())[2]
    assert returned.get_content_type() == kind
    assert (returned["Content-Transfer-Encoding"] == "8bit") is not header.isascii()
    assert header in content


def test_a_header_too_long_to_return_is_cut_after_a_whole_line():
    line = "X-Filler: " + "ü" * 40 + "\r\n"
    content = build(facts(), [status()], line.encode() * 2000 + b"\r\nbody")
    returned = content.rpartition(b"Content-Transfer-Encoding: 8bit\r\n\r\n")[2].partition(b"\r\n--=_")[0]
    assert len(returned) <= 51_200
    assert set(returned.decode().splitlines(keepends=True)) == {line}
    parsed(content)


def test_a_header_without_a_line_end_to_cut_at_is_left_out():
    content = build(facts(), [status()], b"X: " + b"y" * 60_000)
    assert b"yyy" not in content
    parsed(content)


def test_an_original_that_holds_the_boundary_cannot_end_the_notice():
    forged = b"Subject: x\r\n--=_00000000000000ff--\r\nX-More: 1\r\n\r\nbody"
    message = parsed(build(facts(), [status()], forged))
    assert len(list(message.iter_parts())) == 3
    assert message.get_boundary() not in forged.decode()


def test_an_original_without_a_header_is_reported_all_the_same():
    message = parsed(build(facts(), [status()], b""))
    assert len(list(message.iter_parts())) == 3


def test_a_host_name_of_a_peer_cannot_end_a_part():
    host = "mx\r\n--=_00000000000000ff--\r\n"
    message = parsed(build(facts(), [status(remote=host)], ORIGINAL))
    assert len(list(message.iter_parts())) == 3


@given(
    text=st.text(max_size=600),
    host=st.text(max_size=80),
    envid=st.text(max_size=100),
    orcpt=st.text(max_size=200),
    original=st.binary(max_size=400),
)
def test_no_byte_of_a_peer_adds_a_field_or_a_part(text, host, envid, orcpt, original):
    original = original.replace(b"\r", b"").replace(b"\n", b"\r\n")
    one = status(reply=Reply.from_peer(550, text), remote=host, orcpt=orcpt)
    content = build(facts(envid=envid), [one], original)
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert len(list(message.iter_parts())) == 3
    about, recipient = blocks(message)
    assert set(about.keys()) <= {"Reporting-MTA", "Original-Envelope-Id", "Arrival-Date"}
    assert [name for name in recipient if name not in ("Original-Recipient", "Remote-MTA")] == [
        "Final-Recipient",
        "Action",
        "Status",
        "Diagnostic-Code",
    ]


def test_of_mail_that_requires_tls_the_header_alone_is_returned():
    """RFC 8689 §5."""
    for requiretls, kind in ((True, "text/rfc822-headers"), (False, "message/rfc822")):
        message = parsed(build(facts(ret="FULL", requiretls=requiretls), [status()], ORIGINAL, 10_000))
        assert list(message.iter_parts())[2].get_content_type() == kind


def test_what_was_asked_for_of_its_release_is_told():
    """RFC 4865 §5.1.2."""
    [block, *_] = blocks(parsed(build(facts(hold_request="for;3600"), [status()], ORIGINAL)))
    assert block["Future-Release-Request"] == "for;3600"
    assert block["Arrival-Date"]


def test_the_time_a_message_was_to_be_delivered_by_is_told():
    """RFC 2852 §5."""
    [block, *_] = blocks(parsed(build(facts(deliver_by=1_800_000_000.5), [status()], ORIGINAL)))
    assert block["Deliver-By-Date"] == "Fri, 15 Jan 2027 08:00:00 +0000"
