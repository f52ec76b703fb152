"""Health: who is silent, who speaks for whom, and what is made of a message nobody reported."""

from __future__ import annotations

from typing import Any

import pytest

from relay.policy.health import REMEMBERED, SILENT_AFTER, Health, Watch

A, B = "provider:a", "provider:b"


class Heard:
    """Clock and observer."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.told: list[tuple[str, str]] = []

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def provider_silent(self, candidate: str, seconds: float) -> None:
        self.told.append(("silent", candidate))

    def provider_heard(self, candidate: str) -> None:
        self.told.append(("heard", candidate))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def health(heard: Heard) -> Health:
    return Health({A: Watch(60.0, doubt=True)}, heard, heard)


def go(health: Health, heard: Heard, *ids: Any) -> None:
    for one in ids:
        heard.at += 1
        health.took(A, str(one))


def test_who_reports_on_nothing_rests_once_enough_is_overdue(health: Health, heard: Heard) -> None:
    go(health, heard, *range(SILENT_AFTER - 1))
    heard.at += 60
    assert health.resting([A, B]) == frozenset()
    go(health, heard, "last")
    heard.at += 60
    assert health.resting([A, B]) == {A}
    assert health.silent() == {A: 60.0}
    assert heard.told == [("silent", A)]


def test_who_reports_on_what_went_later_is_not_silent_but_what_it_left_out_is_in_doubt(
    health: Health, heard: Heard
) -> None:
    go(health, heard, *range(SILENT_AFTER * 3))
    health.reported(str(SILENT_AFTER * 3 - 1))
    heard.at += 1000
    assert health.resting([A]) == frozenset()
    assert health.judge(A, "0") is False
    assert health.judge(A, str(SILENT_AFTER * 3 - 1)) is True
    assert heard.told == []


def test_a_report_does_not_speak_for_what_went_after_it(health: Health, heard: Heard) -> None:
    go(health, heard, "first", *range(SILENT_AFTER))
    health.reported("first")
    heard.at += 1000
    assert health.resting([A]) == {A}
    assert health.judge(A, "1") is False


def test_one_message_at_a_time_probes_and_its_report_ends_the_silence(health: Health, heard: Heard) -> None:
    go(health, heard, *range(SILENT_AFTER))
    heard.at += 60
    assert health.resting([A]) == {A}
    heard.at += 60
    assert [health.resting([A]) for _ in range(3)] == [frozenset(), {A}, {A}]
    go(health, heard, "probe")
    assert health.resting([A]) == {A}
    health.reported("probe")
    assert health.resting([A]) == frozenset()
    assert heard.told == [("silent", A), ("heard", A)]


def test_late_reports_of_some_do_not_end_the_silence_and_of_all_do(health: Health, heard: Heard) -> None:
    go(health, heard, *range(SILENT_AFTER))
    heard.at += 60
    assert health.resting([A])
    health.reported("0")
    assert health.resting([A])
    health.reported(str(SILENT_AFTER - 1))
    assert not health.resting([A])


def test_a_message_is_judged_when_it_is_overdue(health: Health, heard: Heard) -> None:
    """And one is enough to make its candidate silent, for it is now in doubt whether anything arrives."""
    go(health, heard, "one")
    heard.at += 20
    assert health.judge(A, "one") == 40.0
    heard.at += 40
    assert health.judge(A, "one") is False
    assert health.resting([A]) == {A}


def test_what_an_earlier_process_sent_is_waited_for_from_the_start(health: Health, heard: Heard) -> None:
    heard.at += 10
    assert health.judge(A, "unknown") == 50.0
    heard.at += 50
    assert health.judge(A, "unknown") is False


def test_who_is_not_watched_is_believed(health: Health, heard: Heard) -> None:
    health.took(B, "1")
    health.reported("1")
    heard.at += 1000
    assert health.judge(B, "1") is True
    assert health.owes_report(B) is None
    assert health.owes_report(A) == 60.0


def test_who_is_watched_for_failover_only_owes_nothing(heard: Heard) -> None:
    health = Health({A: Watch(60.0)}, heard, heard)
    assert health.owes_report(A) is None


def test_an_operator_ends_the_silence(health: Health, heard: Heard) -> None:
    go(health, heard, *range(SILENT_AFTER))
    heard.at += 60
    health.resting([A])
    health.resume(A)
    assert health.resting([A]) == frozenset()
    assert heard.told[-1] == ("heard", A)


def test_watching_ends_and_begins_with_the_configuration(health: Health, heard: Heard) -> None:
    go(health, heard, *range(SILENT_AFTER))
    heard.at += 60
    health.resting([A])
    health.reconfigure({B: Watch(5.0)})
    assert heard.told == [("silent", A), ("heard", A)]
    assert health.silent() == {}
    health.reconfigure({B: Watch(9.0, doubt=True)})
    assert health.owes_report(B) == 9.0


def test_memory_is_bounded(health: Health, heard: Heard) -> None:
    for number in range(REMEMBERED * 2 + 10):
        health.took(A, str(number))
    watched = health._watched[A]
    assert len(watched.fresh) == REMEMBERED
    heard.at += 61
    health.resting([A])
    go(health, heard, *(f"b{number}" for number in range(50)))
    heard.at += 61
    health.resting([A])
    assert len(watched.overdue) <= REMEMBERED
