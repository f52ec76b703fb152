"""The duplicate shield: what a client sends again is known, in any worker, after a restart, and for a while only."""

from __future__ import annotations

import asyncio
from hashlib import blake2b

import pytest
from gate import CLIENT, ENVELOPE, Gate, restricted

from relay.intake.shield import PENDING, Memory, Shield, digest_of
from relay.mail.envelope import Envelope, Recipient
from relay.mail.errors import StoreError
from relay.mail.session import Login, SenderRights, Session
from relay.ports import LongMessage
from relay.settings import LimitSettings

MESSAGE = b"From: a@b.example\r\nMessage-ID: <1@b.example>\r\n\r\nHi\r\n"
APP = restricted()
OTHER = Session("192.0.2.1", 4000, "client.example", "ESMTP", "test", None, Login("acme", "cron", SenderRights()))
ONE, TWO = b"1" * 16, b"2" * 16
BARRED = 3600.0


class Moving:
    at = 0.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


def send(gate: Gate, content: bytes = MESSAGE, session: Session = APP, envelope: Envelope = ENVELOPE) -> str:
    return str(asyncio.run(gate.accept.accept(session, envelope, content)))


@pytest.fixture
def gate() -> Gate:
    gate = Gate(duplicate_window=BARRED)
    gate.spool.new_id = lambda: "0019abcdef012345"
    return gate


def test_a_repetition_is_answered_with_the_first_id_and_not_stored(gate: Gate) -> None:
    first = send(gate)
    assert send(gate) == first.replace("queued as", "duplicate of")
    assert len(gate.spool.stored) == len(gate.delivered) == 1
    assert gate.told[-1] == f"repeated {gate.spool.stored[0].id}"


def test_recipients_in_another_order_are_a_repetition(gate: Gate) -> None:
    one, two = Recipient("bob@ours.example"), Recipient("eve@ours.example")
    send(gate, envelope=Envelope("a@b.example", (one, two)))
    assert "duplicate of" in send(gate, envelope=Envelope("a@b.example", (two, one)))


@pytest.mark.parametrize(
    ("content", "session", "envelope"),
    [
        pytest.param(MESSAGE + b"!\r\n", APP, ENVELOPE, id="body"),
        pytest.param(MESSAGE.replace(b"<1@", b"<2@"), APP, ENVELOPE, id="message-id"),
        pytest.param(MESSAGE, OTHER, ENVELOPE, id="login"),
        pytest.param(MESSAGE, APP, Envelope("a@b.example", (Recipient("eve@ours.example"),)), id="recipient"),
        pytest.param(MESSAGE, APP, Envelope("c@b.example", ENVELOPE.recipients), id="sender"),
    ],
)
def test_what_differs_is_a_message_of_its_own(gate: Gate, content: bytes, session: Session, envelope: Envelope) -> None:
    send(gate)
    assert "queued as" in send(gate, content, session, envelope)


@pytest.mark.parametrize(
    ("content", "session"),
    [
        pytest.param(b"From: a@b.example\r\n\r\nHi\r\n", APP, id="no Message-ID of the client's"),
        pytest.param(MESSAGE, CLIENT, id="nobody logged in"),
    ],
)
def test_what_cannot_be_told_from_a_second_letter_is_stored_twice(gate: Gate, content: bytes, session: Session) -> None:
    assert "queued as" in send(gate, content, session)
    assert "queued as" in send(gate, content, session)


def test_a_window_of_nothing_stores_all(gate: Gate) -> None:
    gate.accept.reconfigure(LimitSettings(duplicate_window=0), frozenset())
    send(gate)
    assert "queued as" in send(gate)


def test_a_commit_that_failed_is_forgotten(gate: Gate) -> None:
    gate.spool.error = StoreError("disk I/O error")
    assert send(gate).startswith("451")
    gate.spool.error = None
    assert "queued as" in send(gate)


