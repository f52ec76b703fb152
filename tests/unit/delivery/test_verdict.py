"""What an outcome means for a recipient."""

from __future__ import annotations

import pytest

from relay.delivery.verdict import goes_elsewhere, reason, result_of
from relay.mail.envelope import Recipient
from relay.mail.event import EventKind
from relay.mail.outcome import Deferred, Delivered, Failed, Fault, InDoubt, Sent
from relay.mail.reply import reply
from relay.ports import QueuedRecipient
from relay.settings import RetrySettings

START = 1_800_000_000.0
OK, LATER, NO = reply(250, "2.0.0", "Ok"), reply(451, "4.0.0", "Later"), reply(550, "5.0.0", "No")
PROFILE = RetrySettings(delays=(100, 200), jitter=0, expire=1000)


def result(outcome, *, attempts=0, now=START, next_at=START, profile=PROFILE):
    waiting = QueuedRecipient(4, Recipient("c@d.example"), attempts, next_at)
    return result_of(waiting, outcome, profile=profile, received_at=START, now=now, route_pause=300, throw=0.5)


@pytest.mark.parametrize(
    ("outcome", "elsewhere"),
    [
        (Delivered(OK), False),
        (Sent(OK), False),
        (Failed(NO), False),
        (Failed(NO, elsewhere=True), True),
        (Deferred(LATER), False),
        (Deferred(LATER, Fault.HOST), True),
        (Deferred(LATER, Fault.ROUTE), True),
        (InDoubt(LATER), False),
    ],
)
def test_only_who_was_certainly_not_taken_goes_elsewhere(outcome, elsewhere):
    assert goes_elsewhere(outcome) is elsewhere


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [(Delivered(OK), EventKind.DELIVERED), (Sent(OK, "r"), EventKind.SENT), (Failed(NO), EventKind.BOUNCED)],
)
def test_an_end_is_an_end(outcome, kind):
    found = result(outcome)
    assert (found.index, found.address, found.kind, found.next_at) == (4, "c@d.example", kind, None)
    assert found.reply == str(outcome.reply)
    assert found.remote_id == ("r" if kind is EventKind.SENT else "")


@pytest.mark.parametrize(("outcome", "kind"), [(Deferred(LATER), "deferred"), (InDoubt(LATER), "in_doubt")])
def test_what_may_be_tried_again_waits_by_the_profile_and_ends_with_it(outcome, kind):
    first, second, third = (result(outcome, attempts=attempts) for attempts in range(3))
    assert (first.kind.value, first.next_at, first.counts) == (kind, START + 100, True)
    assert (second.kind.value, second.next_at) == (kind, START + 200)
    assert (third.kind, third.next_at) == (EventKind.BOUNCED, None)


def test_what_ends_before_its_attempts_do_has_expired():
    assert result(Deferred(LATER), attempts=1, now=START + 900).kind is EventKind.EXPIRED


def test_a_peers_wish_is_heard():
    assert result(Deferred(LATER, retry_after=500.0)).next_at == START + 500


def test_a_route_at_fault_costs_time_only():
    found = result(Deferred(LATER, Fault.ROUTE), attempts=2)
    assert (found.kind, found.next_at, found.counts) == (EventKind.DEFERRED, START + 300, False)


def test_a_route_at_fault_ends_what_expires_but_not_at_first_sight():
    outcome = Deferred(LATER, Fault.ROUTE)
    assert result(outcome, now=START + 1e6).kind is EventKind.DEFERRED
    assert result(outcome, now=START + 1e6, next_at=START + 300).kind is EventKind.EXPIRED
    assert result(outcome, now=START + 1e6, attempts=1).kind is EventKind.EXPIRED
    forever = RetrySettings(delays=(100,))
    assert result(outcome, now=START + 1e9, attempts=1, profile=forever).kind is EventKind.DEFERRED


def test_the_reason_names_what_ended_it():
    bounced = result(Deferred(LATER), attempts=2)
    expired = result(Deferred(LATER), attempts=1, now=START + 900)
    assert "refused" in reason(result(Failed(NO)), NO)
    assert "all delivery attempts failed" in reason(bounced, LATER)
    assert "expired" in reason(expired, LATER)
