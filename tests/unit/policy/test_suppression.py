"""Which reports put a recipient on the list, and what a client is told of it."""

from __future__ import annotations

import pytest

from relay.mail.event import EventKind
from relay.policy.suppression import reason_for, refusal_of
from relay.ports import Suppression, SuppressionReason

BOUNCED, COMPLAINED = EventKind.BOUNCED, EventKind.COMPLAINED


@pytest.mark.parametrize(
    ("words", "hard"),
    [
        ("smtp; 550 5.1.1 user unknown", True),
        ("5.1.10 null MX", True),
        ("550 5.2.1 mailbox disabled", True),
        ("550 no such user", True),
        ("550 5.0.0 Returned later: 5.1.1 no such user", True),
        ("552 5.2.2 mailbox full", False),
        ("550 5.7.1 message refused", False),
        ("550 5.7.1 see 192.5.1.1", False),
        ("554 transaction failed", False),
        ("4.4.7 expired", False),
        ("", False),
        ("1550 units", False),
    ],
)
def test_a_bounce_counts_where_the_address_is_to_blame(words: str, hard: bool) -> None:
    """Not for a full mailbox, a refused content or without a word."""
    assert reason_for(BOUNCED, words, "all") == ("bounce" if hard else None)


def test_the_setting_says_which_reports_count() -> None:
    found = {
        wanted: (reason_for(BOUNCED, "5.1.1", wanted), reason_for(COMPLAINED, "", wanted))
        for wanted in ("off", "bounces", "complaints", "all")
    }

    assert found == {
        "off": (None, None),
        "bounces": ("bounce", None),
        "complaints": (None, "complaint"),
        "all": ("bounce", "complaint"),
    }
    assert reason_for(EventKind.DELIVERED, "5.1.1", "all") is None
    assert reason_for(EventKind.DELAYED, "5.1.1", "all") is None


@pytest.mark.parametrize(
    ("reason", "beginning"),
    [("bounce", "550 5.1.1 Suppressed"), ("complaint", "550 5.7.1 Suppressed"), ("manual", "550 5.7.1 Suppressed")],
)
def test_the_answer_says_that_it_is_ours_and_why(reason: SuppressionReason, beginning: str) -> None:
    """Printable, whatever a peer said."""
    found = refusal_of(Suppression("shop", "a@example.net", reason, "x\r\n250 ok", 0.0))

    assert str(found).startswith(beginning)
    assert found.wire.count(b"\r\n") == 1
