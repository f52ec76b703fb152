"""Blind copies stay blind, even where a client writes them into its message."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from gate import CLIENT, ENVELOPE, TLS, Gate
from hypothesis import given
from hypothesis import strategies as st

from relay.intake.blind_copies import without_blind_copies
from relay.mail.message import header_block, header_fields
from relay.mail.session import Login

OURS = dataclasses.replace(CLIENT, tls=TLS, login=Login("acme", "app"))


def taken_out(content: bytes) -> bytes:
    header = header_block(content)
    left, _ = without_blind_copies(header, list(header_fields(header)))
    return left + content[len(header) :]


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (b"Bcc: x@y\r\nTo: a@b\r\n\r\nHi\r\n", b"To: a@b\r\n\r\nHi\r\n"),
        (b"To: a@b\r\nBCC : x@y,\r\n\tz@y\r\nSubject: s\r\n\r\nHi\r\n", b"To: a@b\r\nSubject: s\r\n\r\nHi\r\n"),
        (b"Resent-Bcc: x@y\r\nBcc: x@y\r\nBcc: x@y\r\n\r\nHi\r\n", b"\r\nHi\r\n"),
        (b"X-Bcc: x@y\r\nBcc: x@y\r\n\r\nHi\r\n", b"X-Bcc: x@y\r\n\r\nHi\r\n"),
        (b"To: a@b\r\n\r\nBcc: in the body\r\n", b"To: a@b\r\n\r\nBcc: in the body\r\n"),
        (b"Bcc:\r\n\r\nHi\r\n", b"\r\nHi\r\n"),
        (b"Bcc: x@y\r\n", b""),
        # A binary message need not end with a line end (RFC 3030).
        (b"Bcc: x@y", b""),
        (b"To: a@b\r\nBcc: x@y", b"To: a@b\r\n"),
    ],
)
def test_bcc_fields_go_and_every_other_octet_stays(content: bytes, left: bytes) -> None:
    assert taken_out(content) == left


_lines = st.sampled_from([b"Bcc: x@y", b"X-Bcc: x@y", b"bcc:", b"To: a@b", b" folded", b"no field", b"Resent-BCC: q@r"])


@given(st.lists(_lines, max_size=9), st.binary(max_size=20))
def test_no_header_keeps_a_bcc_field_and_bodies_are_not_touched(lines: list[bytes], body: bytes) -> None:
    content = b"".join(line + b"\r\n" for line in [b"Subject: s", *lines]) + b"\r\n" + body
    left = taken_out(content)
    assert left.endswith(b"\r\n\r\n" + body)
    names = {field.name for field in header_fields(header_block(left))}
    assert not names & {"bcc", "resent-bcc"}


def test_a_login_s_message_is_stored_without_its_bcc() -> None:
    gate = Gate()
    content = b"From: a@b.example\r\nBcc: hidden@ours.example\r\nSubject: s\r\n\r\nHi\r\n"
    assert str(asyncio.run(gate.accept.accept(OURS, ENVELOPE, content))).startswith("250")
    stored = gate.spool.stored[0].content
    assert b"hidden" not in stored
    assert stored.endswith(b"From: a@b.example\r\nSubject: s\r\n\r\nHi\r\n")


def test_mail_from_elsewhere_is_passed_on_as_it_came() -> None:
    gate = Gate()
    content = b"From: a@b.example\r\nBcc: seen@ours.example\r\n\r\nHi\r\n"
    asyncio.run(gate.accept.accept(CLIENT, ENVELOPE, content))
    assert gate.spool.stored[0].content.endswith(content)
