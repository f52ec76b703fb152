"""The fields put before a message, to the letter."""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import replace

import pytest
from gate import AT, CLIENT, ENVELOPE, TLS, restricted
from hypothesis import given
from hypothesis import strategies as st

from relay.intake import stamp
from relay.mail.envelope import Envelope, Recipient
from relay.mail.session import Session


def test_received_names_peer_tls_login_id_and_the_only_recipient() -> None:
    """RFC 5321 §4.4."""
    assert stamp.received(restricted(), ENVELOPE, "id1", "mx.example", AT) == (
        b"Received: from client.example ([192.0.2.1])\r\n"
        b"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256 bits))\r\n"
        b"\t(authenticated as app)\r\n"
        b"\tby mx.example (Sendrelay) with ESMTPSA id id1 for <bob@ours.example>;\r\n"
        b"\tWed, 25 Nov 2026 03:21:21 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("session", "smtputf8", "word"),
    [
        (replace(CLIENT, protocol="SMTP"), False, "SMTP"),
        (CLIENT, False, "ESMTP"),
        (replace(CLIENT, tls=TLS), False, "ESMTPS"),
        (replace(CLIENT, login=restricted().login), False, "ESMTPA"),
        (restricted(), False, "ESMTPSA"),
        (restricted(), True, "UTF8SMTPSA"),
        (CLIENT, True, "UTF8SMTP"),
        (replace(CLIENT, protocol="HTTP"), False, "HTTP"),
    ],
)
def test_protocol_words(session: Session, smtputf8: bool, word: str) -> None:
    """RFC 3848 and RFC 6531 §4.3, as Received carries them."""
    field = stamp.received(session, replace(ENVELOPE, smtputf8=smtputf8), "id1", "mx.example", AT)

    assert f" with {word} id ".encode() in field


def test_ipv6_peers_are_tagged() -> None:
    assert b"([IPv6:2001:db8::1])" in stamp.received(replace(CLIENT, peer="2001:db8::1"), ENVELOPE, "id", "mx", AT)


@given(helo=st.text(max_size=400), username=st.text(max_size=400))
def test_hostile_names_make_no_second_field_and_close_no_comment(helo: str, username: str) -> None:
    """HELO and user name are the client's words; the field stays one field with balanced comments."""
    login = restricted().login
    assert login is not None
    session = replace(CLIENT, helo=helo, login=replace(login, username=username))

    field = stamp.received(session, ENVELOPE, "id1", "mx.example", AT)

    assert re.fullmatch(rb"Received: [\x20-\x7e]+\r\n(?:\t[\x20-\x7e]+\r\n){3}", field)
    assert field.count(b"(") == field.count(b")") == 3
    assert b"\\" not in field
    assert max(map(len, field.split(b"\r\n"))) <= 998


def test_a_message_of_stamps_alone_is_a_message() -> None:
    """The email package reads every field back."""
    prefix = stamp.received(CLIENT, ENVELOPE, "id1", "mx.example", AT) + stamp.missing_fields(
        [], ENVELOPE, "id1", "mx.example", AT, whole_header=True
    )
    message = email.message_from_bytes(prefix + b"\r\nHi\r\n", policy=email.policy.default)

    assert message.keys() == ["Received", "From", "To", "Date", "Message-ID"]
    assert message["From"].addresses[0].addr_spec == "a@b.example"
    assert message["To"].addresses[0].addr_spec == "bob@ours.example"
    assert message["Date"].datetime.timestamp() == AT
    assert message["Message-ID"] == "<id1.1795576881@mx.example>"
    assert message.defects == []


def test_the_null_sender_gets_a_from_of_this_host() -> None:
    fields = stamp.missing_fields([], Envelope(None, (Recipient("x@y"),)), "id1", "mx.example", AT, whole_header=False)

    assert fields.startswith(b"From: <MAILER-DAEMON@mx.example>\r\nDate: ")


@pytest.mark.parametrize(
    ("priority", "clause"), [(4, b" PRIORITY 4;"), (-2, b" PRIORITY -2;"), (0, b">;"), (None, b">;")]
)
def test_received_tells_a_priority_that_is_not_the_ordinary_one(priority: int | None, clause: bytes) -> None:
    """RFC 6710 §7: a clause of its own at the end."""
    field = stamp.received(CLIENT, replace(ENVELOPE, priority=priority), "id1", "mx.example", AT)

    assert b" for <bob@ours.example" + (b">" + clause if clause[:1] == b" " else clause) in field
