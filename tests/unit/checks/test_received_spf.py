"""The Received-SPF field: its form, and hostile values in it."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.policy import SMTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.checks.received_spf import received_spf
from relay.mail.envelope import Envelope
from relay.mail.session import Session
from relay.ports import SpfResult

PASS = SpfResult("pass", "a.example lets 192.0.2.1 send (mx)")
QUOTED = r'"(?:[^"\\]|\\.)*"'
PAIR = rf"[a-z-]+=(?:[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~.-]+|{QUOTED})"
FIELD = re.compile(
    rf"Received-SPF: [a-z]+ \((?:[^()\\]|\\.)*\)\r\n\t{PAIR}(?:;\r\n\t{PAIR})*\r\n\Z".encode(), re.DOTALL
)


def field(
    result: SpfResult = PASS,
    *,
    peer: str = "192.0.2.1",
    helo: str = "mx.a.example",
    sender: str | None = "user@a.example",
    smtputf8: bool = False,
) -> bytes:
    session = Session(peer, 4711, helo, "ESMTP", "mx")
    return received_spf("relay.example.net", result, session, Envelope(sender, (), smtputf8=smtputf8))


def test_the_field_as_it_stands_in_a_message() -> None:
    assert field() == (
        b"Received-SPF: pass (relay.example.net: a.example lets 192.0.2.1 send \\(mx\\))\r\n"
        b"\tclient-ip=192.0.2.1;\r\n"
        b'\tenvelope-from="user@a.example";\r\n'
        b"\thelo=mx.a.example;\r\n"
        b"\treceiver=relay.example.net;\r\n"
        b"\tidentity=mailfrom\r\n"
    )


def test_the_null_sender_has_been_checked_by_its_helo_name() -> None:
    text = field(sender=None)
    assert b'envelope-from=""' in text
    assert b"identity=helo" in text


def test_an_ipv6_client_is_quoted() -> None:
    assert b'client-ip="2001:db8::1";' in field(peer="2001:db8::1")


def test_utf8_stands_only_where_the_message_is_smtputf8() -> None:
    assert 'envelope-from="jürgen@a.example"'.encode() in field(sender="jürgen@a.example", smtputf8=True)
    assert b'envelope-from="j?rgen@a.example"' in field(sender="jürgen@a.example")


@pytest.mark.parametrize(
    "hostile",
    ["x\r\nSubject: stolen", 'x"; identity=mailfrom; y="', "x\\", "x)\r\n\r\nbody", "\x00\x1b[2J", "(((" * 500],
)
def test_no_value_leaves_its_place(hostile: str) -> None:
    """Whatever a client or a zone says, there is one field and nothing else."""
    text = field(SpfResult("fail", hostile), helo=hostile, sender=f"{hostile}@a.example", peer=hostile, smtputf8=True)
    assert FIELD.match(text)
    message = message_from_bytes(text + b"\r\nbody", policy=SMTP)
    assert message.keys() == ["Received-SPF"]
    assert message.get_content() == "body"


@given(text=st.text(), smtputf8=st.booleans())
def test_any_text_makes_one_well_formed_field(text: str, smtputf8: bool) -> None:
    """Well formed, and no line over 998 octets (RFC 5322 §2.1.1)."""
    found = field(SpfResult("permerror", text), helo=text, sender=text or None, peer=text, smtputf8=smtputf8)
    assert FIELD.match(found)
    assert all(len(line) <= 998 for line in found.split(b"\r\n"))
    assert found.count(b"\n") == found.count(b"\r") == found.count(b"\r\n")


@pytest.mark.parametrize("filler", ["\\", "\U0001f600", '"'])
def test_long_values_fit_into_a_line(filler: str) -> None:
    found = field(SpfResult("fail", filler * 2000), helo=filler * 2000, sender=filler * 2000, smtputf8=True)
    assert FIELD.match(found)
    assert max(map(len, found.split(b"\r\n"))) <= 998
