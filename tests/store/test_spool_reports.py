"""Reports: later news finds its recipient, counts once, and changes only what it may."""

from __future__ import annotations

import pytest
from spool_kit import START

from relay.mail.envelope import Envelope, Recipient
from relay.mail.event import EventKind
from relay.mail.lifecycle import State
from relay.ports import AttemptEnd, AttemptStart, NewMessage, News, RecipientResult


def hand_on(bench, *addresses: str, remote_id: str = "r-1", kind: EventKind = EventKind.SENT) -> str:
    message_id = bench.enqueue(*addresses)
    indexes = tuple(range(len(addresses)))
    begun = bench.run(bench.spool.begin_attempt(AttemptStart(message_id, indexes, "provider:x", "", START)))
    results = tuple(
        RecipientResult(n, address, kind, "250 2.0.0 ok", remote_id=remote_id) for n, address in enumerate(addresses)
    )
    bench.run(bench.spool.end_attempt(AttemptEnd(message_id, begun.id, START, "api.example", "", results, None)))
    return message_id


def news(message_id: str, kind: EventKind, key: str, index: int = 0, notice: NewMessage | None = None) -> News:
    return News(message_id, index, kind, key, START + 60, f"said {kind}", notice)


def state(bench, message_id: str, index: int = 0) -> str:
    found = bench.run(bench.spool.message(message_id))
    return str(found["recipients"][index]["state"])


def kinds(bench, message_id: str) -> list[str]:
    return [event["kind"] for event in bench.run(bench.spool.message(message_id))["events"]]


def test_a_recipient_is_found_by_the_next_hops_name_also_after_a_restart(bench):
    message_id = hand_on(bench, "c@d.example", "e@f.example")
    hand_on(bench, "g@h.example", remote_id="other")
    bench.restart()
    found = bench.run(bench.spool.handed_on(("r-1", "nobody")))
    assert [(one.message.id, one.recipient.recipient.address, one.state) for one in found] == [
        (message_id, "c@d.example", State.SENT),
        (message_id, "e@f.example", State.SENT),
    ]
    assert found[0].message.envelope.reverse_path == "a@b.example"


def test_what_is_still_under_way_is_not_found(bench):
    bench.enqueue("c@d.example")
    assert bench.run(bench.spool.handed_on(("",))) == []


@pytest.mark.parametrize("kind", [EventKind.DELIVERED, EventKind.BOUNCED])
def test_news_changes_who_was_handed_on_and_a_repetition_changes_nothing(bench, kind):
    message_id = hand_on(bench, "c@d.example")
    assert bench.run(bench.spool.report([news(message_id, kind, "k"), news(message_id, kind, "k")])) == [True, False]
    bench.restart()
    assert bench.run(bench.spool.report([news(message_id, kind, "k")])) == [False]
    assert state(bench, message_id) == kind.value
    assert kinds(bench, message_id) == ["queued", "sent", kind.value]


def test_who_bounced_is_not_delivered_by_late_news_and_who_was_delivered_may_bounce(bench):
    first, second = hand_on(bench, "c@d.example"), hand_on(bench, "c@d.example", remote_id="r-2")
    told = bench.run(bench.spool.report([
        news(first, EventKind.BOUNCED, "1"), news(first, EventKind.DELIVERED, "2"),
        news(second, EventKind.DELIVERED, "3"), news(second, EventKind.BOUNCED, "4"),
    ]))  # fmt: skip
    assert told == [True, False, True, True]
    assert (state(bench, first), state(bench, second)) == ("bounced", "bounced")


def test_opens_and_clicks_are_events_and_change_no_state(bench):
    message_id = hand_on(bench, "c@d.example")
    opened = [news(message_id, EventKind.OPENED, "1"), news(message_id, EventKind.OPENED, "2")]
    assert bench.run(bench.spool.report(opened)) == [True, True]
    assert state(bench, message_id) == "sent"
    assert kinds(bench, message_id) == ["queued", "sent", "opened", "opened"]


def test_the_notice_is_stored_with_the_bounce_and_only_with_it(bench):
    message_id = hand_on(bench, "c@d.example")
    notices = [
        NewMessage(bench.spool.new_id(), "acme", "", Envelope(None, (Recipient("a@b.example"),)), b"DSN\r\n", START)
        for _ in range(2)
    ]
    bounced = [news(message_id, EventKind.BOUNCED, str(n), notice=notice) for n, notice in enumerate(notices)]
    assert bench.run(bench.spool.report(bounced)) == [True, False]
    assert bench.due_ids() == [notices[0].id]


def test_old_reports_are_forgotten_with_the_history(bench):
    message_id = hand_on(bench, "c@d.example")
    assert bench.run(bench.spool.report([news(message_id, EventKind.OPENED, "1")])) == [True]
    bench.run(bench.spool.prune(START + 10**6, 100))
    assert bench.run(bench.spool.message(message_id)) is None
    assert bench.run(bench.spool.handed_on(("r-1",))) == []


def test_old_reports_are_forgotten_a_few_at_a_time_and_the_caller_is_told_that_there_are_more(bench):
    """Five for each message there may be: of one there are several."""
    message_id = hand_on(bench, "c@d.example")
    keys = [str(n) for n in range(12)]
    bench.run(bench.spool.report([news(message_id, EventKind.OPENED, key) for key in keys]))
    left = []
    for expected in (1, 1, 0):
        assert bench.run(bench.spool.prune(START + 10**6, 1)) == expected
        left.append(len(bench.run(bench.spool.reported(keys))))
    assert left == [7, 2, 0]


def test_a_recipient_is_found_with_the_candidate_that_took_it(bench):
    """Which is that of its last attempt: the ones before gave no id."""
    message_id = bench.enqueue("c@d.example", "e@f.example")
    for candidate, left in (("provider:x", (0, 1)), ("provider:y", (1,))):
        begun = bench.run(bench.spool.begin_attempt(AttemptStart(message_id, left, candidate, "", START)))
        kept = [RecipientResult(0, "c@d.example", EventKind.SENT, "250 2.0.0 ok", remote_id="16")] if 0 in left else []
        last = RecipientResult(1, "e@f.example", EventKind.SENT, "250 2.0.0 ok", remote_id="16")
        results = tuple(kept) if candidate == "provider:x" else (last,)
        bench.run(bench.spool.end_attempt(AttemptEnd(message_id, begun.id, START, "api.example", "", results, None)))
    found = bench.run(bench.spool.handed_on(("16",)))
    assert [(one.recipient.index, one.taken_by) for one in found] == [(0, "provider:x"), (1, "provider:y")]


def test_a_report_is_remembered_by_its_key_also_after_a_restart(bench):
    message_id = hand_on(bench, "c@d.example")
    bench.run(bench.spool.report([news(message_id, EventKind.BOUNCED, "k")]))
    bench.restart()
    assert bench.run(bench.spool.reported(("k", "other"))) == {"k"}
