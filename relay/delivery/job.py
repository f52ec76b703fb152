"""Job: recipients of one message that go to one next hop together; plan() makes them from a queued message."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from relay.policy.bucket import Bucket
from relay.policy.routing import RouteFacts, choose_route, in_turn, ready_first, takes_sender
from relay.ports import Doubt, QueuedMessage, QueuedRecipient
from relay.settings import RouteSettings

Pending = dict[int, QueuedRecipient]
"""Recipients of a job that are yet to be settled, by index."""

Limits = Callable[[str, str, str], tuple[Bucket, ...]]
"""Buckets by account, first candidate and recipient domain."""

RECIPIENTS_PER_JOB = 100  # RFC 5321 §4.5.3.1.8: every server takes at least that many


class Seen(NamedTuple):
    """Of a long body: whether all octets are ASCII, and the last two CRLF."""

    ascii: bool
    ends_line: bool


@dataclass(slots=True)
class InFlight:
    """A message in memory while jobs of it wait or run; `signature` and `seen` are filled once, when needed.

    `looking` is held by the job that fills `seen`. `due_again`: when the first of those that were put off becomes due.
    """

    message: QueuedMessage
    content: bytes | None
    signature: bytes | None = None
    seen: Seen | None = None
    looking: asyncio.Lock | None = None
    jobs: int = 0
    due_again: float = math.inf


class Place(NamedTuple):
    """A next hop, an account, whether a recipient was put off before, its rate limits, and its priority."""

    queue: str
    account: str
    again: bool
    limits: tuple[Bucket, ...] = ()
    priority: int = 0


@dataclass(slots=True, eq=False)
class Job:
    """`route` names the ways out in order; `destination` is the recipient domain (`direct` needs it).

    It takes a token from each of `limits` when it starts. `awaits`: the candidate that took it and owes a report.
    `doubt`: it may have been sent already, and is asked about, or sent there again as the same call.
    `place` is where in memory it waits, for the next hop `queue`; what shares a place must not take that of others.
    """

    in_flight: InFlight
    recipients: tuple[QueuedRecipient, ...]
    route: RouteSettings
    destination: str
    limits: tuple[Bucket, ...] = ()
    awaits: str = ""
    doubt: Doubt | None = None
    message: QueuedMessage = field(init=False)
    via: tuple[str, ...] = field(init=False)
    queue: str = field(init=False)
    place: Place = field(init=False)

    def __post_init__(self) -> None:
        message = self.message = self.in_flight.message
        self.via = self.route.via
        self.queue = next_hop(self.via[0], self.destination)
        since, again = message.since, False
        for waiting in self.recipients:
            again = again or waiting.attempts > 0 or waiting.next_at > since
        self.place = Place(self.queue, message.account, again, self.limits, message.envelope.priority or 0)

    @property
    def next_at(self) -> float:
        """When the first of its recipients became due."""
        return min(waiting.next_at for waiting in self.recipients)


def next_hop(candidate: str, destination: str) -> str:
    """The domain where the candidate goes by MX, else the candidate."""
    return f"direct:{destination}" if candidate == "direct" else candidate


def _no_limits(account: str, candidate: str, domain: str) -> tuple[Bucket, ...]:
    return ()


@dataclass(slots=True)
class _Group:
    recipients: list[QueuedRecipient]
    route: RouteSettings
    destination: str
    limits: tuple[Bucket, ...]
    awaits: str
    doubt: Doubt | None

    def jobs(self, in_flight: InFlight) -> Iterator[Job]:
        """As many as their number takes."""
        for start in range(0, len(self.recipients), RECIPIENTS_PER_JOB):
            some = tuple(self.recipients[start : start + RECIPIENTS_PER_JOB])
            yield Job(in_flight, some, self.route, self.destination, self.limits, self.awaits, self.doubt)


def _by(route: RouteSettings, via: tuple[str, ...]) -> RouteSettings:
    return route if via == route.via else route.model_copy(update={"via": via})


def _in_turn(
    route: RouteSettings,
    facts: RouteFacts,
    message_id: str,
    limits: Limits,
    sender_domains: Mapping[str, Sequence[str]],
) -> tuple[str, ...]:
    """Where nobody takes this sender's mail all stay, for the attempt to say so."""
    via = in_turn(route, facts, message_id)
    if sender_domains:
        via = tuple(one for one in via if takes_sender(one, facts.sender_domain, sender_domains)) or via
    if route.overflow and len(via) > 1:

        def wait(candidate: str) -> float:
            return max((one.wait() for one in limits(facts.account, candidate, facts.recipient_domain)), default=0.0)

        via = ready_first(via, wait)
    return via


def plan(
    in_flight: InFlight,
    due: Sequence[QueuedRecipient],
    routes: Sequence[RouteSettings],
    limits: Limits = _no_limits,
    sender_domains: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[Job]:
    """Route each recipient, then put together what may travel together and is under the same rate limits.

    `sender_domains`: candidates that take these senders' mail alone.
    """
    message = in_flight.message
    sender_domain = message.envelope.sender_domain
    groups: dict[tuple[object, ...], _Group] = {}
    via: tuple[str, ...]
    buckets: tuple[Bucket, ...]
    for waiting in due:
        domain = waiting.recipient.domain
        facts = RouteFacts(message.account, sender_domain, domain, message.tags)
        route = choose_route(routes, facts)
        if waiting.doubt is not None:
            # To who may have it, whatever way it is to go then.
            via = (waiting.doubt.candidate,)
        else:
            via = (waiting.via,) if waiting.via else _in_turn(route, facts, message.id, limits, sender_domains)
        buckets = limits(message.account, via[0], domain)
        # Only an MX delivery depends on the domain; a relay or provider takes all domains at once.
        destination = domain if "direct" in via else ""
        key: tuple[object, ...] = (id(route), via, destination, buckets, waiting.awaits)
        if waiting.doubt is not None:
            # All of the lost call together, or it would be another call.
            key = (destination, waiting.doubt)
        group = groups.get(key)
        if group is None:
            groups[key] = _Group([waiting], _by(route, via), destination, buckets, waiting.awaits, waiting.doubt)
            continue
        if group.limits != buckets:
            group.limits = tuple(dict.fromkeys((*group.limits, *buckets)))
        group.recipients.append(waiting)
    jobs: list[Job] = []
    for group in groups.values():
        jobs += group.jobs(in_flight)
    return jobs
