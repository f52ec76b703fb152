"""Dead letters: whose text is kept, for how long, and that each is sent again once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from spool_kit import CONTENT, START, Bench, ManualClock

from relay.mail.envelope import Recipient
from relay.mail.errors import StoreError
from relay.mail.event import EventKind
from relay.store import dead
from relay.store.spool_verbs import Selection, Verb

BIG = b"Subject: big\r\n\r\n" + b"x" * 2000
NOBODY_AGED = START - 1e9
MUCH = 10**12


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        one = Bench(tmp_path, ManualClock(), runner)
        one.open()
        yield one
        one.close()


def fail(bench: Bench, *addresses: str, kind: EventKind = EventKind.BOUNCED, **options: Any) -> str:
    """A message whose first recipient failed; the others were delivered."""
    message_id = bench.enqueue(*addresses or ("a@x.example",), **options)
    for index in range(1, len(addresses)):
        bench.finish(message_id, index)
    bench.finish(message_id, 0, kind=kind)
    return message_id


def listed(bench: Bench, limit: int = 1000, after: str | None = None, **conditions: Any) -> list[str]:
    found, _ = bench.run(bench.spool.dead(Selection(**conditions), after, limit))
    return [one["id"] for one in found]


def bury(bench: Bench, before: float = NOBODY_AGED, largest: int = MUCH, limit: int = 100) -> int:
    return bench.run(bench.spool.bury(before, largest, limit))


@pytest.mark.parametrize("content", [CONTENT, BIG], ids=["row", "file"])
@pytest.mark.parametrize("kind", [EventKind.BOUNCED, EventKind.EXPIRED])
def test_what_failed_keeps_its_text_over_a_restart_for_the_recipients_that_failed(
    bench: Bench, content: bytes, kind: EventKind
) -> None:
    recipients = (Recipient("a@x.example", ("FAILURE",), "rfc822;o@x"), Recipient("b@x.example"))
    message_id = bench.enqueue(recipients=recipients, content=content, envid="E1", tags=("t",))
    bench.finish(message_id, 0, kind=kind)
    assert listed(bench) == []
    bench.finish(message_id, 1)
    bench.restart()
    assert listed(bench) == [message_id]
    letter, kept = bench.run(bench.spool.dead_letter(message_id))
    assert kept == content
    assert letter.envelope.recipients == recipients[:1]
    assert (letter.envelope.envid, letter.tags, letter.account, letter.again) == ("E1", ("t",), "acme", None)
    assert bench.run(bench.spool.counts()).messages == 0


@pytest.mark.parametrize("content", [CONTENT, BIG], ids=["row", "file"])
def test_what_was_delivered_or_cancelled_keeps_nothing(bench: Bench, content: bytes) -> None:
    bench.finish(bench.enqueue(content=content), 0)
    bench.act(Verb.CANCEL, bench.enqueue(content=content))
    assert (listed(bench), bench.body_files()) == ([], [])


def test_letters_are_forgotten_by_age_and_the_oldest_beyond_the_size_with_their_files(bench: Bench) -> None:
    first = fail(bench, content=BIG)
    bench.clock.time += 100
    second, third = fail(bench, content=BIG), fail(bench)
    assert bury(bench) == 0
    assert bury(bench, before=START + 50) == 1
    assert (listed(bench), bench.body_files()) == ([second, third], [second])
    assert bench.run(bench.spool.dead_letter(first)) is None
    assert bury(bench, largest=len(CONTENT)) == 1
    assert (listed(bench), bench.body_files()) == ([third], [])
    assert bury(bench, largest=0) == 1
    assert bury(bench, largest=0) == 0


def test_a_message_can_be_looked_up_as_long_as_its_text_is_kept(bench: Bench) -> None:
    message_id = fail(bench)
    bench.clock.time += 1000
    assert bench.run(bench.spool.prune(bench.clock.now(), 10)) == 0
    bury(bench, before=bench.clock.now())
    assert bench.run(bench.spool.prune(bench.clock.now(), 10)) == 1
    assert bench.run(bench.spool.message(message_id)) is None


def test_every_filter_narrows_and_pages_follow_each_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead, "STRETCH", 3)
    ids = [fail(bench, f"a@{n % 2}.example", "b@other.example", account="shop" if n < 4 else "bank") for n in range(8)]
    bench.clock.time += 10
    late = fail(bench, reverse_path=None)
    assert listed(bench) == [*ids, late]
    assert listed(bench, account="shop") == ids[:4]
    assert listed(bench, domain="1.example") == ids[1::2]
    assert listed(bench, domain="other.example") == []
    assert listed(bench, sender="<>") == [late]
    assert listed(bench, before=START + 1) == ids
    assert listed(bench, ids=(ids[7], ids[2]), account="bank") == [ids[7]]
    seen, after = [], None
    while True:
        found, after = bench.run(bench.spool.dead(Selection(), after, 2))
        assert len(found) <= 2
        seen += [one["id"] for one in found]
        if after is None:
            break
    assert seen == [*ids, late]


@pytest.mark.parametrize("content", [CONTENT, BIG], ids=["row", "file"])
def test_a_letter_is_sent_again_once_and_refers_to_the_old_one(bench: Bench, content: bytes) -> None:
    message_id = fail(bench, content=content)
    one, other = bench.message(content=content), bench.message(content=content)

    async def both() -> list[bool]:
        send = bench.spool.send_again
        return list(await asyncio.gather(send(message_id, one), send(message_id, other)))

    sent = bench.run(both())
    assert sorted(sent) == [False, True]
    if sent[1]:  # whose body file was synced first
        one, other = other, one
    assert bench.due_ids() == [one.id]
    assert bench.describe(one.id)["events"][0]["reply"] == f"again, after {message_id}"
    assert bench.run(bench.spool.message(other.id)) is None
    files = [message_id, one.id] if content == BIG else []
    assert bench.body_files() == sorted(files)
    bench.restart()
    assert bench.body_files() == sorted(files)
    letter, _ = bench.run(bench.spool.dead_letter(message_id))
    assert letter.again == one.id
    assert bench.run(bench.spool.send_again("0" * 16, bench.message())) is False


def test_a_letter_whose_file_is_gone_is_said_so(bench: Bench) -> None:
    message_id = fail(bench, content=BIG)
    (bench.folder / "3.bodies" / message_id[-2:] / message_id).unlink()
    with pytest.raises(StoreError, match="cannot read the message body"):
        bench.run(bench.spool.dead_letter(message_id))
