"""Recipients in doubt: kept over a restart, never sent to before it is settled, and asked about alone."""

from __future__ import annotations

from typing import Any

import pytest
from spool_kit import START, THRESHOLD, done

from relay.mail.event import EventKind
from relay.ports import AttemptStart, Doubt, RecipientResult
from relay.store.spool import SqliteSpool
from relay.store.spool_verbs import Verb

DOUBT = Doubt("provider:a", START, asked=1, missed=1, partly=True)


def lose(bench: Any, message_id: str, *indexes: int, doubt: Doubt | None = DOUBT) -> None:
    """An attempt whose answer was lost."""
    begun = bench.begin(message_id, *indexes)
    at = bench.clock.now()
    results = [
        RecipientResult(n, "c@d.example", EventKind.IN_DOUBT, "451 4.4.2 lost", at, doubt=doubt) for n in indexes
    ]
    bench.end(message_id, begun.id, *results)


def begin(bench: Any, message_id: str, *indexes: int, asks: bool, by: str = "provider:a") -> Any:
    return bench.run(bench.spool.begin_attempt(AttemptStart(message_id, indexes, by, "", bench.clock.now(), asks=asks)))


def restart(bench: Any, in_doubt: Any, repeats: tuple[str, ...] = ()) -> None:
    async def opened() -> SqliteSpool:
        return SqliteSpool.open(
            bench.folder, 3, bench.clock, file_threshold=THRESHOLD, in_doubt=in_doubt, repeats=repeats
        )

    bench.close()
    bench.spool = bench.run(opened())


def doubts(bench: Any) -> list[Doubt | None]:
    return [one.doubt for message in bench.due() for one in message.due]


def test_a_doubt_is_read_as_it_was_written_also_after_a_restart(bench: Any) -> None:
    message_id = bench.enqueue()
    lose(bench, message_id, 0)
    assert doubts(bench) == [DOUBT]
    bench.restart()
    assert doubts(bench) == [DOUBT]
    assert bench.describe(message_id)["recipients"][0]["doubt"]["candidate"] == "provider:a"


def test_only_an_attempt_that_asks_begins_for_who_is_in_doubt_and_only_for_them(bench: Any) -> None:
    message_id = bench.enqueue("a@x.example", "b@x.example")
    lose(bench, message_id, 0)
    assert begin(bench, message_id, 0, 1, asks=False).recipients == (1,)
    asked = begin(bench, message_id, 0, 1, asks=True)
    assert asked.recipients == (0,)
    assert [one["asks"] for one in bench.describe(message_id)["attempts"]] == [False, False, True]


def test_a_result_without_a_doubt_settles_it(bench: Any) -> None:
    message_id = bench.enqueue()
    lose(bench, message_id, 0)
    lose_again = begin(bench, message_id, 0, asks=True)
    bench.end(message_id, lose_again.id, RecipientResult(0, "c@d.example", EventKind.DEFERRED, "451 none", START))
    assert doubts(bench) == [None]
    assert begin(bench, message_id, 0, asks=False).recipients == (0,)
    bench.end(message_id, begin(bench, message_id, 0, asks=False).id, done(0))
    assert bench.states(message_id) == ["delivered"]


@pytest.mark.parametrize("verb", [Verb.RETRY, Verb.REROUTE])
def test_a_verb_that_makes_it_due_or_sends_it_another_way_leaves_the_doubt(bench: Any, verb: Verb) -> None:
    message_id = bench.enqueue()
    lose(bench, message_id, 0)
    assert bench.act(verb, message_id, **({"via": "smarthost:b"} if verb is Verb.REROUTE else {}))
    assert doubts(bench) == [DOUBT]
    assert begin(bench, message_id, 0, asks=False, by="smarthost:b").recipients == ()
    assert begin(bench, message_id, 0, asks=True).recipients == (0,)


def test_what_an_operator_holds_and_releases_is_asked_about_then(bench: Any) -> None:
    message_id = bench.enqueue()
    lose(bench, message_id, 0)
    bench.act(Verb.HOLD, message_id)
    bench.act(Verb.RELEASE, message_id)
    assert doubts(bench) == [DOUBT]


def test_an_interrupted_attempt_is_asked_about_where_the_policy_says_so(bench: Any) -> None:
    message_id = bench.enqueue("a@x.example", "b@x.example")
    begin(bench, message_id, 1, asks=False)
    bench.clock.time += 60
    restart(bench, "query")
    assert doubts(bench) == [None, Doubt("provider:a", START, together=1)]
    assert bench.kinds(message_id) == ["queued", "in_doubt"]


@pytest.mark.parametrize("in_doubt", ["query", "hold", "retry"])
def test_an_interrupted_question_leaves_the_doubt_as_it_was(bench: Any, in_doubt: str) -> None:
    message_id = bench.enqueue()
    lose(bench, message_id, 0)
    begin(bench, message_id, 0, asks=True)
    bench.clock.time += 60
    restart(bench, in_doubt)
    assert bench.spool.recovered == 1
    assert doubts(bench) == [DOUBT]
    assert bench.kinds(message_id) == ["queued", "in_doubt"]
    assert bench.describe(message_id)["recipients"][0]["attempts"] == 1


@pytest.mark.parametrize("in_doubt", ["query", "hold", "retry"])
def test_an_interrupted_call_that_may_be_repeated_is_bound_to_who_was_called(bench: Any, in_doubt: str) -> None:
    message_id = bench.enqueue()
    begin(bench, message_id, 0, asks=False)
    bench.clock.time += 60
    restart(bench, in_doubt, repeats=("provider:a",))
    assert doubts(bench) == [Doubt("provider:a", START, together=1)]
    assert bench.kinds(message_id) == ["queued", "in_doubt"]


@pytest.mark.parametrize("in_doubt", ["query", "hold", "retry"])
def test_who_waits_for_a_report_does_so_after_a_kill_while_that_was_judged(bench: Any, in_doubt: str) -> None:
    """It was sent, and when is not known any more: a question with a later time would not find it."""
    message_id = bench.enqueue()
    sent = begin(bench, message_id, 0, asks=False)
    at = bench.clock.now()
    awaited = RecipientResult(0, "c@d.example", EventKind.AWAITED, "250 ok", at, remote_id="1", awaits="provider:a")
    bench.end(message_id, sent.id, awaited)
    begin(bench, message_id, 0, asks=False)
    bench.clock.time += 60
    restart(bench, in_doubt, repeats=("provider:a",))
    assert bench.spool.recovered == 1
    [waiting] = [one for message in bench.due() for one in message.due]
    assert (waiting.doubt, waiting.awaits, waiting.attempts) == (None, "provider:a", 1)
    assert bench.kinds(message_id) == ["queued", "awaited"]
