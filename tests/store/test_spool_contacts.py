"""Contacts in a spool: noted in the commit of the event, one row a person, gone only when nothing was added since."""

from __future__ import annotations

import apsw
import pytest
from spool_kit import START, Bench

from relay.mail.envelope import Recipient
from relay.mail.event import EventKind
from relay.ports import AttemptEnd, AttemptStart, Contact, News, RecipientResult, Told, Watch
from relay.store import contacts
from relay.store.spool import open_read_only

ALL = frozenset({"queued", "sent", "delivered", "bounced", "unsubscribed", "complained"})


def watch(bench: Bench, *events: str, name: str = "crm", accounts: tuple[str, ...] = ()) -> None:
    bench.spool.watch([Watch(name, frozenset(events) or ALL - {"queued"}, accounts)])


def attempted(bench: Bench, kind: EventKind, *addresses: str, **options: object) -> str:
    message_id = bench.enqueue(*addresses, **options)
    indexes = tuple(range(len(addresses)))
    begun = bench.run(bench.spool.begin_attempt(AttemptStart(message_id, indexes, "direct", "", bench.clock.now())))
    next_at = bench.clock.now() + 60 if kind is EventKind.DEFERRED else None
    results = tuple(
        RecipientResult(n, address, kind, "250 2.0.0 ok", next_at, remote_id="r-1")
        for n, address in enumerate(addresses)
    )
    bench.run(bench.spool.end_attempt(AttemptEnd(message_id, begun.id, bench.clock.now(), "mx", "", results, None)))
    return message_id


def due(bench: Bench, name: str = "crm", limit: int = 100) -> list[Contact]:
    found: list[Contact] = bench.run(bench.spool.contacts_due(name, bench.clock.now(), limit))
    return found


def told(bench: Bench, *results: Told) -> None:
    bench.run(bench.spool.contacts_told(results))


@pytest.mark.parametrize("kind", [EventKind.SENT, EventKind.DELIVERED, EventKind.BOUNCED])
def test_what_an_attempt_brought_is_noted_with_its_time(bench: Bench, kind: EventKind) -> None:
    watch(bench)
    attempted(bench, kind, "c@d.example", "e@f.example")
    bench.restart()

    found = due(bench)
    assert [(one.address, one.facts, one.erase, one.attempts) for one in found] == [
        ("c@d.example", {kind.value: START}, False, 0),
        ("e@f.example", {kind.value: START}, False, 0),
    ]


def test_what_nobody_hears_is_not_noted(bench: Bench) -> None:
    attempted(bench, EventKind.DELIVERED, "c@d.example")
    watch(bench, "bounced")
    attempted(bench, EventKind.DELIVERED, "c@d.example")
    attempted(bench, EventKind.DEFERRED, "c@d.example")
    watch(bench)
    bench.spool.watch([])
    attempted(bench, EventKind.DELIVERED, "c@d.example")

    assert due(bench) == []


def test_only_the_accounts_that_are_named_are_heard_of(bench: Bench) -> None:
    watch(bench, accounts=("shop", "acme"))
    attempted(bench, EventKind.DELIVERED, "c@d.example", account="acme")
    attempted(bench, EventKind.DELIVERED, "e@f.example", account="other")

    assert [one.address for one in due(bench)] == ["c@d.example"]


def test_who_gets_a_notice_is_no_contact(bench: Bench) -> None:
    watch(bench, *ALL)
    attempted(bench, EventKind.DELIVERED, "c@d.example", reverse_path=None)

    assert due(bench) == []


def test_everybody_a_message_was_accepted_for_is_noted_where_it_is_asked_for(bench: Bench) -> None:
    watch(bench, "queued")
    bench.enqueue(recipients=(Recipient("c@d.example"), Recipient("e@f.example")))

    assert [(one.address, one.facts) for one in due(bench)] == [
        ("c@d.example", {"queued": START}),
        ("e@f.example", {"queued": START}),
    ]


def test_a_report_is_noted_once(bench: Bench) -> None:
    message_id = attempted(bench, EventKind.SENT, "c@d.example")
    watch(bench)
    for _ in range(2):
        bench.run(bench.spool.report([News(message_id, 0, EventKind.COMPLAINED, "k", START + 60, "said")]))

    [found] = due(bench)
    assert found.facts == {"complained": START + 60}
    told(bench, Told(found, done=True))
    bench.run(bench.spool.report([News(message_id, 0, EventKind.COMPLAINED, "k", START + 60, "said")]))
    assert due(bench) == []


