"""ports.Spool: what every engine has to keep, written against the port."""

from __future__ import annotations

import asyncio
import random

import pytest
from spool_kit import CONTENT, START, THRESHOLD, deferred, done

from relay.mail.envelope import Envelope, Recipient
from relay.mail.errors import StoreError
from relay.mail.event import EventKind
from relay.ports import PIECE, AttemptBegun, AttemptEnd, AttemptStart, NewMessage, QueuedRecipient
from relay.store.spool_verbs import Act, Selection, Verb

BIG = b"Subject: big\r\n\r\n" + b"x" * THRESHOLD


# --- taking --------------------------------------------------------------------------------------------------


def test_what_was_enqueued_is_due_with_all_that_was_said_of_it(bench):
    recipients = (
        Recipient("c@d.example", ("FAILURE", "DELAY"), "rfc822;c@d.example"),
        Recipient("jürgen@bücher.example", ("NEVER",)),
    )
    options = {
        "ret": "HDRS", "envid": "E-1", "body_8bit": True, "smtputf8": True, "retry": "otp", "expires_at": START + 9.5,
        "hold_until": START - 1, "hold_request": "for;60", "priority": -3, "deliver_by": START + 60.125, "by_mode": "N",
        "by_trace": True, "requiretls": True, "binary": True,
    }  # fmt: skip
    message = bench.message(recipients=recipients, tags=("a", "b"), client_message_id="<1@x>", **options)
    bench.run(bench.spool.enqueue(message))
    bench.restart()
    [found] = bench.due()
    assert found.envelope == Envelope("a@b.example", recipients, **options)
    assert (found.id, found.account, found.username) == (message.id, "acme", "app")
    assert (found.size, found.received_at, found.tags) == (len(CONTENT), START, ("a", "b"))
    assert found.due == tuple(QueuedRecipient(n, one, 0, START) for n, one in enumerate(recipients))
    assert found.content is None
    assert bench.run(bench.spool.read_content(message.id)) == CONTENT


def test_enqueue_gives_the_message_back_with_its_content_and_everybody_due(bench):
    message = bench.message("c@d.example", "e@f.example")
    queued = bench.run(bench.spool.enqueue(message))
    assert (queued.id, queued.content, queued.envelope) == (message.id, CONTENT, message.envelope)
    assert [(one.index, one.attempts, one.next_at) for one in queued.due] == [(0, 0, START), (1, 0, START)]


def test_a_message_to_be_held_becomes_due_when_it_is_to_be_sent(bench):
    message = bench.message("c@d.example", hold_until=START + 3600)
    queued = bench.run(bench.spool.enqueue(message))
    assert [one.next_at for one in queued.due] == [START + 3600]
    bench.restart()
    assert bench.due() == []
    assert bench.run(bench.spool.next_due_at(0.0)) == START + 3600
    [found] = bench.run(bench.spool.due(0.0, START + 3600, 10))
    assert (found.received_at, found.since) == (START, START + 3600)


def test_the_null_sender_stays_null(bench):
    bench.enqueue(reverse_path=None)
    assert bench.due()[0].envelope.reverse_path is None


@pytest.mark.parametrize("content", [b"", b"\x00\xff\r\n", CONTENT, BIG, BIG * 200])
def test_content_comes_back_byte_for_byte(bench, content):
    message_id = bench.enqueue(content=content)
    bench.restart()
    assert bench.run(bench.spool.read_content(message_id)) == content


@pytest.mark.parametrize("content", [CONTENT, BIG, BIG * 600], ids=["small", "a file", "many pieces"])
def test_content_that_is_opened_is_the_same(bench, content):
    """In pieces, and from any octet on."""
    message_id = bench.enqueue(content=content)
    bench.restart()

    async def scene():
        found = await bench.spool.open_content(message_id)
        if isinstance(found, bytes):
            return found
        try:
            assert found.size == len(content)
            assert await found.read(found.size, 10) == b""
            assert await found.read(found.size - 3, 10) == content[-3:]
            assert await found.read(5, 7) == content[5:12]
            pieces: list[bytes] = []
            await found.each_piece(9, pieces.append)
            assert len(pieces) == (len(content) - 9 + PIECE - 1) // PIECE
            return content[:9] + b"".join(pieces)
        finally:
            found.close()

    assert bench.run(scene()) == content


