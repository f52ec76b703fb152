"""Routes: the first whose conditions all hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from relay.policy.routing import DEFAULT_ROUTE, RouteFacts, choose_route, in_turn, matches, ready_first, takes_sender
from relay.settings import MatchSettings, RouteSettings

FACTS = RouteFacts("acme", "news.example", "gmail.example", ("bulk", "x"))


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({}, True),
        ({"account": ("acme",)}, True),
        ({"account": ("other", "acme")}, True),
        ({"account": ("other",)}, False),
        ({"sender_domain": ("News.Example",)}, True),
        ({"sender_domain": ("*.example",)}, True),
        ({"sender_domain": ("*.news.example",)}, False),
        ({"sender_domain": ("ews.example",)}, False),
        ({"recipient_domain": ("gmail.example", "x.example")}, True),
        ({"recipient_domain": ("*.gmail.example",)}, False),
        ({"tag": ("bulk",)}, True),
        ({"tag": ("BULK",)}, False),
        ({"tag": ("y",)}, False),
        ({"account": ("acme",), "tag": ("y",)}, False),
        ({"account": ("acme",), "sender_domain": ("news.example",), "tag": ("x",)}, True),
    ],
)
def test_a_route_matches_when_all_its_conditions_hold(match, holds):
    assert matches(MatchSettings(**match), FACTS) is holds


def test_a_subdomain_pattern_needs_the_dot():
    match = MatchSettings(recipient_domain=("*.example.com",))
    assert matches(match, RouteFacts("", "", "a.b.example.com"))
    assert not matches(match, RouteFacts("", "", "notexample.com"))
    assert not matches(match, RouteFacts("", "", "example.com"))


def test_the_first_match_wins_and_without_one_mail_goes_straight_to_the_mx():
    first = RouteSettings(name="first", match=MatchSettings(account=("other",)), via=("capture",))
    second = RouteSettings(name="second", via=("capture",))
    third = RouteSettings(name="third", match=MatchSettings(account=("acme",)), via=("direct",))
    assert choose_route([first, second, third], FACTS) is second
    assert choose_route([third, second], FACTS) is third
    assert choose_route([first], FACTS) is DEFAULT_ROUTE
    assert DEFAULT_ROUTE.via == ("direct",)


@pytest.mark.parametrize(
    ("domain", "provider"),
    [
        ("gmail.com", "google"),
        ("GoogleMail.com", "google"),
        ("hotmail.fr", "microsoft"),
        ("live.co.uk", "microsoft"),
        ("yahoo.com.au", "yahoo"),
        ("yahoo.example.fr", ""),
        ("live.evil.fr", ""),
        ("hotmail.example", ""),
        ("notgmail.com", ""),
        ("mail.gmail.com", ""),
        ("web.de", "gmx"),
    ],
)
def test_a_mailbox_provider_is_known_by_the_domains_of_its_own(domain, provider):
    facts = RouteFacts("", "", domain)
    assert matches(MatchSettings(mailbox_provider=("google",)), facts) is (provider == "google")
    assert matches(MatchSettings(mailbox_provider=("microsoft", "yahoo", "gmx")), facts) is (
        provider in ("microsoft", "yahoo", "gmx")
    )


def test_a_candidate_takes_the_mail_of_its_senders():
    own = {"provider:a": ("shop.example", "*.shop.example")}
    taken = {
        domain: takes_sender("provider:a", domain, own) for domain in ("Shop.example", "n.shop.example", "x.example")
    }
    assert taken == {"Shop.example": True, "n.shop.example": True, "x.example": False}
    assert takes_sender("provider:a", "", own)
    assert takes_sender("provider:b", "x.example", own)


def test_the_first_that_need_not_wait_goes_first_and_the_rest_stay_in_order():
    waits = {"a": 3.0, "b": 0.0, "c": 0.0}
    assert ready_first(("a", "b", "c"), waits.__getitem__) == ("b", "a", "c")
    assert ready_first(("c", "a", "b"), waits.__getitem__) == ("c", "a", "b")
    assert ready_first(("a",), waits.__getitem__) == ("a",)


def test_the_null_sender_matches_no_sender_domain():
    assert not matches(MatchSettings(sender_domain=("*.example", "b.example")), RouteFacts("", "", "d.example"))


VIA = ("smarthost:a", "smarthost:b", "smarthost:c")
MANY = 6000


def balanced(balance: str, via: tuple[str, ...] = VIA, **share: float) -> RouteSettings:
    return RouteSettings(name="r", via=via, balance=balance, share={f"smarthost:{k}": v for k, v in share.items()})


def firsts(route: RouteSettings) -> Counter[str]:
    return Counter(in_turn(route, FACTS, f"{number:016x}")[0][-1] for number in range(MANY))


def test_candidates_are_asked_as_written_where_nothing_is_balanced():
    assert in_turn(RouteSettings(name="r", via=VIA), FACTS, "1") == VIA


def test_messages_are_spread_by_share():
    """Within five standard deviations."""
    found = firsts(balanced("message", a=6, b=3))
    assert {name: pytest.approx(found[name], abs=5 * (MANY * 0.24) ** 0.5) for name in "abc"} == {
        "a": MANY * 0.6,
        "b": MANY * 0.3,
        "c": MANY * 0.1,
    }


def test_no_share_at_all_is_a_last_resort():
    route = balanced("message", b=0)
    assert all(in_turn(route, FACTS, str(number))[-1] == "smarthost:b" for number in range(200))


def test_a_message_has_the_same_turn_on_every_attempt():
    route = balanced("message")
    assert {in_turn(route, FACTS, "1") for _ in range(20)} == {in_turn(route, FACTS, "1")}


@pytest.mark.parametrize(
    ("balance", "same", "other"),
    [
        ("recipient_domain", {"sender_domain": "x.example"}, "recipient_domain"),
        ("sender_domain", {"recipient_domain": "x.example"}, "sender_domain"),
    ],
)
def test_a_domain_keeps_its_candidate(balance, same, other):
    route = balanced(balance)
    assert in_turn(route, FACTS, "1") == in_turn(route, replace(FACTS, **same), "2")
    spread = {in_turn(route, replace(FACTS, **{other: f"{n}.example"}), "1")[0] for n in range(100)}
    assert spread == set(VIA)


def test_who_is_taken_out_moves_nobody_elses_mail():
    both, fewer = balanced("message"), balanced("message", VIA[:2])
    for number in range(300):
        turn = in_turn(both, FACTS, str(number))
        assert in_turn(fewer, FACTS, str(number)) == tuple(name for name in turn if name in VIA[:2])
