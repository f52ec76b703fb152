"""What deliveries to a next hop teach about it."""

from __future__ import annotations

import pytest

from relay.delivery import next_hops
from relay.delivery.next_hops import NextHops
from relay.mail.outcome import Deferred, Delivered, Failed, Fault, InDoubt, Outcome, Sent
from relay.mail.reply import reply

YES = Delivered(reply(250, "2.0.0", "Ok"))
DOWN = Deferred(reply(451, "4.4.1", "Connection refused"), Fault.HOST)


def visited(hops: NextHops, *outcomes: Outcome, name: str = "direct:a.example") -> None:
    with hops.visit(name) as visit:
        visit.outcomes = outcomes


@pytest.mark.parametrize(
    ("outcome", "size"),
    [
        (YES, 3),
        (Sent(reply(250, "2.0.0", "Ok")), 3),
        (Failed(reply(550, "5.1.1", "No such user")), 3),
        (Deferred(reply(451, "4.7.1", "Greylisted")), 2),
        (InDoubt(reply(451, "4.4.2", "Lost")), 2),
        (Deferred(reply(451, "4.7.8", "Key refused"), Fault.ROUTE), 2),
        (DOWN, 1),
        (Deferred(reply(421, "4.3.2", "Closing")), 1),
    ],
)
def test_only_what_the_host_did_well_or_badly_changes_its_places(outcome, size):
    hops = NextHops(20)
    visited(hops, outcome)
    assert hops.limit("direct:a.example") == size


def test_next_hops_learn_apart():
    hops = NextHops(20)
    visited(hops, DOWN, name="direct:a.example")
    visited(hops, YES, name="smarthost:b")
    assert [hops.limit(name) for name in ("direct:a.example", "smarthost:b", "direct:c.example")] == [1, 3, 2]


def test_a_host_that_closes_in_the_middle_counts_as_a_fault_whatever_it_took_before():
    hops = NextHops(20)
    visited(hops, YES, Deferred(reply(421, "4.3.2", "Closing")))
    assert hops.limit("direct:a.example") == 1


def test_an_attempt_that_was_not_made_teaches_nothing():
    hops = NextHops(20)
    with pytest.raises(RuntimeError), hops.visit("direct:a.example"):
        raise RuntimeError
    assert hops.limit("direct:a.example") == 2


def test_only_the_next_hops_used_last_are_remembered_and_those_in_use(monkeypatch):
    monkeypatch.setattr(next_hops, "REMEMBERED", 3)
    hops = NextHops(20)
    with hops.visit("busy"):
        for name in ("a", "b", "c", "d", "e"):
            visited(hops, YES, name=name)
        assert [hops.limit(name) for name in ("a", "e")] == [2, 3]
    visited(hops, YES, name="busy")
    assert len(hops._hops) <= 4