def test_content_that_is_gone_cannot_be_opened(bench):
    with pytest.raises(StoreError, match="no stored content"):
        bench.run(bench.spool.open_content(bench.spool.new_id()))


def test_a_thousand_recipients_keep_their_order(bench):
    addresses = [f"r{n}@d{n % 7}.example" for n in range(1000)]
    bench.enqueue(*addresses)
    [found] = bench.due()
    assert [one.recipient.address for one in found.due] == addresses


def test_reading_content_nobody_stored_is_a_store_error(bench):
    with pytest.raises(StoreError, match="no stored content"):
        bench.run(bench.spool.read_content(bench.spool.new_id()))


def test_a_message_stored_twice_is_refused_and_the_first_stays(bench):
    message = bench.message()
    bench.run(bench.spool.enqueue(message))
    with pytest.raises(StoreError):
        bench.run(bench.spool.enqueue(message))
    assert bench.due_ids() == [message.id]


def test_one_bad_operation_in_a_commit_does_not_hurt_the_others(bench):
    good = [bench.message() for _ in range(20)]
    bad = bench.message(account="\ud800")
    batch = [*good[:10], bad, *good[10:], good[3]]

    async def all_at_once():
        return await asyncio.gather(*map(bench.spool.enqueue, batch), return_exceptions=True)

    results = bench.run(all_at_once())
    failed = [number for number, result in enumerate(results) if isinstance(result, StoreError)]
    assert failed == [10, 21]
    assert bench.due_ids() == [message.id for message in good]


# --- ids -----------------------------------------------------------------------------------------------------


def test_ids_are_16_hex_digits_that_grow(bench):
    ids = [bench.spool.new_id() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert all(len(one) == 16 and int(one, 16) < 1 << 63 for one in ids)


def test_ids_stay_unique_over_restarts_and_a_clock_that_jumps_back(bench):
    seen = []
    for jump in (0, -3600, 1, -86_400, 0.0004, -1):
        bench.clock.time += jump
        seen += [bench.enqueue() for _ in range(5)]
        bench.restart()
    assert seen == sorted(set(seen))


# --- what is due ---------------------------------------------------------------------------------------------


def test_due_is_what_lies_after_the_one_time_and_not_after_the_other(bench):
    ids = []
    for second in range(5):
        bench.clock.time = START + second
        ids.append(bench.enqueue())
    found = bench.due(after=START + 1, until=START + 3)
    assert [message.id for message in found] == ids[2:4]
    assert bench.run(bench.spool.next_due_at(START + 3)) == START + 4
    assert bench.run(bench.spool.next_due_at(START + 4)) is None


def test_oldest_due_times_come_first(bench):
    order = list(range(30))
    random.Random(1).shuffle(order)
    ids = {}
    for second in order:
        bench.clock.time = START + second
        ids[second] = bench.enqueue()
    bench.clock.time = START + 100
    assert bench.due_ids() == [ids[second] for second in sorted(ids)]


def test_a_limit_counts_recipients(bench):
    ids = []
    for second in range(4):
        bench.clock.time = START + second
        ids.append(bench.enqueue("a@x.example", "b@x.example", "c@x.example"))
    assert [(message.id, len(message.due)) for message in bench.due(limit=4)] == [(ids[0], 3), (ids[1], 3)]
    assert len(bench.due(limit=12)) == 4


def test_recipients_with_one_due_time_are_never_torn_apart(bench):
    """Or a reader that walks along the due times could not get past them."""
    ids = [bench.enqueue("a@x.example", "b@x.example") for _ in range(5)]
    assert [message.id for message in bench.due(limit=1)] == ids


@pytest.mark.parametrize("at", [START + 0.1234567, START + 1 / 3, 1.7e9 + 0.9999996, 526.654463])
def test_a_due_time_read_back_finds_its_row_again(bench, at):
    bench.clock.time = at
    message_id = bench.enqueue()
    told = bench.run(bench.spool.next_due_at(0.0))
    assert [message.id for message in bench.due(until=told)] == [message_id]
    assert bench.due(after=told, until=told + 1) == []


# --- attempts ------------------------------------------------------------------------------------------------


def test_an_attempt_is_told_in_full_from_beginning_to_end(bench):
    message_id = bench.enqueue()
    begun = bench.begin(message_id)
    [attempt] = bench.describe(message_id)["attempts"]
    assert (attempt["transport"], attempt["destination"], attempt["recipients"]) == ("direct", "d.example", [0])
    assert attempt["ended_at"] is None
    bench.clock.time += 2
    bench.end(message_id, begun.id, done(0))
    [attempt] = bench.describe(message_id)["attempts"]
    assert (attempt["host"], attempt["tls"]) == ("mx.d", "TLSv1.3 X")
    assert attempt["ended_at"] is not None


def test_every_attempt_has_a_number_of_its_own(bench):
    ids = [bench.enqueue() for _ in range(5)]
    numbers = [bench.begin(message_id).id for message_id in ids]
    assert len(set(numbers)) == 5


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (EventKind.DELIVERED, "delivered"),
        (EventKind.SENT, "sent"),
        (EventKind.BOUNCED, "bounced"),
        (EventKind.EXPIRED, "expired"),
    ],
)
def test_a_terminal_result_ends_the_recipient_and_says_so_in_an_event(bench, kind, state):
    message_id = bench.enqueue()
    bench.finish(message_id, kind=kind)
    assert bench.states(message_id) == [state]
    assert bench.kinds(message_id) == ["queued", kind.value]
    assert bench.due() == []
    assert bench.run(bench.spool.next_due_at(0.0)) is None
    with pytest.raises(StoreError, match="no stored content"):
        bench.run(bench.spool.read_content(message_id))


