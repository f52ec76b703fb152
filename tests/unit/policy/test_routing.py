"""Routes: the first whose conditions all hold."""

from __future__ import annotations

import pytest

from relay.policy.routing import DEFAULT_ROUTE, RouteFacts, choose_route, matches
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


def test_the_null_sender_matches_no_sender_domain():
    assert not matches(MatchSettings(sender_domain=("*.example", "b.example")), RouteFacts("", "", "d.example"))
