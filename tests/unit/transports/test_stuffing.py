"""Dot-stuffing in pieces gives what dot-stuffing the whole gives, wherever it was cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relay.transports.smtp_commands import Stuffing, dot_stuffed

CONTENTS = st.lists(st.sampled_from([b".", b"..", b"\r\n", b"\r", b"\n", b"a", b"\r\n.\r\n", b"\xff"])).map(b"".join)


@given(CONTENTS, st.lists(st.integers(0, 30), max_size=12))
def test_every_cut_gives_the_same(content: bytes, cuts: list[int]) -> None:
    """Inside a line end, between it and its dot, and at pieces of nothing."""
    stuffing = Stuffing()
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    assert b"".join(stuffing.stuffed(content[start:end]) for start, end in pairwise(places)) == dot_stuffed(content)