@pytest.mark.parametrize("kind", [EventKind.DEFERRED, EventKind.IN_DOUBT])
def test_a_deferral_comes_back_at_its_time_with_one_attempt_more(bench, kind):
    message_id = bench.enqueue()
    begun = bench.begin(message_id)
    bench.end(message_id, begun.id, deferred(0, START + 30, kind))
    assert bench.due() == []
    assert bench.run(bench.spool.next_due_at(START)) == START + 30
    bench.clock.time = START + 30
    [found] = bench.due()
    assert (found.due[0].attempts, found.due[0].next_at) == (1, START + 30)
    assert bench.states(message_id) == ["deferred"]
    assert bench.kinds(message_id) == ["queued", kind.value]
    assert bench.run(bench.spool.read_content(message_id)) == CONTENT


def test_a_deferral_that_does_not_count_uses_up_no_attempt(bench):
    message_id = bench.enqueue()
    begun = bench.begin(message_id)
    bench.end(message_id, begun.id, deferred(0, START + 300, counts=False))
    bench.clock.time = START + 300
    assert bench.due()[0].due[0].attempts == 0


def test_content_stays_until_the_last_recipient_has_ended(bench):
    for content in (CONTENT, BIG):
        message_id = bench.enqueue("a@x.example", "b@x.example", content=content)
        bench.finish(message_id, 0)
        assert bench.run(bench.spool.read_content(message_id)) == content
        assert [one.index for message in bench.due() for one in message.due] == [1]
        bench.finish(message_id, 1)
        with pytest.raises(StoreError, match="no stored content"):
            bench.run(bench.spool.read_content(message_id))


def test_a_notice_goes_into_the_commit_of_the_failure_it_tells_of(bench):
    message_id = bench.enqueue()
    begun = bench.begin(message_id)
    notice = bench.message("a@b.example", reverse_path=None, content=b"Subject: failed\r\n\r\n")
    queued = bench.end(message_id, begun.id, done(0, EventKind.BOUNCED), notice=notice)
    assert (queued.id, queued.content, queued.due[0].recipient.address) == (notice.id, notice.content, "a@b.example")
    assert bench.due_ids() == [notice.id]


