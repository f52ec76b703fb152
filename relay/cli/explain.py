"""Explain: one message's history and present in plain words.

In: the message as spool_read.describe tells it, the time, and the worker's `/admin/status` or None where no server
answers. Out: `record`, in the order of time, and `recipients` with what holds each now and when it goes next.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from relay.cli.options import words_of
from relay.mail.lifecycle import MAYBE_DELIVERED

_DECIDED: Final = {
    "deferred": "put off",
    "in_doubt": "in doubt, put off (it may have been delivered)",
    "awaited": "taken by the next hop, whose report is awaited",
    "sent": "taken by the next hop",
    "delivered": "delivered",
    "bounced": "given up",
    "expired": "given up because of its age",
    "cancelled": "cancelled by the operator",
    "held": "held by the operator",
    "released": "released by the operator",
    "rerouted": "sent another way by the operator",
}
_MINUTE: Final = 60
_HOUR: Final = 3600


def explain(message: dict[str, Any], now: float, status: dict[str, Any] | None) -> dict[str, Any]:
    """`status` None: no server answers."""
    indexed = enumerate(message["recipients"])
    return {
        "id": message["id"],
        "server": "no answer" if status is None else "running",
        "record": _record(message),
        "recipients": [
            {
                "address": one["address"],
                "state": one["state"],
                "next_at": one["next_at"],
                "reply": one["reply"],
                "via": one["via"],
                "now": _now(message, index, one, now, status) + _way(message, one),
            }
            for index, one in indexed
        ],
    }


def _record(message: dict[str, Any]) -> list[dict[str, str]]:
    """Attempts and events share one counter (`seq`), which orders what has the same millisecond."""
    lines = [(event["at"], event["seq"], _event(message, event)) for event in message["events"]]
    lines += [(one["started_at"], one["seq"], _attempt(message, one)) for one in message["attempts"]]
    return [{"at": at, "what": what} for at, _, what in sorted(lines)]


def _event(message: dict[str, Any], event: dict[str, Any]) -> str:
    if event["kind"] == "queued":
        who = f"{message['username']}, account {message['account']}" if message["account"] else "without a login"
        again = f", {event['reply']}" if event["reply"] else ""
        facts = ", ".join([f"{message['size']} octets", *words_of(message["options"])])
        return f"accepted ({who}) from {message['from'] or '<>'}, {facts}{again}"
    words = _DECIDED.get(event["kind"], event["kind"])
    address = "" if event["recipient"] is None else f"{message['recipients'][event['recipient']]['address']}: "
    return f"{address}{words}{': ' + event['reply'] if event['reply'] else ''}"


def _attempt(message: dict[str, Any], attempt: dict[str, Any]) -> str:
    people = ", ".join(message["recipients"][index]["address"] for index in attempt["recipients"])
    by = f"attempt by {attempt['transport']} to {attempt['destination']} for {people}"
    if attempt["asks"]:
        by = f"question to {attempt['transport']} whether it has the message for {people}"
    if attempt["ended_at"] is None:
        return f"{by}: without an end yet"
    host = f" at {attempt['host']}" if attempt["host"] else ", no host reached"
    tls = f", {attempt['tls']}" if attempt["tls"] else ""
    took = _epoch(attempt["ended_at"]) - _epoch(attempt["started_at"])
    return f"{by}{host}{tls}, {max(0.0, took):.2f} s"


def _now(
    message: dict[str, Any], index: int, recipient: dict[str, Any], now: float, status: dict[str, Any] | None
) -> str:
    if recipient["state"] == "held":
        doubt = MAYBE_DELIVERED in recipient["reply"]
        by = f"held because {MAYBE_DELIVERED} already" if doubt else "held by the operator"
        return f"{by}; `relay queue release {message['id']}` lets it go"
    if recipient["next_at"] is None:
        return f"finished: {_DECIDED.get(recipient['state'], recipient['state'])}"
    if status is None:
        return f"{_when(recipient, now)}, once a server runs"
    mine = [attempt for attempt in message["attempts"] if index in attempt["recipients"]]
    if mine and mine[-1]["ended_at"] is None:
        return "being asked about now" if mine[-1]["asks"] else "being delivered now"
    if recipient["doubt"]:
        return f"{recipient['doubt']['candidate']} may have it, and nobody else is called: {_when(recipient, now)}"
    way = mine[-1] if mine else None
    if recipient["via"]:
        way = {"transport": recipient["via"], "destination": recipient["address"].rpartition("@")[2]}
    holds = _resting(way, status) if way else ""
    return _when(recipient, now) + (f"; {holds}" if holds else "")


def _way(message: dict[str, Any], recipient: dict[str, Any]) -> str:
    """Where an operator chose the way of what still waits."""
    if not recipient["via"] or (recipient["next_at"] is None and recipient["state"] != "held"):
        return ""
    return f"; it goes by {recipient['via']} only, until `relay queue reroute --reset {message['id']}`"


def _resting(attempt: dict[str, Any], status: dict[str, Any]) -> str:
    """Whether the way the last attempt went is shut."""
    transport, hop = attempt["transport"], f"{attempt['transport']}:{attempt['destination']}"
    if transport in status["paused"]:
        return f"the route {transport} rests for {_span(status['paused'][transport])} more"
    if transport in status["silent"]:
        return f"the provider {transport} reports on nothing: others of the route go first"
    for name in (hop, transport):
        if name in status["open"]:
            return f"the next hop {name} is not dialled for {_span(status['open'][name])} more"
    return ""


def _when(recipient: dict[str, Any], now: float) -> str:
    left = _epoch(recipient["next_at"]) - now
    if left <= 0:
        return "due; it waits for a place at its next hop"
    return f"tried again at {recipient['next_at'][:19]}Z, in {_span(left)}"


def _span(seconds: float) -> str:
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < 2 * _HOUR else f"{seconds / _HOUR:.1f} h"


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