def test_a_bug_on_the_way_to_the_disk_is_forgotten(gate: Gate) -> None:
    gate.spool.on_commit = lambda: 1 // 0
    with pytest.raises(ZeroDivisionError):
        send(gate)
    gate.spool.on_commit = lambda: None
    assert "queued as" in send(gate)


def test_a_repetition_during_the_commit_is_asked_to_come_again(gate: Gate) -> None:
    """A 250 for it would be a promise that the commit may still break."""
    answers: list[str] = []

    async def two() -> None:
        first = asyncio.create_task(gate.accept.accept(APP, ENVELOPE, MESSAGE))
        enqueue, go = gate.spool.enqueue, asyncio.Event()

        async def slow(message: object) -> object:
            await go.wait()
            return await enqueue(message)

        gate.spool.enqueue = slow
        await asyncio.sleep(0)
        answers.append(str(await gate.accept.accept(APP, ENVELOPE, MESSAGE)))
        go.set()
        answers.append(str(await first))

    asyncio.run(two())
    assert answers[0] == "450 4.3.0 The same message is being stored at this moment, try again"
    assert "queued as" in answers[1]


class Nowhere:
    """A file that a long message went to."""

    def discard(self) -> None: ...


def test_a_message_that_went_to_disk_is_the_same_as_one_that_did_not() -> None:
    long = LongMessage(MESSAGE[:30], len(MESSAGE), blake2b(MESSAGE).digest(), False, False, Nowhere())  # type: ignore[arg-type] -- only its digest counts
    assert digest_of("app", ENVELOPE, long) == digest_of("app", ENVELOPE, MESSAGE)


def test_the_spool_keeps_what_tells_a_repetition(gate: Gate) -> None:
    send(gate)
    assert gate.spool.stored[0].digest == digest_of("app", ENVELOPE, MESSAGE)


def test_workers_know_of_each_others_messages() -> None:
    memory = Memory(2)
    one, two = Shield(memory, 0, Moving(), BARRED), Shield(memory, 1, Moving(), BARRED)
    assert one.begin(ONE) is None
    assert two.begin(ONE) == PENDING
    one.stored(ONE, 7)
    assert two.begin(ONE) == 7
    assert two.begin(TWO) is None


def test_a_message_is_known_for_the_window_alone() -> None:
    clock = Moving()
    shield = Shield(Memory(1), 0, clock, 60.0)
    shield.stored(ONE, 7)
    clock.at = 59.9
    assert shield.begin(ONE) == 7
    clock.at = 60.0
    assert shield.begin(ONE) is None


def test_what_was_stored_before_the_start_has_the_rest_of_its_window() -> None:
    clock = Moving()
    shield = Shield(Memory(1), 0, clock, 60.0)
    shield.stored(ONE, 7, age=50.0)
    shield.stored(TWO, 8, age=60.0)
    clock.at = 9.9
    assert shield.begin(ONE) == 7
    assert shield.begin(TWO) is None
    clock.at = 10.0
    assert shield.begin(ONE) is None


def test_a_commit_that_never_came_back_bars_nobody_for_longer_than_a_minute() -> None:
    clock = Moving()
    shield = Shield(Memory(1), 0, clock, BARRED)
    shield.begin(ONE)
    clock.at = 60.0
    assert shield.begin(ONE) is None


def test_without_room_the_one_that_expires_first_is_forgotten() -> None:
    clock = Moving()
    shield = Shield(Memory(1, 4), 0, clock, BARRED)
    digests = [bytes([number]) * 16 for number in range(5)]
    for digest in digests:
        clock.at += 1
        shield.stored(digest, digest[0] + 100)
    assert shield.begin(digests[0]) is None
    assert [shield.begin(digest) for digest in digests[2:]] == [102, 103, 104]


def test_a_half_written_entry_is_no_entry() -> None:
    """A 250 with another message's id would lose this one."""
    memory = Memory(2, 4)
    Shield(memory, 0, Moving(), BARRED).stored(ONE, 7)
    memory.octets[16] ^= 1
    assert Shield(memory, 1, Moving(), BARRED).begin(ONE) is None