def test_no_attempt_begins_for_who_ended_meanwhile(bench):
    """A reader may have seen the recipient as due a moment before."""
    message_id = bench.enqueue("a@x.example", "b@x.example", "c@x.example")
    bench.finish(message_id, 0)
    begun = bench.begin(message_id, 1)
    bench.end(message_id, begun.id, deferred(1, START + 30))
    begun = bench.begin(message_id, 0, 1, 2)
    assert begun.recipients == (2,)
    bench.end(message_id, begun.id, done(2))
    assert bench.begin(message_id, 0, 1, 2) == AttemptBegun(0, ())
    assert len(bench.describe(message_id)["attempts"]) == 3


def test_a_late_result_changes_nothing_about_who_has_ended(bench):
    message_id = bench.enqueue("a@x.example", "b@x.example")
    first = bench.begin(message_id, 0, 1)
    bench.end(message_id, first.id, done(0))
    bench.end(message_id, first.id, deferred(0, START + 30), done(1))
    assert bench.states(message_id) == ["delivered", "delivered"]
    assert bench.due(until=START + 100) == []


def test_a_result_the_lifecycle_does_not_know_is_refused_and_nothing_of_it_stored(bench):
    message_id = bench.enqueue("a@x.example", "b@x.example")
    begun = bench.begin(message_id, 0, 1)
    with pytest.raises(StoreError):
        bench.end(message_id, begun.id, done(0), done(1, EventKind.RELEASED))
    assert bench.states(message_id) == ["queued", "queued"]


def test_an_attempt_of_an_id_that_is_none_is_refused(bench):
    with pytest.raises(StoreError):
        bench.run(bench.spool.begin_attempt(AttemptStart("nonsense", (0,), "direct", "", START)))


# --- recovery ------------------------------------------------------------------------------------------------


def test_an_interrupted_attempt_is_in_doubt_and_due_again(bench):
    message_id = bench.enqueue("a@x.example", "b@x.example", "c@x.example")
    bench.finish(message_id, 2)
    bench.begin(message_id, 0)
    bench.clock.time += 60
    spool = bench.restart()
    assert spool.recovered == 1
    assert bench.kinds(message_id) == ["queued", "delivered", "in_doubt"]
    assert bench.states(message_id) == ["deferred", "queued", "delivered"]
    [found] = bench.due()
    assert [(one.index, one.attempts) for one in found.due] == [(1, 0), (0, 1)]
    assert all(attempt["ended_at"] is not None for attempt in bench.describe(message_id)["attempts"])
    assert bench.restart().recovered == 0
    assert bench.kinds(message_id).count("in_doubt") == 1


def test_events_stay_in_order_over_a_clock_that_was_set_back(bench):
    message_id = bench.enqueue("a@x.example", "b@x.example")
    begun = bench.begin(message_id, 0)
    bench.end(message_id, begun.id, deferred(0, START + 30))
    bench.clock.time -= 86_400
    bench.restart()
    bench.clock.time += 2 * 86_400
    begun = bench.begin(message_id, 0, 1)
    bench.end(message_id, begun.id, done(0), done(1, EventKind.BOUNCED))
    assert bench.kinds(message_id) == ["queued", "deferred", "delivered", "bounced"]
    transports = [attempt["recipients"] for attempt in bench.describe(message_id)["attempts"]]
    assert transports == [[0], [0, 1]]


# --- the operator --------------------------------------------------------------------------------------------


def test_retry_makes_waiting_recipients_due_now_and_leaves_the_rest(bench):
    waiting, ended, other = (bench.enqueue("a@x.example", "b@x.example") for _ in range(3))
    for message_id in (waiting, other):
        begun = bench.begin(message_id, 0, 1)
        bench.end(message_id, begun.id, deferred(0, START + 500), done(1))
    bench.finish(ended, 0, 1)
    bench.clock.time += 10
    assert bench.act(Verb.RETRY, waiting, ended, waiting) == [(waiting, 0)]
    assert bench.due_ids() == [waiting]
    assert bench.states(ended) == ["delivered", "delivered"]


