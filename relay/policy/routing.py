"""Routing: facts about a recipient in, the first matching route out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b

from relay.mail.frozen import frozen
from relay.policy.mailbox_providers import mailbox_provider_of
from relay.settings import MatchSettings, RouteSettings

DEFAULT_ROUTE = RouteSettings(name="default", via=("direct",))


@frozen
class RouteFacts:
    """What a route may match on. Domains are lower case; `sender_domain` is empty for the null sender."""

    account: str
    sender_domain: str
    recipient_domain: str
    tags: tuple[str, ...] = ()


def choose_route(routes: Sequence[RouteSettings], facts: RouteFacts) -> RouteSettings:
    """The first route all of whose conditions hold; straight to the MX when none does."""
    for route in routes:
        if matches(route.match, facts):
            return route
    return DEFAULT_ROUTE


def in_turn(route: RouteSettings, facts: RouteFacts, message_id: str) -> tuple[str, ...]:
    """The route's candidates, the one whose turn it is first, those after it as if it were not there.

    The same for the same message, or domain, on every attempt and in every worker. Weighted rendezvous hashing: a
    candidate that comes or goes moves nobody else's mail. Source: Thaler and Ravishankar 1998; the weights:
    Schindelhauer and Schomaker 2005, "logarithmic method".
    """
    if route.balance == "order":
        return route.via
    key = {
        "message": message_id,
        "recipient_domain": facts.recipient_domain,
        "sender_domain": facts.sender_domain,
    }[route.balance]
    return tuple(sorted(route.via, key=lambda name: _rank(f"{key} {name}", route.share.get(name, 1.0))))


def takes_sender(candidate: str, sender_domain: str, own: Mapping[str, Sequence[str]]) -> bool:
    """Whether a candidate takes mail from a sender of that domain. A null sender has none, and goes by any."""
    domains = own.get(candidate)
    return not domains or not sender_domain or any_domain(domains, sender_domain.lower())


def ready_first(via: tuple[str, ...], wait: Callable[[str], float]) -> tuple[str, ...]:
    """Before all others the first that need not wait; as they are where all must."""
    ready = next((candidate for candidate in via if not wait(candidate)), None)
    if ready is None or ready == via[0]:
        return via
    return (ready, *(candidate for candidate in via if candidate != ready))


def _rank(words: str, share: float) -> float:
    """The less, the earlier."""
    drawn = int.from_bytes(blake2b(words.encode("utf-8", "surrogatepass"), digest_size=7).digest()) + 1
    return -math.log(drawn / (2**56 + 1)) / share if share else math.inf


def matches(match: MatchSettings, facts: RouteFacts) -> bool:
    return (
        (not match.account or facts.account in match.account)
        and (not match.sender_domain or any_domain(match.sender_domain, facts.sender_domain))
        and (not match.recipient_domain or any_domain(match.recipient_domain, facts.recipient_domain))
        and (
            not match.mailbox_provider or mailbox_provider_of(facts.recipient_domain.lower()) in match.mailbox_provider
        )
        and (not match.tag or any(tag in match.tag for tag in facts.tags))
    )


def any_domain(patterns: Sequence[str], domain: str) -> bool:
    """Whether `domain` is one of them, or below one written `*.example.com`."""
    return any(
        domain.endswith(pattern[1:].lower()) if pattern.startswith("*.") else domain == pattern.lower()
        for pattern in patterns
    )
