"""The canonical form: RFC 6376's own examples, a slow and obvious second opinion, and linear cost."""

from __future__ import annotations

import hashlib
import re
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.signing import canonical
from relay.signing.canonical import relaxed_body_hash, relaxed_field

BODIES = st.lists(st.sampled_from([b" ", b"\t", b"a", b"\r\n", b"\r", b"\n", b"\xff", b"  x \r\n", b"\r\n\r\n"])).map(
    b"".join
)


def obvious_body(body: bytes) -> bytes:
    """RFC 6376 §3.4.4 line by line, as a person would do it."""
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


def test_the_example_of_the_standard() -> None:
    """RFC 6376 §3.4.5."""
    assert relaxed_field(b"A: X\r\n") == b"a:X\r\n"
    assert relaxed_field(b"B : Y\t\r\n\tZ  \r\n") == b"b:Y Z\r\n"
    assert relaxed_body_hash(b" C \r\nD \t E\r\n\r\n\r\n") == hashlib.sha256(b" C\r\nD E\r\n").digest()


@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n", b" ", b" \t\r\n \r\n"])
def test_an_empty_body_has_the_hash_of_nothing(body: bytes) -> None:
    """RFC 6376 §3.4.4: nothing but blanks and line ends is no body at all."""
    assert relaxed_body_hash(body) == hashlib.sha256(b"").digest()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"Subject:\r\n", b"subject:\r\n"),
        (b"Subject: \r\n \r\n", b"subject:\r\n"),
        (b"SUBJECT:a:b\r\n", b"subject:a:b\r\n"),
        (b"Subject:  =?utf-8?Q?x?=\r\n\t =?utf-8?Q?y?= \r\n", b"subject:=?utf-8?Q?x?= =?utf-8?Q?y?=\r\n"),
        (b"Subject: \x0bform\x0c\r\n", b"subject:\x0bform\x0c\r\n"),
        (b"Subject: \xc3\xa9 \r\n", b"subject:\xc3\xa9\r\n"),
    ],
)
def test_fields(raw: bytes, expected: bytes) -> None:
    """Blanks are space and tab alone; other control characters and octets above 127 stay as they are."""
    assert relaxed_field(raw) == expected


@given(BODIES)
def test_agrees_with_the_obvious_way(body: bytes) -> None:
    """The fast way gives what the standard's own words give, stray CR and LF included."""
    assert relaxed_body_hash(body) == hashlib.sha256(obvious_body(body)).digest()


@given(BODIES, st.integers(1, 9), st.integers(1, 9))
def test_blocks_and_ways_do_not_show(body: bytes, block: int, dense: int) -> None:
    """Where a block ends, and which way runs of blanks are squeezed, changes nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "_BLOCK", block)
        patch.setattr(canonical, "_DENSE", dense)
        assert relaxed_body_hash(body) == hashlib.sha256(obvious_body(body)).digest()


@pytest.mark.parametrize(
    "unit",
    [b" ", b"\t", b" \t", b"a  ", b" \r\n", b"\r\n", b"\r", b"\n", b"\r\n\r", b"x", b" " * 4095 + b"x"],
    ids=repr,
)
@pytest.mark.usefixtures("processor_alarm")
def test_cost_is_linear(unit: bytes) -> None:
    """Ten megabytes of blanks, line ends or nearly so are a few passes; squared it would be days."""
    text = unit * (10_000_000 // len(unit))
    relaxed_body_hash(text)
    relaxed_body_hash(b"x" + text + b"x\r\n")
    relaxed_field(b"Subject:" + text)


@given(BODIES, st.lists(st.integers(0, 40), max_size=12))
def test_pieces_of_a_body_may_be_cut_anywhere(body: bytes, cuts: list[int]) -> None:
    """Also inside a line end, and inside blanks that turn out to end a line."""
    pieces = canonical.RelaxedBodyHash()
    places = [0, *sorted(cuts), len(body)]
    for start, end in pairwise(places):
        pieces.update(body[start:end])
    assert pieces.digest() == hashlib.sha256(obvious_body(body)).digest()


@pytest.mark.usefixtures("processor_alarm")
@pytest.mark.parametrize("unit", [b" ", b"\r", b"\r\n", b"x", b" \r"], ids=repr)
def test_a_body_in_pieces_is_not_gathered(unit: bytes) -> None:
    """Whatever has no line end: what waits for the next piece stays small."""
    pieces = canonical.RelaxedBodyHash()
    piece = unit * (262_144 // len(unit))
    tracemalloc.start()
    try:
        for _ in range(80):
            pieces.update(piece)
        pieces.update(b"end")
        assert tracemalloc.get_traced_memory()[1] < 2_500_000
    finally:
        tracemalloc.stop()
