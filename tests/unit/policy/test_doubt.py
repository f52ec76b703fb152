"""What an answer about a lost call leads to: believed, asked again, or left to the operator."""

from __future__ import annotations

from itertools import pairwise

import pytest

from relay.policy.doubt import LONGEST, Next, Patience, after_answer
from relay.ports import Doubt

SINCE = 1_800_000_000.0
PATIENCE = Patience(after=60, trust=1800, times=10)
NEW = Doubt("provider:a", SINCE)


def asked_until_the_end(*, found: int = 0, complete: bool = True, patience: Patience = PATIENCE) -> list[float]:
    """Ages at which it was asked, and -1 where it is sent again then, -2 where it is held."""
    doubt, age, ages = NEW, patience.after, list[float]()
    while True:
        ages.append(age)
        then = after_answer(doubt, patience, SINCE + age, found=found, complete=complete)
        if then.doubt is None:
            return [*ages, -1 if then.none else -2]
        doubt, age = then.doubt, age + then.wait


def test_absence_is_believed_at_the_age_that_is_trusted_and_no_question_later() -> None:
    assert asked_until_the_end() == [60, 180, 420, 900, 1800, -1]


def test_absence_is_believed_after_two_answers_however_old_the_attempt_is() -> None:
    """One may come from a list that is behind, or from a clock that is ahead."""
    first = after_answer(NEW, PATIENCE, SINCE + 1_000_000, found=0, complete=True)
    assert (first.none, first.doubt) == (False, Doubt("provider:a", SINCE, asked=1, missed=1))
    assert first.doubt is not None
    assert after_answer(first.doubt, PATIENCE, SINCE + 1_000_060, found=0, complete=True) == Next(none=True)


def test_an_answer_that_says_nothing_begins_the_count_anew() -> None:
    doubt = Doubt("provider:a", SINCE, asked=1, missed=1)
    then = after_answer(doubt, PATIENCE, SINCE + 5000, found=0, complete=False)
    assert then.doubt == Doubt("provider:a", SINCE, asked=2, missed=0)


def test_who_cannot_say_is_asked_so_often_and_then_the_operator_decides() -> None:
    ages = asked_until_the_end(complete=False)
    assert ages[-1] == -2
    assert len(ages) == PATIENCE.times + 1
    assert max(after - before for before, after in pairwise(ages)) == LONGEST


@pytest.mark.parametrize("complete", [True, False])
def test_who_is_missing_beside_others_of_the_call_is_never_sent_to_again(complete: bool) -> None:
    """The call was taken: what it lists under another spelling, or not at all, is no absence."""
    then = after_answer(NEW, PATIENCE, SINCE + 60, found=2, complete=complete)
    assert then.doubt is not None
    assert then.doubt.partly
    doubt, age = then.doubt, 60.0
    while then.doubt is not None:
        doubt, age = then.doubt, age + then.wait
        then = after_answer(doubt, PATIENCE, SINCE + age, found=0, complete=True)
        assert not then.none
    assert doubt.asked == PATIENCE.times - 1


def test_the_wish_of_the_provider_makes_a_wait_longer_and_never_shorter() -> None:
    assert after_answer(NEW, PATIENCE, SINCE + 60, found=0, complete=False, wish=900).wait == 900
    assert after_answer(NEW, PATIENCE, SINCE + 60, found=0, complete=False, wish=30).wait == 120


def test_a_first_question_later_than_an_hour_is_repeated_as_late() -> None:
    slow = Patience(after=7200, trust=7200, times=5)
    assert asked_until_the_end(patience=slow) == [7200, 14_400, -1]
