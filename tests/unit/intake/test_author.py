"""Authors: every address a reader could take for the sender's."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.intake.author import authors


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("joe@example.com", ["joe@example.com"]),
        ('"Joe, the <man>" <joe@example.com>', ["joe@example.com"]),
        ('"a\\"b@c" <joe@example.com>', ["joe@example.com"]),
        ('"joe smith"@example.com', ['"joe smith"@example.com']),
        ("Joe (at@home) <joe@example.com>", ["joe@example.com"]),
        ("joe@example.com (a (nested) comment \\) still)", ["joe@example.com"]),
        ('(") joe@example.com', ["joe@example.com"]),
        ("List: a@x.example, B <b@y.example>;", ["a@x.example", "b@y.example"]),
        ("=?utf-8?q?J=40e?= <joe@example.com>", ["joe@example.com"]),
        ("info@brand.example <joe@example.com>", ["info@brand.example", "joe@example.com"]),
        ("nobody", []),
        ("", []),
        ("(never closed joe@example.com", []),
        ('"never closed joe@example.com', []),
        ("joe@example.com)", []),
    ],
)
def test_authors(value: str, found: list[str]) -> None:
    """What cannot be read names nobody, so that a restricted login does not get through with it."""
    assert authors(value) == found


@given(st.text(alphabet='ab@."\\()<>,;: \t\x00ä', max_size=60))
def test_anything_is_read_without_an_error(value: str) -> None:
    """And an address is never made up: each is a piece of the value."""
    for address in authors(value):
        assert "@" in address
        assert address in value


@pytest.mark.parametrize("unit", ["(", ")", '"', '\\"', "a@", "<", "(\\", '"\\', "()", "a ", '""', "\\"])
def test_long_values_cost_linear_time(unit: str) -> None:
    """Half a megabyte of what makes a backtracking parser stand still."""
    started = time.process_time()

    authors("x" + unit * (500_000 // len(unit)))

    assert time.process_time() - started < 1.5