def test_one_person_is_one_row_whatever_the_spelling_and_the_number_of_events(bench: Bench) -> None:
    watch(bench)
    for address in ("Ann@D.example", "ann@d.example", "ann@d.example"):
        attempted(bench, EventKind.DELIVERED, address)
        bench.clock.time += 1
    attempted(bench, EventKind.BOUNCED, "ann@d.example")

    [found] = due(bench)
    assert found.facts == {"delivered": START + 2, "bounced": START + 3}
    assert found.since == START


def test_two_recipients_of_one_message_that_are_one_person_are_one_row(bench: Bench) -> None:
    watch(bench)
    attempted(bench, EventKind.DELIVERED, "ann@d.example", "ANN@d.example")

    assert len(due(bench)) == 1


def test_each_platform_has_rows_of_its_own(bench: Bench) -> None:
    bench.spool.watch([Watch("crm", ALL), Watch("news", frozenset({"bounced"}))])
    attempted(bench, EventKind.DELIVERED, "c@d.example")
    attempted(bench, EventKind.BOUNCED, "e@f.example")

    assert [one.address for one in due(bench)] == ["c@d.example", "e@f.example"]
    assert [one.address for one in due(bench, "news")] == ["e@f.example"]


def test_what_was_told_is_gone_unless_more_came_meanwhile(bench: Bench) -> None:
    watch(bench)
    attempted(bench, EventKind.SENT, "c@d.example", "e@f.example")
    first = due(bench)
    bench.clock.time += 5
    attempted(bench, EventKind.BOUNCED, "c@d.example")
    told(bench, *(Told(one, done=True) for one in first))

    [left] = due(bench)
    assert left.facts == {"sent": START, "bounced": START + 5}
    told(bench, Told(left, done=True))
    assert due(bench) == []


def test_what_is_put_off_comes_when_it_is_due_with_its_attempts(bench: Bench) -> None:
    watch(bench)
    attempted(bench, EventKind.SENT, "c@d.example")
    [one] = due(bench)
    told(bench, Told(one, done=False, due_at=START + 30, attempts=1, words="451 4.3.0 no"))

    assert due(bench) == []
    bench.clock.time += 30
    bench.restart()
    [again] = due(bench)
    assert (again.attempts, again.since) == (1, START)


def test_what_was_given_up_waits_for_news_or_the_operator(bench: Bench) -> None:
    watch(bench)
    attempted(bench, EventKind.SENT, "c@d.example", "e@f.example")
    told(bench, *(Told(one, done=False, attempts=3, words="550 5.6.0 no") for one in due(bench)))
    bench.clock.time += 1e6
    assert due(bench) == []
    assert bench.run(bench.spool.contacts_waiting("crm")) == 0

    attempted(bench, EventKind.BOUNCED, "c@d.example")
    [back] = due(bench)
    assert (back.address, back.attempts, set(back.facts)) == ("c@d.example", 0, {"sent", "bounced"})
    assert bench.run(bench.spool.contacts_again("crm")) == 2
    assert len(due(bench)) == 2
    assert bench.run(bench.spool.contacts_forget("crm")) == 2
    assert due(bench) == []


def test_an_erasure_drops_what_waits_and_stands_before_what_comes_after(bench: Bench) -> None:
    watch(bench)
    attempted(bench, EventKind.SENT, "c@d.example")
    [under_way] = due(bench)
    bench.run(bench.spool.contact_erase(["crm", "news"], "C@d.example"))
    told(bench, Told(under_way, done=True))

    [erased] = due(bench)
    assert (erased.erase, erased.facts) == (True, {})
    assert [one.erase for one in due(bench, "news")] == [True]
    attempted(bench, EventKind.DELIVERED, "c@d.example")
    told(bench, Told(erased, done=True))
    [after] = due(bench)
    assert (after.erase, after.facts) == (True, {"delivered": START})


def test_the_longest_due_come_first_and_some_at_a_time(bench: Bench) -> None:
    watch(bench)
    for number in range(5):
        attempted(bench, EventKind.SENT, f"p{4 - number}@d.example")
        bench.clock.time += 1

    assert [one.address for one in due(bench, limit=3)] == ["p4@d.example", "p3@d.example", "p2@d.example"]


