"""A dead letter as a new message: its bytes below a new trace field, and no way to go round for ever."""

from __future__ import annotations

from dataclasses import replace

from relay.intake.again import again
from relay.mail.envelope import Envelope, Recipient
from relay.mail.reply import Reply
from relay.ports import NewMessage
from relay.store.dead import DeadLetter

NEW, OLD = "1a210fa33fb00001", "1a210fa33fb00000"
CONTENT = b"Received: from a\r\nSubject: x\r\n\r\nbody\r\n"
FAILED = (Recipient("a@x.example", ("FAILURE",), "rfc822;o@x"),)


def letter() -> DeadLetter:
    envelope = Envelope("s@b.example", FAILED, ret="HDRS", envid="E1", expires_at=1.0)
    return DeadLetter(OLD, "shop", "app", envelope, "<1@b.example>", ("t",), None, CONTENT)


def made(*to: str, received: int = 50) -> NewMessage | Reply:
    return again(letter(), CONTENT, to, NEW, "relay.example", received, 1_800_000_000.0)


def test_it_goes_to_whom_it_failed_to_reach_with_its_bytes_as_they_were() -> None:
    message = made()
    assert isinstance(message, NewMessage)
    assert message.envelope == replace(letter().envelope, expires_at=None)
    assert (message.id, message.account, message.username, message.tags) == (NEW, "shop", "app", ("t",))
    head = b"Received: by relay.example (Sendrelay, 1a210fa33fb00000 again)\r\n\tid 1a210fa33fb00001; "
    assert message.content.startswith(head)
    assert message.content.endswith(b"\r\n" + CONTENT)


def test_other_recipients_take_the_place_of_all_and_each_gets_one_copy() -> None:
    message = made("n@y.example", "ü@y.example", "n@y.example")
    assert isinstance(message, NewMessage)
    assert [one.address for one in message.envelope.recipients] == ["n@y.example", "ü@y.example"]
    assert message.envelope.recipients[0] == Recipient("n@y.example")
    assert message.envelope.smtputf8


def test_what_went_round_too_often_is_refused() -> None:
    answer = made(received=0)
    assert isinstance(answer, Reply)
    assert str(answer).startswith("554 5.4.6")