def test_a_whole_queue_made_due_at_once_can_still_be_walked_along(bench):
    ids = [bench.enqueue() for _ in range(300)]
    bench.clock.time += 10
    assert len(bench.act(Verb.RETRY, *ids)) == 300
    seen, cursor = [], 0.0
    while found := bench.due(after=cursor, limit=7):
        assert sum(len(message.due) for message in found) <= 7
        seen += [message.id for message in found]
        cursor = max(one.next_at for message in found for one in message.due)
    assert sorted(seen) == ids


def test_cancel_ends_what_is_not_in_flight(bench):
    message_id = bench.enqueue("a@x.example", "b@x.example", "c@x.example", content=BIG)
    bench.finish(message_id, 2)
    begun = bench.begin(message_id, 0)
    assert bench.act(Verb.CANCEL, message_id) == [(message_id, 1)]
    assert bench.states(message_id) == ["queued", "cancelled", "delivered"]
    assert bench.run(bench.spool.read_content(message_id)) == BIG
    bench.end(message_id, begun.id, deferred(0, START + 500))
    assert bench.act(Verb.CANCEL, message_id) == [(message_id, 0)]
    assert bench.states(message_id) == ["cancelled", "cancelled", "delivered"]
    assert bench.kinds(message_id) == ["queued", "delivered", "cancelled", "deferred", "cancelled"]
    assert bench.due() == []
    assert bench.act(Verb.CANCEL, message_id) == []
    with pytest.raises(StoreError, match="no stored content"):
        bench.run(bench.spool.read_content(message_id))


def test_pruning_forgets_what_is_finished_and_old_and_nothing_else(bench):
    waiting = bench.enqueue("a@x.example")
    half = bench.enqueue("a@x.example", "b@x.example")
    bench.finish(half, 0)
    old = [bench.enqueue(content=BIG) for _ in range(5)]
    for message_id in old:
        bench.finish(message_id, 0)
    bench.clock.time += 1000
    young = bench.enqueue()
    bench.finish(young, 0)
    assert bench.run(bench.spool.prune(START + 500, 3)) == 3
    assert [bench.run(bench.spool.message(m)) is None for m in old] == [True, True, True, False, False]
    assert bench.run(bench.spool.prune(START + 500, 3)) == 2
    assert bench.run(bench.spool.prune(START + 500, 3)) == 0
    assert all(bench.run(bench.spool.message(m)) is None for m in old)
    assert bench.states(waiting) + bench.states(half) + bench.states(young) == [
        "queued", "delivered", "queued", "delivered",
    ]  # fmt: skip
    assert bench.run(bench.spool.read_content(half))


def test_cancel_and_the_results_of_others_fit_into_one_commit(bench):
    """Each removes the body files of what it ended, whichever comes first in the commit."""
    cancelled, ended = bench.enqueue(content=BIG), bench.enqueue(content=BIG)
    begun = bench.begin(ended)

    async def together():
        end = bench.spool.act(Act(Verb.CANCEL, Selection((cancelled,))))
        other = bench.spool.end_attempt(AttemptEnd(ended, begun.id, START, "", "", (done(0),)))
        await asyncio.gather(end, other)

    bench.run(together())
    assert bench.states(cancelled) + bench.states(ended) == ["cancelled", "delivered"]
    assert bench.body_files() == []


@pytest.mark.parametrize("message_id", ["", "nonsense", "ffffffffffffffff", "+00000000000000f", "0" * 15 + "٣"])
def test_an_operator_who_names_no_message_gets_an_answer(bench, message_id):
    with pytest.raises(StoreError):
        bench.act(Verb.RETRY, message_id)
    with pytest.raises(StoreError):
        bench.act(Verb.CANCEL, message_id)


def test_a_message_nobody_knows_is_none(bench):
    assert bench.run(bench.spool.message("0" * 16)) is None


