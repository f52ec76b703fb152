"""No stranger's mail carries results of checks in this server's name (RFC 8601 §5)."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
from gate import CLIENT, ENVELOPE, TLS, Gate
from hypothesis import example, given
from hypothesis import strategies as st

from relay.intake.forged_results import without_forged_results
from relay.mail.message import header_block, header_fields
from relay.mail.session import Login

GOLDEN = Path(__file__).parents[2] / "golden/messages"
OURS = "mx.example"

FORGED = [
    b"Authentication-Results: mx.example; spf=pass smtp.mailfrom=boss@bank.example\r\n",
    b"Authentication-Results:mx.example;spf=pass\r\n",
    b"AUTHENTICATION-results: MX.Example; dkim=pass\r\n",
    b"Authentication-Results \t: mx.example; none\r\n",
    b"Authentication-Results:\r\n\tmx.example;\r\n\tspf=pass\r\n",
    b"Authentication-Results: \r\n \r\n mx.example 1; spf=pass\r\n",
    b"Authentication-Results: (for you (yes) \\) ) mx.example (me) 1; spf=pass\r\n",
    b'Authentication-Results: (") mx.example; spf=pass\r\n',
    b'Authentication-Results: "mx.example"; spf=pass\r\n',
    b'Authentication-Results: "m\\x.example" 1; spf=pass\r\n',
    b'Authentication-Results: "mx.example; spf=pass\r\n',
    b"Authentication-Results: mx(c).example; spf=pass\r\n",
    b"Authentication-Results: mx.example(c)1; spf=pass\r\n",
    b"Authentication-Results: mx.example/1; spf=pass\r\n",
    b"Authentication-Results: mx.example.; spf=pass\r\n",
    b"Authentication-Results: mx.example\r\n",
]
OF_OTHERS = [
    b"Authentication-Results: mx.other.example; spf=pass\r\n",
    b"Authentication-Results: other.mx.example; spf=pass\r\n",
    b"Authentication-Results: mx.example.org; spf=pass\r\n",
    b"Authentication-Results: other.example; spf=pass (mx.example; says so)\r\n",
    b"Authentication-Results: (mx.example) other.example; spf=pass\r\n",
    b"Authentication-Results: (mx.example; spf=pass\r\n",
    b"Authentication-Results: \xff\xfe; spf=pass\r\n",
    b"Authentication-Results: b\xc3\xbccher.example; spf=pass\r\n",
    b"Authentication-Results:\r\n",
    b"ARC-Authentication-Results: i=1; mx.example; spf=pass\r\n",
    b"X-Authentication-Results: mx.example; spf=pass\r\n",
    b"Subject: Authentication-Results: mx.example; spf=pass\r\n",
]


def left_of(header: bytes, hostname: str = OURS) -> bytes:
    left, fields = without_forged_results(header, list(header_fields(header)), hostname)
    assert fields == list(header_fields(left))
    return left


@pytest.mark.parametrize("field", FORGED)
def test_results_in_our_name_go_however_they_are_written(field: bytes) -> None:
    assert left_of(b"To: a@b\r\n" + field + b"Subject: s\r\n") == b"To: a@b\r\nSubject: s\r\n"


@pytest.mark.parametrize("field", OF_OTHERS)
def test_results_of_others_stay(field: bytes) -> None:
    header = b"To: a@b\r\n" + field + b"Subject: s\r\n"
    assert left_of(header) == header


@pytest.mark.parametrize("hostname", ["xn--mx-yka.example", "mxü.example"])
@pytest.mark.parametrize("written", ["mxü.example", "MXÜ.example", "xn--mx-yka.example"])
def test_a_name_beyond_ascii_is_ours_in_both_its_forms(hostname: str, written: str) -> None:
    assert left_of(f"Authentication-Results: {written}; spf=pass\r\n".encode(), hostname) == b""


@given(st.lists(st.sampled_from([*FORGED, *OF_OTHERS, b"no field\r\n", b"To: a@b\r\n"]), max_size=12))
@example(FORGED)
def test_exactly_the_forged_fields_go(lines: list[bytes]) -> None:
    header = b"From: a@b\r\n" + b"".join(lines)
    assert left_of(header) == b"From: a@b\r\n" + b"".join(line for line in lines if line not in FORGED)


@given(st.text('abmx.example"\\();/ \t\r\n1', max_size=60))
def test_what_goes_is_a_whole_field_and_named_so(value: str) -> None:
    header = b"From: a@b\r\nAuthentication-Results: " + value.encode() + b"\r\nTo: c@d\r\n"
    left = left_of(header)
    assert left == header or (left.startswith(b"From: a@b\r\n") and left.endswith(b"To: c@d\r\n"))


@pytest.mark.parametrize("piece", [b"(", b"()", b"((\\)", b" (a)"])
def test_results_behind_comments_without_an_end_are_nobodys(piece: bytes) -> None:
    forged = b"Authentication-Results: " + piece * (900_000 // len(piece)) + b" mx.example; spf=pass\r\n"
    assert left_of(forged + b"To: a@b\r\n") == b"To: a@b\r\n"


@pytest.mark.parametrize("piece", [b"\\", b'"', b'"\\', b"other.example", b"other.example;("])
def test_a_value_without_an_end_is_read_at_its_beginning(piece: bytes) -> None:
    header = b"Authentication-Results: " + piece * (900_000 // len(piece)) + b"\r\n"
    assert left_of(header) == header


def test_thousands_of_forged_fields_all_go() -> None:
    assert left_of(b"To: a@b\r\n" + b"".join(FORGED) * 1000) == b"To: a@b\r\n"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.eml")), ids=lambda path: path.stem)
def test_golden_messages_lose_what_is_forged_and_nothing_else(path: Path) -> None:
    content = path.read_bytes().replace(b"\n", b"\r\n")
    header = header_block(content)
    assert left_of(header) == header
    first = header.index(b"\r\n") + 2
    while header[first : first + 1] in (b" ", b"\t"):
        first = header.index(b"\r\n", first) + 2
    gate = Gate()
    forged = header[:first] + FORGED[4] + header[first:] + FORGED[6] + content[len(header) :]
    assert str(asyncio.run(gate.accept.accept(CLIENT, ENVELOPE, forged))).startswith("250")
    assert gate.spool.stored[0].content.endswith(b"\r\n" + content if header else content)


def test_a_client_that_logged_in_is_no_stranger() -> None:
    gate, login = Gate(), dataclasses.replace(CLIENT, tls=TLS, login=Login("acme", "app"))
    content = b"From: a@b.example\r\n" + FORGED[0] + b"\r\nHi\r\n"
    asyncio.run(gate.accept.accept(login, ENVELOPE, content))
    assert gate.spool.stored[0].content.endswith(content)


def test_a_message_of_nothing_but_forged_results_keeps_its_body() -> None:
    gate = Gate()
    asyncio.run(gate.accept.accept(CLIENT, ENVELOPE, FORGED[0] + b"\r\nHi\r\n"))
    header, _, body = gate.spool.stored[0].content.partition(b"\r\n\r\n")
    assert body == b"Hi\r\n"
    assert b"Authentication" not in header
