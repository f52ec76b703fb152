"""`relay queue explain`: what it says holds a recipient, for every way it can be held."""

from __future__ import annotations

from typing import Any

import pytest

from relay.cli.explain import explain

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
PAST, LATER = "2027-01-15T07:59:00.000+00:00", "2027-01-15T09:00:00.000+00:00"
AGAIN = "tried again at 2027-01-15T09:00:00Z, in 60 min"
RUNNING: dict[str, Any] = {"paused": {}, "open": {}, "silent": {}}


def message(state: str, next_at: str | None, ended_at: str | None = PAST) -> dict[str, Any]:
    attempt = {
        "seq": 2, "started_at": PAST, "ended_at": ended_at, "transport": "direct", "destination": "d.example",
        "host": "", "tls": "", "recipients": [0], "asks": False,
    }  # fmt: skip
    queued = {"seq": 1, "at": PAST, "recipient": None, "kind": "queued", "reply": ""}
    deferred = {"seq": 3, "at": PAST, "recipient": 0, "kind": "deferred", "reply": "451 4.4.1 No answer"}
    recipient = {"address": "c@d.example", "state": state, "next_at": next_at, "reply": "", "via": None, "doubt": None}
    return {
        "id": "1" * 16, "account": "", "username": "", "from": None, "size": 10,
        "options": {}, "recipients": [recipient], "attempts": [attempt], "events": [queued, deferred],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("state", "next_at", "status", "words"),
    [
        ("held", None, RUNNING, f"held by the operator; `relay queue release {'1' * 16}` lets it go"),
        ("deferred", PAST, RUNNING, "due; it waits for a place at its next hop"),
        ("deferred", LATER, RUNNING, AGAIN),
        ("deferred", LATER, None, "tried again at 2027-01-15T09:00:00Z, in 60 min, once a server runs"),
        (
            "deferred",
            PAST,
            RUNNING | {"paused": {"direct": 200.0}},
            "due; it waits for a place at its next hop; the route direct rests for 3 min more",
        ),
        (
            "deferred",
            LATER,
            RUNNING | {"open": {"direct:d.example": 30.0, "direct:other.example": 9.0}},
            "tried again at 2027-01-15T09:00:00Z, in 60 min;"
            " the next hop direct:d.example is not dialled for 30 s more",
        ),
        (
            "deferred",
            LATER,
            RUNNING | {"open": {"direct:o.example": 9.0}},
            AGAIN,
        ),
        ("expired", None, None, "finished: given up because of its age"),
    ],
)
def test_what_holds_a_recipient_is_said(state: str, next_at: str | None, status: Any, words: str) -> None:
    (one,) = explain(message(state, next_at), NOW, status)["recipients"]
    assert one["now"] == words


def test_a_way_the_operator_chose_is_said_with_what_holds_that_way() -> None:
    waiting = message("deferred", PAST)
    waiting["recipients"][0]["via"] = "smarthost:b"
    status = RUNNING | {"paused": {"direct": 200.0, "smarthost:b": 100.0}}
    (one,) = explain(waiting, NOW, status)["recipients"]
    assert "the route smarthost:b rests for 100 s more; it goes by smarthost:b only" in one["now"]
    assert "direct" not in one["now"]


def test_who_is_in_doubt_is_said_to_be_asked_about_and_what_was_asked_is_told() -> None:
    waiting = message("deferred", LATER)
    waiting["recipients"][0]["doubt"] = {"candidate": "provider:a", "since": NOW, "asked": 1}
    waiting["attempts"][0] |= {"asks": True, "transport": "provider:a"}
    found = explain(waiting, NOW, RUNNING)
    assert found["recipients"][0]["now"] == f"provider:a may have it, and nobody else is called: {AGAIN}"
    assert found["record"][1]["what"].startswith("question to provider:a whether it has the message for c@d.example")


def test_an_attempt_under_way_is_said_and_has_no_end() -> None:
    found = explain(message("queued", PAST, ended_at=None), NOW, RUNNING)
    assert found["recipients"][0]["now"] == "being delivered now"
    assert found["record"][1]["what"] == "attempt by direct to d.example for c@d.example: without an end yet"


def test_what_happened_in_one_millisecond_is_told_in_its_order() -> None:
    assert [line["what"] for line in explain(message("deferred", LATER), NOW, None)["record"]] == [
        "accepted (without a login) from <>, 10 octets",
        "attempt by direct to d.example for c@d.example, no host reached, 0.00 s",
        "c@d.example: put off: 451 4.4.1 No answer",
    ]


def test_what_the_message_asked_for_is_said_with_its_acceptance() -> None:
    asked = message("queued", PAST) | {"options": {"priority": 3}}
    first = explain(asked, NOW, None)["record"][0]["what"]
    assert first == "accepted (without a login) from <>, 10 octets, priority 3"
