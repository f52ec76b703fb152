"""A return path says what it is about, and only one that was given out is believed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import parse_address
from relay.mail.return_path import KEY_OCTETS, About, ReturnPaths

ID = "19a2b3c4d5e6f708"
PATHS = ReturnPaths("bounces.example.com", b"k" * KEY_OCTETS)


@pytest.mark.parametrize("index", [None, 0, 7, 99_999])
def test_an_address_says_which_message_and_which_recipient(index: int | None) -> None:
    address = PATHS.of(ID, index)

    assert PATHS.read(address) == About(ID, index)
    assert PATHS.read(address.upper()) == About(ID, index)
    assert len(parse_address(address).local) <= 64


def test_it_is_stable_so_that_mail_on_its_way_outlives_a_release() -> None:
    assert PATHS.of(ID, 3) == "r-19a2b3c4d5e6f708-3-a4laxfyg5k5xnw33@bounces.example.com"


@pytest.mark.parametrize(
    "address",
    [
        PATHS.of(ID, 1).replace("-1-", "-2-"),
        PATHS.of(ID, None).replace("--", "-0-"),
        PATHS.of(ID, 1).replace(ID, ID[:-1] + "9"),
        PATHS.of(ID, 1).replace("bounces.", "other."),
        ReturnPaths("bounces.example.com", b"x" * KEY_OCTETS).of(ID, 1),
        f"r-{ID}-1-@bounces.example.com",
        "postmaster@bounces.example.com",
        "r-" + "9" * 16 + "-1-" + "a" * 16 + "@bounces.example.com",
        "",
    ],
)
def test_what_was_never_given_out_is_not_ours(address: str) -> None:
    assert PATHS.read(address) is None


@given(st.text() | st.from_regex(re.compile(r"r-[0-9a-f]{16}-[0-9]{0,7}-[a-z2-7]{16}@bounces\.example\.com")))
def test_no_text_makes_it_raise_or_believe(text: str) -> None:
    assert PATHS.read(text) is None


def test_the_key_is_in_no_representation() -> None:
    assert "kkkk" not in repr(PATHS)
