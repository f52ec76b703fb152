"""What the operator's verbs choose: every filter, alone and together, on a real spool."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from spool_kit import START, Bench, ManualClock

from relay.mail.event import EventKind
from relay.ports import AttemptEnd, AttemptStart, RecipientResult
from relay.store import spool_verbs
from relay.store.ids import to_number
from relay.store.spool_verbs import Act, Change, Selection, Verb


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        one = Bench(tmp_path, ManualClock(), runner)
        one.open()
        yield one
        one.close()


def chosen(bench: Bench, verb: Verb = Verb.HOLD, **conditions: object) -> list[tuple[str, int]]:
    """What a dry run names."""
    acted = bench.run(bench.spool.act(Act(verb, Selection(**conditions), dry_run=True)))  # type: ignore[arg-type]
    return [(one.message_id, one.index) for one in acted]


def deferred(bench: Bench, message_id: str) -> None:
    begun = bench.begin(message_id, 0)
    later = RecipientResult(0, "a@x.example", EventKind.DEFERRED, "451 4.3.0 Later", START + 500)
    bench.end(message_id, begun.id, later)


def test_each_condition_narrows_and_all_hold_together(bench: Bench) -> None:
    old = bench.enqueue("a@x.example", "b@Y.example", account="shop", reverse_path="News@Shop.example")
    bench.clock.time += 3600
    young = bench.enqueue("c@x.example", "d@sub.x.example", account="bank", reverse_path=None)
    deferred(bench, young)
    everything = [(old, 0), (old, 1), (young, 0), (young, 1)]
    assert chosen(bench) == everything
    assert chosen(bench, account="shop") == everything[:2]
    assert chosen(bench, domain="X.example") == [(old, 0), (young, 0)]
    assert chosen(bench, domain="y.example") == [(old, 1)]
    assert chosen(bench, sender="news@shop.example") == everything[:2]
    assert chosen(bench, sender="<>") == everything[2:]
    assert chosen(bench, before=START + 1) == everything[:2]
    assert chosen(bench, state="deferred") == [(young, 0)]
    assert chosen(bench, ids=(young,), domain="sub.x.example") == [(young, 1)]
    assert chosen(bench, account="shop", domain="nobody.example") == []
    assert chosen(bench, domain="%") == chosen(bench, sender="' OR 1=1 --") == []


def test_a_verb_means_only_whom_it_can_change(bench: Bench) -> None:
    message_id = bench.enqueue("a@x.example", "b@x.example")
    bench.finish(message_id, 1)
    assert chosen(bench, Verb.RELEASE) == []
    assert bench.act(Verb.HOLD, message_id) == [(message_id, 0)]
    assert bench.act(Verb.HOLD, message_id) == bench.act(Verb.RETRY, message_id) == []
    assert chosen(bench, Verb.CANCEL) == [(message_id, 0)]
    assert bench.act(Verb.RELEASE, message_id) == [(message_id, 0)]
    assert bench.kinds(message_id) == ["queued", "delivered", "held", "released"]


def test_what_is_held_keeps_its_last_answer_and_its_attempts_and_is_due_when_released(bench: Bench) -> None:
    message_id = bench.enqueue("a@x.example")
    deferred(bench, message_id)
    bench.act(Verb.HOLD, message_id)
    bench.restart()
    (held,) = bench.run(bench.spool.message(message_id))["recipients"]
    assert (held["state"], held["attempts"], held["reply"]) == ("held", 1, "451 4.3.0 Later")
    assert bench.due(until=START + 1e9) == []
    bench.clock.time += 10
    bench.act(Verb.RELEASE, message_id)
    assert bench.due_ids() == [message_id]
    (again,) = bench.run(bench.spool.message(message_id))["recipients"]
    assert (again["state"], again["attempts"]) == ("queued", 1)


@pytest.mark.parametrize("verb", [Verb.HOLD, Verb.CANCEL, Verb.RETRY])
def test_what_is_in_flight_is_marked_and_left(bench: Bench, verb: Verb) -> None:
    message_id = bench.enqueue("a@x.example", "b@x.example")
    bench.begin(message_id, 1)
    acted = bench.run(bench.spool.act(Act(verb, Selection((message_id,)))))
    assert [(one.index, one.in_flight) for one in acted] == [(0, False), (1, True)]
    assert bench.states(message_id)[1] == "queued"


def test_an_attempt_begun_between_choice_and_change_is_seen_and_left(bench: Bench) -> None:
    """The reader chooses; the writer asks again."""
    message_id = bench.enqueue("a@x.example")

    async def together() -> tuple[tuple[int, ...], list[bool]]:
        start = AttemptStart(message_id, (0,), "direct", "x.example", bench.clock.now())
        holding = asyncio.ensure_future(bench.spool.act(Act(Verb.HOLD, Selection((message_id,)))))
        begun = await bench.spool.begin_attempt(start)
        return begun.recipients, [one.in_flight for one in await holding]

    assert bench.run(together()) == ((0,), [True])
    assert bench.states(message_id) == ["queued"]


def test_what_ended_between_choice_and_change_is_not_touched(bench: Bench) -> None:
    message_id, other = bench.enqueue("a@x.example"), bench.enqueue("a@x.example")
    read = bench.spool._read

    async def late(*arguments: object) -> object:
        found = await read(*arguments)
        await bench.spool._writer.submit(Change(Act(Verb.CANCEL, Selection()), ((to_number(message_id), 0),), 0))
        return found

    bench.spool._read = late
    acted = bench.run(bench.spool.act(Act(Verb.HOLD, Selection())))
    bench.spool._read = read
    assert [one.message_id for one in acted] == [other]
    assert (bench.states(message_id), bench.states(other)) == (["cancelled"], ["held"])


def test_a_queue_of_several_stretches_is_walked_to_its_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_verbs, "STRETCH", 3)
    ids = [bench.enqueue("a@x.example", f"b@{n % 2}.example") for n in range(10)]
    assert chosen(bench) == [(message_id, n) for message_id in ids for n in range(2)]
    assert chosen(bench, domain="1.example") == [(message_id, 1) for message_id in ids[1::2]]
    assert chosen(bench, domain="nobody.example") == []
    assert chosen(bench, ids=(ids[9], ids[0])) == [(ids[0], 0), (ids[0], 1), (ids[9], 0), (ids[9], 1)]


def test_a_way_an_operator_chose_is_kept_over_a_restart_until_it_is_taken_back(bench: Bench) -> None:
    message_id = bench.enqueue("a@x.example", "b@y.example")
    deferred(bench, message_id)
    act = Act(Verb.REROUTE, Selection((message_id,), domain="x.example"), via="smarthost:b")
    assert [one.index for one in bench.run(bench.spool.act(act))] == [0]
    bench.restart()
    (message,) = bench.due()
    assert [(one.index, one.via, one.attempts) for one in message.due] == [(0, "smarthost:b", 1), (1, "", 0)]
    assert [one["via"] for one in bench.describe(message_id)["recipients"]] == ["smarthost:b", None]
    assert bench.describe(message_id)["events"][-1]["reply"] == "smarthost:b"
    bench.run(bench.spool.act(Act(Verb.REROUTE, Selection((message_id,)))))
    assert [one.via for one in bench.due()[0].due] == ["", ""]
    assert bench.kinds(message_id) == ["queued", "deferred", "rerouted", "rerouted", "rerouted"]


def test_an_attempt_another_way_than_the_chosen_one_finds_nobody(bench: Bench) -> None:
    """It was scheduled before the operator chose."""
    message_id = bench.enqueue("a@x.example", "b@x.example")
    bench.run(bench.spool.act(Act(Verb.REROUTE, Selection((message_id,)), via="smarthost:b")))
    assert bench.begin(message_id, 0).recipients == ()
    start = AttemptStart(message_id, (0, 1), "smarthost:b", "", bench.clock.now())
    assert bench.run(bench.spool.begin_attempt(start)).recipients == (0, 1)


def test_what_is_held_stays_held_when_it_is_given_another_way(bench: Bench) -> None:
    message_id = bench.enqueue("a@x.example")
    bench.act(Verb.HOLD, message_id)
    bench.run(bench.spool.act(Act(Verb.REROUTE, Selection((message_id,)), via="smarthost:b")))
    assert bench.states(message_id) == ["held"]
    assert bench.due() == []
    bench.act(Verb.RELEASE, message_id)
    assert [one.via for one in bench.due()[0].due] == ["smarthost:b"]


@pytest.mark.parametrize("meanwhile", ["nothing", "begun", "ended"])
def test_waiting_recipients_end_with_their_notice_or_not_at_all(bench: Bench, meanwhile: str) -> None:
    message_id = bench.enqueue("a@x.example", "b@x.example", content=b"Subject: x\r\n\r\n" + b"x" * 2000)
    bench.act(Verb.HOLD, message_id)
    bench.act(Verb.RELEASE, message_id)
    if meanwhile == "begun":
        bench.begin(message_id, 1)
    elif meanwhile == "ended":
        bench.finish(message_id, 1)
    notice = bench.message("sender@b.example", reverse_path=None)
    results = tuple(RecipientResult(n, "c@d.example", EventKind.EXPIRED, "554 5.4.7 x", counts=False) for n in (0, 1))
    end = AttemptEnd(message_id, 0, bench.clock.now(), "", "", results, notice)
    ended = bench.run(bench.spool.end_waiting(end))
    assert ended is (meanwhile == "nothing")
    bench.restart()
    assert (bench.states(message_id)[0] == "expired") is ended
    assert (bench.run(bench.spool.message(notice.id)) is not None) is ended
    found, _ = bench.run(bench.spool.dead(Selection(), None, 10))
    assert ([one["id"] for one in found] == [message_id]) is ended


def test_many_are_walked_along_in_pages_each_recipient_once(bench: Bench) -> None:
    ids = [bench.enqueue("a@x.example", "b@x.example", "c@x.example") for _ in range(5)]
    after, seen = None, []
    while acted := bench.run(bench.spool.act(Act(Verb.HOLD, Selection(), after=after, limit=4))):
        seen += [(one.message_id, one.index) for one in acted]
        after = seen[-1]
    assert seen == [(message_id, n) for message_id in ids for n in range(3)]
    assert bench.run(bench.spool.counts()).recipients["held"] == 15
