"""What the command line of the bench selects."""

from __future__ import annotations

import sys

import pytest

from bench.__main__ import PARTS, _options
from bench.cases import CASES, MORE_CASES


@pytest.fixture
def options(monkeypatch):
    """The options of a command line."""

    def of(*words):
        monkeypatch.setattr(sys, "argv", ["bench", *words])
        return _options()

    return of


def test_alone_it_runs_the_usual_cases_and_no_part(options):
    chosen = options()
    assert chosen.cases == CASES
    assert chosen.parts == ()


def test_all_is_every_case_and_every_part_with_a_million_queued_and_five_million_finished(options):
    chosen = options("--all")
    assert chosen.cases == CASES + MORE_CASES
    assert chosen.parts == PARTS
    assert (chosen.queued, chosen.history) == (1_000_000, 5_000_000)


def test_a_part_alone_runs_no_case_and_a_case_beside_it_is_run_too(options):
    assert options("--part", "idle").cases == ()
    both = options("--part", "idle", "--only", "huge")
    assert [case.name for case in both.cases] == ["huge"]
    assert both.parts == ("idle",)


def test_quick_is_one_round_of_few_messages_and_a_hundredth_of_queue_and_history(options):
    chosen = options("--all", "--quick")
    assert (chosen.rounds, chosen.queued, chosen.history) == (1, 10_000, 50_000)
    assert chosen.kept.messages < CASES[0].messages / 5
    assert options("--quick", "--queued", "777").queued == 777


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--part", "speed"), "there is no 'speed'; there are: latency"),
        (("--feature", "magic"), "there is no 'magic'; there are: dkim"),
        (("--only", "tiny"), "no case 'tiny'"),
    ],
)
def test_a_name_that_is_not_known_is_refused_with_those_that_are(options, capsys, words, problem):
    with pytest.raises(SystemExit) as ended:
        options(*words)
    assert ended.value.code == 2
    assert problem in capsys.readouterr().err
