"""Job: recipients of one message that go to one next hop together; plan() makes them from a queued message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.policy.bucket import Bucket
from relay.policy.routing import RouteFacts, choose_route
from relay.ports import QueuedMessage, QueuedRecipient
from relay.settings import RouteSettings

Limits = Callable[[str, str, str], tuple[Bucket, ...]]
"""Buckets by account, first candidate and recipient domain."""

RECIPIENTS_PER_JOB = 100  # RFC 5321 §4.5.3.1.8: every server takes at least that many


@dataclass(slots=True)
class InFlight:
    """A message in memory while jobs of it wait or run; `content` and `signature` are filled once, when needed."""

    message: QueuedMessage
    content: bytes | None
    signature: bytes | None = None
    jobs: int = 0


class Place(NamedTuple):
    """A next hop, an account, whether the mail is tried again, and the rate limits it is under."""

    queue: str
    account: str
    again: bool
    limits: tuple[Bucket, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """`route` names the ways out in order; `destination` is the recipient domain (`direct` needs it).

    It takes a token from each of `limits` when it starts.
    """

    in_flight: InFlight
    recipients: tuple[QueuedRecipient, ...]
    route: RouteSettings
    destination: str
    limits: tuple[Bucket, ...] = ()

    @property
    def message(self) -> QueuedMessage:
        return self.in_flight.message

    @property
    def next_at(self) -> float:
        """When the first of its recipients became due."""
        return min(waiting.next_at for waiting in self.recipients)

    @property
    def again(self) -> bool:
        """Whether a recipient was put off before; else it is new."""
        received_at = self.message.received_at
        return any(waiting.attempts or waiting.next_at > received_at for waiting in self.recipients)

    @property
    def place(self) -> Place:
        """Where in memory it waits; what shares a place must not take that of others."""
        return Place(self.queue, self.message.account, self.again, self.limits)

    @property
    def queue(self) -> str:
        """The next hop it waits for."""
        return next_hop(self.route.via[0], self.destination)


def next_hop(candidate: str, destination: str) -> str:
    """The domain where the candidate goes by MX, else the candidate."""
    return f"direct:{destination}" if candidate == "direct" else candidate


def _no_limits(account: str, candidate: str, domain: str) -> tuple[Bucket, ...]:
    return ()


@dataclass(slots=True)
class _Group:
    route: RouteSettings
    destination: str
    limits: tuple[Bucket, ...]
    recipients: list[QueuedRecipient] = field(default_factory=list)


def _by(route: RouteSettings, via: str) -> RouteSettings:
    """The route with the one way out an operator chose."""
    return route.model_copy(update={"via": (via,)})


def plan(
    in_flight: InFlight, due: Sequence[QueuedRecipient], routes: Sequence[RouteSettings], limits: Limits = _no_limits
) -> list[Job]:
    """Route each recipient, then put together what may travel together and is under the same rate limits."""
    message = in_flight.message
    sender_domain = message.envelope.sender_domain
    groups: dict[tuple[int, str, str, tuple[Bucket, ...]], _Group] = {}
    for waiting in due:
        domain = waiting.recipient.domain
        route = choose_route(routes, RouteFacts(message.account, sender_domain, domain, message.tags))
        chosen = id(route)
        if waiting.via:
            route = _by(route, waiting.via)
        # Only an MX delivery depends on the domain; a relay or provider takes all domains at once.
        destination = domain if "direct" in route.via else ""
        buckets = limits(message.account, route.via[0], domain)
        group = groups.setdefault((chosen, waiting.via, destination, buckets), _Group(route, destination, buckets))
        group.recipients.append(waiting)
    return [
        Job(
            in_flight,
            tuple(group.recipients[start : start + RECIPIENTS_PER_JOB]),
            group.route,
            group.destination,
            group.limits,
        )
        for group in groups.values()
        for start in range(0, len(group.recipients), RECIPIENTS_PER_JOB)
    ]
