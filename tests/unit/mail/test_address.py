"""Envelope addresses: what is taken, what is refused, and that nothing in one can end the path it stands in."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.address import LOCAL_PART_OCTETS, domain_of, parse_address, to_ascii_domain
from relay.mail.errors import AddressSyntaxError


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("Some.One@Example.COM", "Some.One", "example.com"),
        ('"with space"@example.com', '"with space"', "example.com"),
        (r'"q\"uote"@example.com', r'"q\"uote"', "example.com"),
        ('"a@b"@example.com', '"a@b"', "example.com"),
        ("o'neil+tag@sub_domain.example.com", "o'neil+tag", "sub_domain.example.com"),
        ("üser@bücher.example", "üser", "bücher.example"),
        ("x@[192.0.2.1]", "x", "[192.0.2.1]"),
        ("x@[IPv6:2001:DB8:0::1]", "x", "[IPv6:2001:db8::1]"),
        ("x@localhost", "x", "localhost"),
    ],
)
def test_an_address_keeps_its_local_part_and_gets_a_lower_case_domain(text, local, domain):
    address = parse_address(text)
    assert (address.local, address.domain) == (local, domain)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nobody",
        "@example.com",
        "x@",
        ".x@example.com",
        "x..y@example.com",
        "x@a..b",
        "x@-a.example",
        "x@a-.example",
        "x@example.com.",
        "a b@example.com",
        "x@exa mple.com",
        "x@[192.0.2.256]",
        "x@[IPv6:1::2::3]",
        "x@[example]",
        "x\r\n@example.com",
        '"x\r\n"@example.com',
        "x\x00@example.com",
        "x\x85@example.com",
        "x\u2028@example.com",
        "x\ud800@example.com",
        '"x"y"@example.com',
        "x" * (LOCAL_PART_OCTETS + 1) + "@example.com",
        "ü" * (LOCAL_PART_OCTETS // 2 + 1) + "@example.com",
        "x@" + "a" * 64 + ".example",
        "x@" + "a." * 127 + "example",
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(AddressSyntaxError):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "x@[IPv6:::1%> SIZE=1]",
        "x@[IPv6:fe80::1%eth0]",
        "x@exa\uff1emple.example",  # a wide > becomes an ASCII one in A-labels
        "x@a\u00a0b.example",  # so does a no-break space
        "x@a\uff20b.example",
        "x@\uff0d.example",
    ],
)
def test_no_domain_turns_into_one_that_ends_the_path_it_stands_in(text):
    with pytest.raises(AddressSyntaxError):
        parse_address(text)


@given(
    st.one_of(
        st.text(max_size=80),
        st.from_regex(r"[^@]{1,20}@[\w\-.%\[\]:]{1,30}", fullmatch=True),
        st.tuples(st.text('ab."\\ >ü', max_size=12), st.text("ab.-\u3002\uff1e\u00a0ß[]", max_size=12)).map("@".join),
    )
)
@example("x@\u2100.example")
def test_every_address_taken_is_one_line_and_reads_back_the_same(text):
    try:
        address = parse_address(text)
    except AddressSyntaxError:
        return
    again = str(address)
    assert not any(ord(letter) < 32 or letter == "\x7f" for letter in again)
    assert not set("<> ") & set(address.domain)
    assert parse_address(again) == address
    assert domain_of(again) == address.domain.lower()
    if not address.domain.startswith("["):
        ascii_domain = address.ascii_domain
        assert ascii_domain.isascii()
        assert all(letter.isalnum() or letter in ".-_" for letter in ascii_domain)


def test_a_domain_in_u_labels_becomes_a_labels_for_dns():
    assert to_ascii_domain("bücher.example") == "xn--bcher-kva.example"
    assert to_ascii_domain("straße.example") == "xn--strae-oqa.example", "not strasse.example, which is another's"
    assert to_ascii_domain("STRAẞE.example") == "xn--strae-oqa.example"
    assert to_ascii_domain("βόλος.example") == "xn--nxasmm1c.example", "final sigma, by RFC 5894"
    assert parse_address("x@BÜCHER.example").ascii_domain == "xn--bcher-kva.example"


def test_only_a_local_part_in_utf8_needs_smtputf8():
    assert parse_address("ü@example.com").needs_smtputf8
    assert not parse_address("u@bücher.example").needs_smtputf8


@pytest.mark.parametrize(
    "text",
    [
        "a@" + "a" * 100_000 + "!",
        "a@" + "a-" * 50_000 + "!",
        "a@" + "a." * 50_000 + "!",
        "a." * 50_000 + "@b",
        '"' + "\\\\" * 50_000 + "@b",
        "@" * 100_000,
    ],
)
def test_hostile_length_costs_linear_time(text):
    started = time.thread_time()
    with pytest.raises(AddressSyntaxError):
        parse_address(text)
    assert time.thread_time() - started < 1.0


def test_the_null_sender_has_no_domain():
    assert domain_of("") == ""


@pytest.mark.parametrize("domain", ["a." * 127 + "aa", "ü." * 128, "a." * 500_000 + "a"])
def test_what_is_too_long_for_a_domain_is_refused_and_not_remembered(domain: str) -> None:
    """Header fields and reports name domains too, and a megabyte of one was kept by the thousand."""
    before = to_ascii_domain.cache_info().currsize
    with pytest.raises(AddressSyntaxError, match="longer than 255 octets"):
        to_ascii_domain(domain)
    assert to_ascii_domain.cache_info().currsize == before
