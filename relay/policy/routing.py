"""Routing: facts about a recipient in, the first matching route out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.settings import MatchSettings, RouteSettings

DEFAULT_ROUTE = RouteSettings(name="default", via=("direct",))


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """What a route may match on. Domains are lower case; `sender_domain` is empty for the null sender."""

    account: str
    sender_domain: str
    recipient_domain: str
    tags: tuple[str, ...] = ()


def choose_route(routes: Sequence[RouteSettings], facts: RouteFacts) -> RouteSettings:
    """The first route all of whose conditions hold; straight to the MX when none does."""
    return next((route for route in routes if matches(route.match, facts)), DEFAULT_ROUTE)


def matches(match: MatchSettings, facts: RouteFacts) -> bool:
    return (
        (not match.account or facts.account in match.account)
        and (not match.sender_domain or any_domain(match.sender_domain, facts.sender_domain))
        and (not match.recipient_domain or any_domain(match.recipient_domain, facts.recipient_domain))
        and (not match.tag or any(tag in match.tag for tag in facts.tags))
    )


def any_domain(patterns: Sequence[str], domain: str) -> bool:
    """Whether `domain` is one of them, or below one written `*.example.com`."""
    return any(
        domain.endswith(pattern[1:].lower()) if pattern.startswith("*.") else domain == pattern.lower()
        for pattern in patterns
    )
