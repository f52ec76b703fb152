"""How often a worker counts its queue, and how it keeps up with what it has to forget."""

from __future__ import annotations

import pytest

from relay.chores import Pace, pause_after


def test_a_queue_is_counted_every_five_seconds():
    assert pause_after(0.0) == pause_after(0.1) == 5.0


def test_counting_a_long_queue_takes_a_fiftieth_of_the_time_however_long_it_is():
    assert [pause_after(seconds) for seconds in (1.0, 10.0)] == [50.0, 500.0]


STRETCH = 200


def tidied(intake: float, old: float, seconds: float, stretch_takes: float) -> tuple[float, float]:
    """What is left of `old` messages, when so many a second come in and as many become old; and the share of time."""
    pace, time, busy = Pace(), 0.0, 0.0
    came_in = 0.0
    while time < seconds:
        forgotten = min(STRETCH, int(old))
        took = stretch_takes * (0.1 + 0.9 * forgotten / STRETCH)
        rest = pace.rest(forgotten, int(came_in), took, more=forgotten == STRETCH)
        passed = took + rest
        time, busy = time + passed, busy + took
        came_in = intake * passed
        old += came_in - forgotten
    return old, busy / time


@pytest.mark.parametrize("intake", [1, 10, 500, 1_000, 3_000, 10_000])
@pytest.mark.parametrize("stretch_takes", [0.002, 0.015], ids=["idle disk", "busy disk"])
def test_what_is_forgotten_keeps_up_with_what_comes_in(intake, stretch_takes):
    """Of what comes in for an hour at most a few seconds' worth waits, or what an hour's slow trickle leaves."""
    left, _ = tidied(intake, old=0, seconds=3600, stretch_takes=stretch_takes)
    assert left <= max(2 * STRETCH, intake * 2)


def test_a_history_that_was_made_shorter_is_forgotten_in_a_fifth_of_the_time():
    """Millions at once, while mail comes in: the rate of that goes first, the rest takes its time."""
    left, share = tidied(intake=0, old=2_000_000, seconds=60, stretch_takes=0.01)
    assert share == pytest.approx(0.2, abs=0.01)
    assert 2_000_000 - left == pytest.approx(60 / 0.05 * STRETCH, rel=0.02)
    left, share = tidied(intake=1_000, old=2_000_000, seconds=60, stretch_takes=0.01)
    assert left < 2_000_000
    assert share < 0.25


def test_where_nothing_is_old_it_looks_once_a_minute():
    pace = Pace()
    pauses = [pace.rest(0, 0, 0.001, more=False) for _ in range(12)]
    assert pauses[0] == 0.2
    assert sum(pauses[:9]) < 120
    assert pauses[-1] == 60.0
