"""How many deliveries a next hop gets at a time: quick at the start, half after a fault, never none."""

from __future__ import annotations

import random

from relay.policy.window import Window


def grown(successes: int, most: int = 20) -> Window:
    window = Window(most)
    for _ in range(successes):
        window.success()
    return window


def test_a_new_next_hop_begins_with_two():
    assert Window(20).size == 2
    assert Window(1).size == 1


def test_a_healthy_next_hop_has_every_place_after_eighteen_messages_and_no_more():
    assert grown(17).size == 19
    assert grown(18).size == 20
    assert grown(1000).size == 20


def test_a_fault_halves_it_and_never_below_one():
    window = grown(18)
    sizes = []
    for _ in range(6):
        window.fault(others=0)
        sizes.append(window.size)
    assert sizes == [10, 5, 2, 1, 1, 1]


def test_after_a_fault_it_grows_by_one_for_every_full_window_of_successes():
    window = grown(18)
    window.fault(others=0)
    sizes = []
    for _ in range(10 + 11):
        window.success()
        sizes.append(window.size)
    assert sizes == [10] * 9 + [11] * 11 + [12]


def test_a_fault_begins_the_count_of_successes_anew():
    window = grown(18)
    window.fault(others=0)
    for _ in range(9):
        window.success()
    window.fault(others=0)
    for _ in range(4):
        window.success()
    assert window.size == 5
    window.success()
    assert window.size == 6


def test_faults_of_deliveries_that_ran_together_halve_once():
    window = grown(18)
    window.fault(others=19)
    for others in range(18, -1, -1):
        window.fault(others)
    assert window.size == 10
    window.fault(others=4)
    assert window.size == 5


def test_any_course_of_events_stays_within_one_and_the_most():
    dice = random.Random(5)
    for most in (1, 2, 3, 20):
        window = Window(most)
        for _ in range(2000):
            if dice.random() < 0.7:
                window.success()
            else:
                window.fault(dice.randrange(window.size))
            assert 1 <= window.size <= most