def test_an_erasure_comes_before_all_that_waits(bench: Bench) -> None:
    watch(bench)
    attempted(bench, EventKind.SENT, "c@d.example", "e@f.example")
    bench.clock.time += 5
    bench.run(bench.spool.contact_erase(["crm"], "e@f.example"))
    bench.run(bench.spool.contact_erase(["crm"], "x@y.example"))

    assert [one.address for one in due(bench, limit=2)] == ["e@f.example", "x@y.example"]


def test_how_many_wait_is_counted_in_the_index(bench: Bench) -> None:
    plan = bench.spool._reader.execute(f"EXPLAIN QUERY PLAN {contacts._WAITING}", ("crm",)).fetchall()

    assert ["COVERING INDEX contact_due" in step[3] for step in plan] == [True]


def test_a_report_with_a_time_of_the_future_is_told_now(bench: Bench) -> None:
    message_id = attempted(bench, EventKind.SENT, "c@d.example")
    watch(bench)
    bench.run(bench.spool.report([News(message_id, 0, EventKind.UNSUBSCRIBED, "k", START + 1e6, "said")]))

    [found] = due(bench)
    assert found.facts == {"unsubscribed": START + 1e6}


def test_a_reader_beside_the_server_adds_up_what_waits(bench: Bench) -> None:
    watch(bench)
    attempted(bench, EventKind.SENT, "c@d.example", "e@f.example", "g@h.example")
    first, second, _ = due(bench)
    told(bench, Told(first, done=False, words="550 5.6.0 no"))
    told(bench, Told(second, done=False, due_at=START + 9, words="451 4.3.0 later"))
    bench.run(bench.spool.contact_erase(["crm"], "x@y.example"))

    reader = open_read_only(bench.folder / "3.db")
    assert contacts.summary(reader) == [
        {"name": "crm", "waiting": 3, "given_up": 1, "oldest": START, "erasures": 1, "words": "451 4.3.0 later"}
    ]
    assert contacts.given_up(reader, 9) == [{"name": "crm", "address": "c@d.example", "words": "550 5.6.0 no"}]
    assert isinstance(reader, apsw.Connection)
    reader.close()


def test_a_report_that_comes_late_sets_no_time_back(bench: Bench) -> None:
    message_id = attempted(bench, EventKind.SENT, "c@d.example")
    watch(bench)
    for at in (60.0, 30.0):
        bench.run(bench.spool.report([News(message_id, 0, EventKind.COMPLAINED, f"k{at}", START + at, "said")]))

    [found] = due(bench)
    assert found.facts == {"complained": START + 60}


def test_who_is_erased_is_named_as_the_operator_wrote_it(bench: Bench) -> None:
    watch(bench)
    attempted(bench, EventKind.SENT, "c@d.example")
    bench.run(bench.spool.contact_erase(["crm"], "C@d.example"))
    attempted(bench, EventKind.DELIVERED, "c@d.example")

    [found] = due(bench)
    assert (found.address, found.erase) == ("C@d.example", True)


def test_a_verb_over_many_leaves_room_for_mail_in_between(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contacts, "STRETCH", 2)
    watch(bench)
    attempted(bench, EventKind.SENT, *(f"p{number}@d.example" for number in range(5)))
    told(bench, *(Told(one, done=False, words="550 5.6.0 no") for one in due(bench)))
    commits: list[type] = []
    submit = bench.spool._writer.submit
    monkeypatch.setattr(bench.spool._writer, "submit", lambda value: (commits.append(type(value)), submit(value))[1])

    assert bench.run(bench.spool.contacts_again("crm")) == 5
    assert len(due(bench)) == 5
    assert bench.run(bench.spool.contacts_forget("crm")) == 5
    assert due(bench) == []
    assert commits.count(contacts.TellAgain) == commits.count(contacts.Forget) == 3


@pytest.mark.parametrize(
    ("columns", "statement"),
    [
        ("name, person, version", contacts._DONE),
        ("name, person, version, due, attempts, words", contacts._PUT_OFF),
    ],
)
def test_what_was_told_is_found_by_its_key_among_millions(bench: Bench, columns: str, statement: str) -> None:
    reader = open_read_only(bench.folder / "3.db")
    one = ",".join("?" * len(columns.split(",")))
    text = f"EXPLAIN QUERY PLAN WITH v({columns}) AS (VALUES ({one}), ({one})) {statement}"
    steps = [row[3] for row in reader.execute(text, [1] * (2 * len(columns.split(","))))]
    reader.close()

    assert any(step.startswith("SEARCH contact USING PRIMARY KEY") for step in steps), steps
    assert "SCAN contact" not in steps