def test_counts_tell_what_waits_and_since_when(bench):
    empty = bench.run(bench.spool.counts())
    assert (empty.recipients, empty.messages, empty.oldest) == ({"queued": 0, "deferred": 0, "held": 0}, 0, None)
    first = bench.enqueue("a@x.example", "b@x.example")
    bench.clock.time += 5
    second, third = bench.enqueue(), bench.enqueue()
    begun = bench.begin(first, 0)
    bench.end(first, begun.id, deferred(0, START + 30))
    begun = bench.begin(second)
    bench.end(second, begun.id, done(0, EventKind.HELD))
    counts = bench.run(bench.spool.counts())
    assert counts.recipients == {"queued": 2, "deferred": 1, "held": 1}
    assert (counts.messages, counts.oldest) == (3, START)
    bench.act(Verb.CANCEL, first)
    bench.finish(third)
    counts = bench.run(bench.spool.counts())
    assert (counts.recipients["held"], counts.messages, counts.oldest) == (1, 1, START + 5)


def test_what_is_held_is_neither_due_nor_gone(bench):
    message_id = bench.enqueue()
    begun = bench.begin(message_id)
    bench.end(message_id, begun.id, done(0, EventKind.HELD))
    assert bench.due(until=START + 1e9) == []
    assert bench.run(bench.spool.read_content(message_id)) == CONTENT
    assert bench.act(Verb.CANCEL, message_id) == [(message_id, 0)]
    assert bench.states(message_id) == ["cancelled"]
    assert bench.run(bench.spool.counts()).messages == 0


# --- the end -------------------------------------------------------------------------------------------------


def test_what_tells_a_repetition_outlives_a_restart(bench):
    old = bench.enqueue(digest=b"1" * 16)
    bench.clock.time += 100
    new = bench.enqueue(digest=b"2" * 16)
    bench.enqueue()
    bench.restart()
    known = [(digest, f"{number:016x}", at) for digest, number, at in bench.run(bench.spool.digests(START, 10))]
    assert known == [(b"1" * 16, old, START), (b"2" * 16, new, START + 100)]
    assert [digest for digest, _, _ in bench.run(bench.spool.digests(START + 50, 10))] == [b"2" * 16]
    assert [digest for digest, _, _ in bench.run(bench.spool.digests(START, 1))] == [b"2" * 16]


def test_closing_commits_what_was_asked_before(bench):
    messages = [bench.message() for _ in range(50)]

    async def ask_and_close():
        asked = [asyncio.ensure_future(bench.spool.enqueue(message)) for message in messages]
        await asyncio.sleep(0)
        await bench.spool.close()
        await asyncio.gather(*asked)

    bench.run(ask_and_close())
    bench.open()
    assert bench.due_ids() == [message.id for message in messages]


def test_a_closed_spool_takes_nothing_more(bench):
    spool, message = bench.spool, bench.message()
    bench.close()
    with pytest.raises(StoreError, match="closed"):
        bench.run(spool.enqueue(message))


def test_a_caller_who_goes_away_takes_nothing_with_it(bench):
    """Its message may be stored; the others of the commit are."""

    async def leave() -> list[NewMessage]:
        messages = [bench.message() for _ in range(3)]
        tasks = [asyncio.create_task(bench.spool.enqueue(message)) for message in messages]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return messages

    messages = bench.run(leave())
    assert {messages[0].id, messages[2].id} <= set(bench.due_ids())


def test_urgent_mail_is_found_by_its_priority_while_it_waits(bench):
    for priority in (None, 0, -5, 2, 9):
        bench.run(bench.spool.enqueue(bench.message(priority=priority)))
    bench.run(bench.spool.enqueue(bench.message(priority=7, hold_until=START + 60)))
    bench.restart()
    found = bench.run(bench.spool.urgent(START, 10))
    assert [one.envelope.priority for one in found] == [9, 2]
    assert [one.envelope.priority for one in bench.run(bench.spool.urgent(START + 60, 2))] == [9, 7]
    bench.finish(found[0].id)
    assert [one.envelope.priority for one in bench.run(bench.spool.urgent(START, 10))] == [2]
