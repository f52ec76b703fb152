"""What the operator's verbs choose: every filter, alone and together, on a real spool."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from spool_kit import START, Bench, ManualClock

from relay.mail.event import EventKind
from relay.ports import AttemptStart, RecipientResult
from relay.store.spool_verbs import Act, Selection, Verb


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


def test_an_attempt_asked_for_in_the_same_commit_finds_nobody_who_was_held(bench: Bench) -> None:
    message_id = bench.enqueue("a@x.example")

    async def together() -> tuple[int, ...]:
        start = AttemptStart(message_id, (0,), "direct", "x.example", bench.clock.now())
        begun, _ = await asyncio.gather(
            bench.spool.begin_attempt(start), bench.spool.act(Act(Verb.HOLD, Selection((message_id,))))
        )
        indexes: tuple[int, ...] = begun.recipients
        return indexes

    assert bench.run(together()) == ()
    assert bench.states(message_id) == ["held"]


def test_many_are_walked_along_in_pages_each_recipient_once(bench: Bench) -> None:
    ids = [bench.enqueue("a@x.example", "b@x.example", "c@x.example") for _ in range(5)]
    after, seen = None, []
    while acted := bench.run(bench.spool.act(Act(Verb.HOLD, Selection(), after=after, limit=4))):
        seen += [(one.message_id, one.index) for one in acted]
        after = seen[-1]
    assert seen == [(message_id, n) for message_id in ids for n in range(3)]
    assert bench.run(bench.spool.counts()).recipients["held"] == 15
