"""Wishes in the text of a temporary reply."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.hints import retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Greylisted, please try again in 5 minutes", 300),
        ("try again in 300 seconds", 300),
        ("Greylisting in action, retry in 60s", 60),
        ("Please wait 1 hour", 3600),
        ("Too many messages; delayed 10 min", 600),
        ("You are being throttled: come back in 2 hrs", 7200),
        ("grEyliSTed for 30 SECS", 30),
        ("Mailbox full", None),
        ("try again later", None),
        ("try again in 0 seconds", None),
        ("try again in 3 days", None),
        ("try again in 99999 hours", None),
        ("try again in 500 5 minutes", None),
        ("5 minutes of patience", None),
        ("", None),
    ],
)
def test_a_wish_is_read_where_there_is_one(text, seconds):
    assert retry_after(text) == seconds


@given(st.text())
def test_any_text_gives_a_time_up_to_a_day_or_none(text):
    found = retry_after(text)
    assert found is None or 0 < found <= 86_400


@pytest.mark.parametrize("text", ["again " * 50_000, "retry " + "x" * 300_000, "again" + " 9" * 100_000])
def test_hostile_length_costs_linear_time(text):
    started = time.thread_time()
    retry_after(text)
    assert time.thread_time() - started < 1.0
