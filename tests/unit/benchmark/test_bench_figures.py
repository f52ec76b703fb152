"""Medians, ratios and the table that is printed of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.cases import CASES
from bench.figures import Round, Spread, faster, ratio, spread, summary
from bench.rounds import Usage, order, others
from bench.table import disturbance, rates, render

TITLES = {"relay": "relay", "postfix": "Postfix"}
KEPT = CASES[0]


def rounds_of(system, *seconds, cpu=2.0, case="kept", **facts):
    return [Round(case, system, number, 1000, took, cpu, **facts) for number, took in enumerate(seconds)]


def test_rate_is_messages_over_seconds_and_cpu_is_for_a_thousand_messages():
    one = Round("kept", "relay", 0, messages=4000, seconds=2.0, cpu=3.0)
    assert (one.rate, one.cpu_per_1000) == (2000.0, 0.75)


def test_a_round_that_took_no_time_has_no_rate_instead_of_an_error():
    assert Round("kept", "relay", 0, 10, 0.0, 0.0).rate == 0.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0, 1.0, 2.0], Spread(2.0, 1.0, 3.0)), ([4.0, 1.0], Spread(2.5, 1.0, 4.0)), ([7.0], Spread(7.0, 7.0, 7.0))],
)
def test_spread_is_median_lowest_and_highest(values, expected):
    assert spread(values) == expected


def test_no_figures_have_no_spread():
    with pytest.raises(ValueError, match="no figures"):
        spread([])


def test_one_slow_round_does_not_move_the_median():
    assert summary(rounds_of("relay", 1.0, 1.0, 60.0), "kept", "relay").rate.median == 1000.0


def test_summary_takes_only_rounds_of_its_case_and_system():
    rounds = rounds_of("relay", 1.0) + rounds_of("postfix", 2.0) + rounds_of("relay", 4.0, case="single")
    assert summary(rounds, "kept", "relay").rate == Spread(1000.0, 1000.0, 1000.0)
    assert summary(rounds, "large", "relay") is None


def test_ratio_above_one_means_the_relay_has_more():
    rounds = rounds_of("relay", 1.0) + rounds_of("postfix", 2.0)
    assert ratio(rounds, "kept", lambda one: one.rate) == Spread(2.0, 2.0, 2.0)


def test_ratio_is_of_medians_and_its_range_is_of_rounds_that_ran_side_by_side():
    rounds = rounds_of("relay", 1.0, 2.0, 4.0) + rounds_of("postfix", 2.0, 2.0, 20.0)
    assert ratio(rounds, "kept", lambda one: one.rate) == Spread(1.0, 1.0, 5.0)


def test_there_is_no_ratio_where_only_one_system_ran():
    assert ratio(rounds_of("relay", 1.0), "kept", lambda one: one.rate) is None


def test_table_shows_what_disturbed_each_system_and_the_ratio_of_their_medians():
    rounds = rounds_of("relay", 0.5, cpu=1.0, others=0.04, peak=70.0)
    rounds += rounds_of("postfix", 1.0, others=0.3, peak=9.0)
    lines = render([KEPT], TITLES, rounds).splitlines()
    assert [line.split() for line in lines] == [
        [
            "case",
            "system",
            "msg/s",
            "(range)",
            "MB/s",
            "CPU",
            "s/1,000",
            "peak",
            "MB",
            "others",
            "dot",
            "p50/p99",
            "ms",
        ],
        [*KEPT.title.split(), "relay", "2,000", "(2,000-2,000)", "1.00", "70", "4%"],
        ["Postfix", "1,000", "(1,000-1,000)", "2.00", "9", "30%"],
        ["ratio", "2.00x", "(2.00-2.00)", "0.50x"],
    ]


def test_table_of_one_system_has_no_ratio():
    assert "ratio" not in render([KEPT], {"relay": "relay"}, rounds_of("relay", 1.0))


def test_table_shows_the_median_wait_for_the_final_250_where_it_is_known():
    rounds = rounds_of("relay", 1.0, 1.0, dot_ms={"p50": 1.26, "p99": 9.0})
    assert "1.3 / 9.0" in render([KEPT], TITLES, rounds)


def test_columns_stand_under_each_other():
    lines = render([KEPT], TITLES, rounds_of("relay", 0.01) + rounds_of("postfix", 1.0)).splitlines()
    assert len({line.index(word) for line, word in zip(lines[1:], ("relay", "Postfix", "ratio"), strict=True)}) == 1


def test_a_quiet_machine_is_said_in_one_line():
    assert disturbance(rounds_of("relay", 1.0, others=0.04)).count("\n") == 0


def test_a_single_busy_round_warns_against_quoting_the_rates():
    text = disturbance(rounds_of("relay", 1.0, 1.0, others=0.02) + rounds_of("postfix", 1.0, others=0.4))
    assert "40%" in text
    assert "do not quote" in text


def test_cpu_time_of_others_is_what_the_bench_did_not_use():
    before, after = Usage(10.0, 100.0, 5.0, 8.0), Usage(20.0, 115.0, 9.0, 17.0)
    assert others(before, after, cores=2) == pytest.approx(0.3)


def test_rounding_of_ticks_never_makes_the_share_of_others_negative():
    assert others(Usage(0.0, 0.0, 0.0, 0.0), Usage(1.0, 1.0, 1.01, 1.01), cores=1) == 0.0


def test_systems_take_turns_in_going_first():
    systems = ["relay", "postfix"]
    assert [order(systems, number)[0] for number in range(4)] == ["relay", "postfix", "relay", "postfix"]
    assert all(sorted(order(systems, number)) == sorted(systems) for number in range(4))


def test_long_messages_have_their_megabytes_a_second_and_short_ones_none():
    large = replace(KEPT, name="large", size=1 << 20)
    [_, row] = render([large], TITLES, rounds_of("relay", 100.0, case="large")).splitlines()
    assert row.split()[len(KEPT.title.split()) + 1 :][:3] == ["10.0", "(10.0-10.0)", "10"]
    assert rates([KEPT], TITLES, rounds_of("relay", 1.0)).rows[0][4] == ""


def test_who_was_faster_is_counted_by_pairs_that_ran_one_after_the_other():
    rounds = rounds_of("relay", 1.0, 3.0, 1.0) + rounds_of("postfix", 2.0, 2.0)
    assert faster(rounds) == (1, 2)
    assert faster(rounds_of("relay", 1.0)) == (0, 0)
