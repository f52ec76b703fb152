"""Metrics: what the relay counts, each name once, every label bounded.

In: facts as plain values. Out: the Prometheus text exposition. docs/reference/metrics.md lists each name and a test
compares the two. With PROMETHEUS_MULTIPROC_DIR set before the process starts, any worker's exposition covers all
workers. A label value beyond the first 200 of a metric counts as `other`, so no peer can grow our memory.
Never raises for a fact.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from relay.mail.event import Event, EventKind
from relay.mail.lifecycle import State
from relay.mail.reply import Reply

MOST_LABEL_VALUES: Final = 200
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SHORT: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_GONE: Final = math.inf  # a gauge for something that is no more; several processes cannot take a series away
_WAITING: Final = tuple(state.name.lower() for state in State if not state.terminal)
_FINAL: Final = {
    EventKind.SENT: "sent",
    EventKind.DELIVERED: "delivered",
    EventKind.BOUNCED: "bounced",
    EventKind.EXPIRED: "expired",
    EventKind.CANCELLED: "cancelled",
}

Direction = Literal["in", "out"]
Result = Literal["delivered", "sent", "deferred", "failed", "in_doubt"]


class _Labelled:
    """The labelled children of one metric, bound once and kept; past the cap every value is `other`."""

    __slots__ = ("_children", "_metric", "_other")

    def __init__(self, metric: Any, labels: int) -> None:
        self._metric = metric
        self._other = ("other",) * labels
        self._children: dict[tuple[str, ...], Any] = {} if labels else {(): metric}

    def __call__(self, *values: str) -> Any:
        child = self._children.get(values)
        if child is None:
            if len(self._children) >= MOST_LABEL_VALUES:
                return self._metric.labels(*self._other)
            child = self._children[values] = self._metric.labels(*values)
        return child


class Metrics:
    """All metrics of one process, on the registry given."""

    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        self._registry = registry
        self._multiprocess = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        self._define_doors()
        self._define_queue()
        self._define_deliveries()
        self._gauge("relay_build_info", "Always 1; the label tells the running version", "livemax", "version")(
            version
        ).set(1)
        if not self._multiprocess:
            ProcessCollector(registry=registry)

    def exposition(self) -> bytes:
        """The text format, version 0.0.4 (`CONTENT_TYPE`). Takes a few milliseconds."""
        registry = self._registry
        if self._multiprocess:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # the library has no type for it
        return generate_latest(_Shown(registry))

    # --- doors ---------------------------------------------------------------------------------------------

    def _define_doors(self) -> None:
        self._accepted = self._counter("relay_accepted_total", "Messages answered 250, after the commit", "listener")
        self._accepted_recipients = self._counter(
            "relay_accepted_recipients_total", "Recipients of the messages answered 250", "listener"
        )
        self._accepted_bytes = self._counter(
            "relay_accepted_bytes_total", "Octets of the messages answered 250", "listener"
        )
        self._repeated = self._counter(
            "relay_repeated_total", "Messages that a client sent again and that were stored already", "listener"
        )
        self._final_dot = self._histogram(
            "relay_final_dot_seconds", "From the last octet of a message to its 250", _SHORT, "listener"
        )
        self._rejected = self._counter("relay_rejected_total", "4xx and 5xx replies given", "listener", "reason")
        self._recognised = self._counter(
            "relay_recognised_total", "Sessions of devices and local users that need no password", "listener", "client"
        )
        self._tolerated = self._counter(
            "relay_tolerated_total", "What clients did wrong and was tolerated, by what it was", "listener", "what"
        )
        self._open = self._gauge("relay_connections", "Open client connections", "livesum", "listener")
        self._opened = self._counter("relay_connections_opened_total", "Client connections opened", "listener")
        self._auth = self._counter("relay_auth_total", "Authentications by result", "listener", "result")
        self._tls = self._counter(
            "relay_tls_sessions_total", "Sessions by TLS version, `none` without", "direction", "version"
        )
        self._expiry = self._gauge(
            "relay_certificate_expiry_timestamp_seconds", "When a served certificate expires", "livemin", "file"
        )
        self._certificates: Mapping[str, float] = {}
        self._http = self._counter("relay_http_requests_total", "HTTP requests answered", "interface", "status")

    def session_opened(self, listener: str) -> None:
        self._open(listener).inc()
        self._opened(listener).inc()

    def session_closed(self, listener: str) -> None:
        self._open(listener).dec()

    def tls_session(self, direction: Direction, version: str | None) -> None:
        """A TLS version as `ssl` names it; None for a session that ended or delivered without."""
        self._tls(direction, version or "none").inc()

    def certificates(self, expiry: Mapping[str, float]) -> None:
        """All that are served, by file, with the seconds since the epoch at which they expire."""
        for file in self._certificates.keys() - expiry.keys():
            self._expiry(file).set(_GONE)
        for file, seconds in expiry.items():
            self._expiry(file).set(seconds)
        self._certificates = expiry

    def authenticated(self, listener: str, *, success: bool) -> None:
        self._auth(listener, "ok" if success else "failed").inc()

    def rejected(self, listener: str, answer: Reply) -> None:
        self._rejected(listener, str(answer.status)).inc()

    def recognised(self, listener: str, client: str) -> None:
        self._recognised(listener, client).inc()

    def tolerated(self, listener: str, what: str) -> None:
        self._tolerated(listener, what).inc()

    def accepted(self, listener: str, recipients: int, octets: int, seconds: float) -> None:
        """One message answered 250, `seconds` after its last octet came in."""
        self._accepted(listener).inc()
        self._accepted_recipients(listener).inc(recipients)
        self._accepted_bytes(listener).inc(octets)
        self._final_dot(listener).observe(seconds)

    def repeated(self, listener: str) -> None:
        self._repeated(listener).inc()

    def http_request(self, interface: str, status: int) -> None:
        self._http(interface, str(status)).inc()

    # --- spool ---------------------------------------------------------------------------------------------

    def _define_queue(self) -> None:
        self._commit = self._histogram("relay_commit_seconds", "One group commit of the spool, fsync included", _SHORT)
        self._commit_writes = self._counter("relay_commit_writes_total", "Writes that shared those commits")
        self._store_failures = self._counter("relay_store_failures_total", "Commits that failed; the client got 451")
        self._messages = self._gauge("relay_queue_messages", "Messages with a recipient that is not final", "livesum")
        self._recipients = self._gauge("relay_queue_recipients", "Recipients that are not final", "livesum", "state")
        self._oldest = self._gauge("relay_queue_oldest_seconds", "Age of the oldest message in the queue", "livemax")
        for state in _WAITING:
            self._recipients(state)

    def commit(self, seconds: float, writes: int) -> None:
        self._commit().observe(seconds)
        self._commit_writes().inc(writes)

    def store_failed(self) -> None:
        self._store_failures().inc()

    def queue(self, messages: int, recipients: Mapping[str, int], oldest_seconds: float) -> None:
        """The depth of this worker's queue; `recipients` by state (`queued`, `deferred`, `held`), absent means 0."""
        self._messages().set(messages)
        self._oldest().set(oldest_seconds)
        for state in _WAITING:
            self._recipients(state).set(recipients.get(state, 0))

    # --- delivery ------------------------------------------------------------------------------------------

    def _define_deliveries(self) -> None:
        self._deliveries = self._counter(
            "relay_deliveries_total", "Recipients tried, by what came of it", "transport", "outcome"
        )
        self._delivery = self._histogram(
            "relay_delivery_seconds", "One attempt, from dialling to its last answer", _LONG, "transport"
        )
        self._finished = self._counter("relay_finished_recipients_total", "Recipients that became final", "state")
        self._news = self._counter("relay_provider_events_total", "What providers told later, once each", "kind")
        self._callbacks = self._counter("relay_callbacks_total", "Callbacks of providers", "provider", "result")
        self._polls = self._counter("relay_polls_total", "Times providers were asked for news", "provider", "result")
        self._questions = self._counter(
            "relay_questions_total",
            "Recipients in doubt whose provider was asked, by its answer",
            "transport",
            "answer",
        )
        self._suppressed = self._counter(
            "relay_suppressed_total", "Recipients refused because they are on a suppression list", "reason"
        )
        self._notices = self._counter("relay_notices_total", "Delivery status notifications queued")
        self._notices_withheld = self._counter(
            "relay_notices_withheld_total",
            "Delivery status notifications withheld, for their address had too many",
        )
        self._contacts = self._counter(
            "relay_contacts_total",
            "Contacts that a marketing platform was told of, by what came of it",
            "contacts",
            "result",
        )
        self._contacts_paused = self._gauge(
            "relay_contacts_paused", "1 while a marketing platform is not called", "livemax", "contacts"
        )
        self._contacts_waiting = self._gauge(
            "relay_contacts_waiting", "Contacts that a marketing platform has yet to hear of", "livesum", "contacts"
        )
        self._waiting_contacts: dict[tuple[str, int], int] = {}
        self._paused = self._gauge(
            "relay_route_paused", "1 while a route rests after refused credentials", "livemax", "route"
        )
        self._hop_open = self._gauge(
            "relay_next_hop_open", "1 while a next hop that gave no session is not dialled", "livemax", "next_hop"
        )
        self._silent = self._gauge(
            "relay_provider_silent", "1 while a provider takes mail and reports on none of it", "livemax", "provider"
        )
        self._failures = self._counter("relay_failures_total", "Bugs and broken parts; each is a log line `failure`")
        for state in _FINAL.values():
            self._finished(state)

    def delivery(self, transport: str, seconds: float, outcomes: Mapping[Result, int]) -> None:
        """One attempt: how many recipients met which outcome."""
        self._delivery(transport).observe(seconds)
        for outcome, count in outcomes.items():
            self._deliveries(transport, outcome).inc(count)

    def news(self, kind: str) -> None:
        self._news(kind).inc()

    def callback(self, provider: str, result: str) -> None:
        self._callbacks(provider, result).inc()

    def poll(self, provider: str, result: str) -> None:
        self._polls(provider, result).inc()

    def asked(self, transport: str, answers: Mapping[str, int]) -> None:
        """How many recipients in doubt it has, has not, or could not tell of."""
        for answer, count in answers.items():
            if count:
                self._questions(transport, answer).inc(count)

    def suppressed(self, reason: str) -> None:
        self._suppressed(reason).inc()

    def contact(self, name: str, result: str) -> None:
        self._contacts(name, result).inc()

    def contacts_paused(self, name: str, *, paused: bool) -> None:
        self._contacts_paused(name).set(int(paused))

    def contacts_left(self, name: str) -> None:
        self.contacts_paused(name, paused=False)
        self._waiting_contacts = {key: number for key, number in self._waiting_contacts.items() if key[0] != name}
        self._contacts_waiting(name).set(0)

    def contacts_waiting(self, name: str, spool: int, waiting: int) -> None:
        self._waiting_contacts[name, spool] = waiting
        self._contacts_waiting(name).set(
            sum(number for (one, _), number in self._waiting_contacts.items() if one == name)
        )

    def notice(self) -> None:
        self._notices().inc()

    def notice_withheld(self) -> None:
        self._notices_withheld().inc()

    def route_paused(self, route: str, *, paused: bool) -> None:
        self._paused(route).set(int(paused))

    def next_hop_open(self, next_hop: str, *, is_open: bool) -> None:
        self._hop_open(next_hop).set(int(is_open))

    def provider_silent(self, provider: str, *, silent: bool) -> None:
        self._silent(provider).set(int(silent))

    def failure(self) -> None:
        self._failures().inc()

    def event(self, event: Event) -> None:
        """A committed event (ports.EventSink)."""
        state = _FINAL.get(event.kind)
        if state is not None:
            self._finished(state).inc()

    # --- making them ---------------------------------------------------------------------------------------

    def _counter(self, name: str, text: str, *labels: str) -> _Labelled:
        return _Labelled(Counter(name, text, labels, registry=self._registry), len(labels))

    def _gauge(self, name: str, text: str, across: Literal["livesum", "livemax", "livemin"], *labels: str) -> _Labelled:
        """`across`: how the values of several living workers become one."""
        return _Labelled(Gauge(name, text, labels, registry=self._registry, multiprocess_mode=across), len(labels))

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> _Labelled:
        return _Labelled(Histogram(name, text, labels, registry=self._registry, buckets=buckets), len(labels))


class _Shown(Collector):
    """A registry without the `_created` series, which double the page and say only when we started, and without what
    is gone."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            metric.samples = [
                sample for sample in metric.samples if sample.value != _GONE and not sample.name.endswith("_created")
            ]
            yield metric
