"""What deliveries to a next hop teach about it."""

from __future__ import annotations

import random

import pytest
from delivery_kit import Heard, ManualClock

from relay.delivery import next_hops
from relay.delivery.next_hops import NextHops
from relay.mail.outcome import Deferred, Delivered, Failed, Fault, InDoubt, Outcome, Sent
from relay.mail.reply import reply
from relay.settings import DeliverySettings, Settings, SiteSettings

YES = Delivered(reply(250, "2.0.0", "Ok"))
DOWN = Deferred(reply(451, "4.4.1", "Connection refused"), Fault.HOST)


def next_hops_of(heard: Heard | None = None, clock: ManualClock | None = None, faults: int = 3) -> NextHops:
    delivery = DeliverySettings(destination_concurrency=20, dead_host_faults=faults)
    sites = {"small": SiteSettings(mx=("*.small.example",), concurrency=3), "google": SiteSettings(concurrency=40)}
    return NextHops(Settings(delivery=delivery, site=sites), clock or ManualClock(), random.Random(1), heard or Heard())


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
    hops = next_hops_of()
    visited(hops, outcome)
    assert hops.limit("direct:a.example") == size


def test_next_hops_learn_apart():
    hops = next_hops_of()
    visited(hops, DOWN, name="direct:a.example")
    visited(hops, YES, name="smarthost:b")
    assert [hops.limit(name) for name in ("direct:a.example", "smarthost:b", "direct:c.example")] == [1, 3, 2]


def test_a_host_that_closes_in_the_middle_counts_as_a_fault_whatever_it_took_before():
    hops = next_hops_of()
    visited(hops, YES, Deferred(reply(421, "4.3.2", "Closing")))
    assert hops.limit("direct:a.example") == 1


def test_what_a_host_says_of_one_recipient_does_not_make_it_dead():
    """421 halves its places; only sessions it did not give keep mail from dialling it."""
    hops = next_hops_of(faults=1)
    for _ in range(5):
        visited(hops, Deferred(reply(421, "4.7.28", "Too much from you")))
    assert hops.open() == {}


def test_domains_with_the_same_hosts_share_places_and_breaker():
    hops = next_hops_of(faults=2)
    for name in ("direct:a.example", "direct:b.example"):
        hops.goes_to(name, "mx:shared")
        visited(hops, DOWN, name=name)
    assert [hops.hosts(f"direct:{name}.example") for name in "abc"] == ["mx:shared", "mx:shared", "direct:c.example"]
    assert hops.limit("mx:shared") == 20  # open: what waits is put off without dialling
    assert list(hops.open()) == ["mx:shared"]
    assert hops.waits(["direct"], "b.example").keys() == {"direct"}
    assert hops.waits(["direct"], "c.example") == {}
    hops.goes_to("direct:b.example", "")
    assert hops.waits(["direct"], "b.example") == {}


def test_a_site_has_the_places_it_is_given():
    hops = next_hops_of()
    for name, most in (("mx:small", 3), ("mx:google", 40), ("mx:other", 20)):
        for _ in range(100):
            visited(hops, YES, name=name)
        assert hops.limit(name) == most


def test_an_attempt_that_was_not_made_teaches_nothing():
    hops = next_hops_of()
    with pytest.raises(RuntimeError), hops.visit("direct:a.example"):
        raise RuntimeError
    assert hops.limit("direct:a.example") == 2


def test_only_the_next_hops_used_last_are_remembered_and_those_in_use(monkeypatch):
    monkeypatch.setattr(next_hops, "REMEMBERED", 3)
    hops = next_hops_of()
    with hops.visit("busy"):
        for name in ("a", "b", "c", "d", "e"):
            visited(hops, YES, name=name)
        assert [hops.limit(name) for name in ("a", "e")] == [2, 3]
    visited(hops, YES, name="busy")
    assert len(hops._hops) <= 4


def opened(hops: NextHops, name: str = "direct:a.example") -> None:
    for _ in range(3):
        visited(hops, DOWN, name=name)


def test_one_that_opens_and_closes_is_told_of_and_begins_anew():
    heard, clock = Heard(), ManualClock()
    hops = next_hops_of(heard, clock)
    opened(hops)
    assert list(hops.open()) == ["direct:a.example"]
    assert 25 < hops.wait("direct:a.example") < 35
    assert hops.wait("direct:b.example") == 0.0
    answer = hops.put_off("direct:a.example")
    assert answer.reply.temporary
    assert str(answer.reply).endswith("it said last: 451 4.4.1 Connection refused")
    assert list(hops.waits(["smarthost:b", "direct"], "a.example")) == ["direct"]
    clock.time += 35
    visited(hops, YES)
    assert heard.hops == [("opened", "direct:a.example"), ("closed", "direct:a.example")]
    assert (hops.open(), hops.limit("direct:a.example")) == ({}, 2)
    for _ in range(3):
        visited(hops, YES)
    assert hops.limit("direct:a.example") == 5


def test_jobs_of_an_open_one_are_not_held_up_for_they_do_not_dial_it():
    hops = next_hops_of()
    opened(hops)
    assert hops.limit("direct:a.example") == 20


def test_recipients_taken_in_the_same_attempt_show_that_it_is_not_dead():
    hops = next_hops_of()
    for _ in range(10):
        visited(hops, YES, Deferred(reply(421, "4.3.2", "Closing")))
    assert hops.open() == {}


def test_the_operator_can_close_one():
    heard = Heard()
    hops = next_hops_of(heard)
    opened(hops)
    hops.close("direct:a.example")
    hops.close("direct:never-seen.example")
    assert hops.wait("direct:a.example") == 0.0
    assert heard.hops == [("opened", "direct:a.example"), ("closed", "direct:a.example")]


def test_one_nobody_has_had_mail_for_is_not_shown_as_open_for_ever():
    heard, clock = Heard(), ManualClock()
    hops = next_hops_of(heard, clock)
    opened(hops)
    clock.time += 700
    opened(hops, "direct:b.example")
    assert list(hops.open()) == ["direct:b.example"]
    assert heard.hops[-2:] == [("closed", "direct:a.example"), ("opened", "direct:b.example")]


def test_one_that_is_forgotten_while_open_is_told_of_as_closed(monkeypatch):
    monkeypatch.setattr(next_hops, "REMEMBERED", 2)
    heard = Heard()
    hops = next_hops_of(heard)
    opened(hops)
    for name in ("b", "c"):
        visited(hops, YES, name=name)
    assert hops.open() == {}
    assert heard.hops[-1] == ("closed", "direct:a.example")


@pytest.mark.parametrize(("connections", "workers", "most"), [(3, 1, 3), (3, 2, 1), (3, 8, 1), (9, 2, 4), (900, 1, 20)])
def test_workers_share_the_connections_a_smarthost_takes(connections, workers, most):
    tables = {"smarthost": {"b": {"host": "b.example", "connections": connections}, "c": {"host": "c.example"}}}
    given = Settings.model_validate({"server": {"workers": workers}, **tables})
    hops = NextHops(given, ManualClock(), random.Random(1), Heard())
    for _ in range(40):
        visited(hops, YES, name="smarthost:b")
        visited(hops, YES, name="smarthost:c")
    assert (hops.limit("smarthost:b"), hops.limit("smarthost:c")) == (most, 20)
