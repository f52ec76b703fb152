"""The single gate: what it refuses, what it puts before a message, and that 250 means stored."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from gate import AT, CLIENT, ENVELOPE, Gate, Still, restricted
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.envelope import Envelope, Recipient
from relay.mail.errors import StoreError
from relay.mail.line_ends import fixed_line_ends, has_bare_line_ends
from relay.mail.session import Session
from relay.ports import QueuedMessage, SpfResult
from relay.settings import LimitSettings
from relay.store.spool import SqliteSpool

MESSAGE = b"From: a@b.example\r\nDate: x\r\nMessage-ID: <1@b.example>\r\n\r\nHi\r\n"


def ask(gate: Gate, content: bytes, session: Session = CLIENT, envelope: Envelope = ENVELOPE, **options: Any) -> str:
    return str(asyncio.run(gate.accept.accept(session, envelope, content, **options)))


def test_250_names_the_id_after_the_commit_and_delivery_begins() -> None:
    """Until the commit nobody is told and nothing is delivered."""
    gate = Gate()
    seen: list[int] = []
    gate.spool.on_commit = lambda: seen.append(len(gate.told) + len(gate.delivered))

    assert ask(gate, MESSAGE) == "250 2.0.0 Ok: queued as id1"

    assert seen == [0]
    assert [message.id for message in gate.delivered] == ["id1"]
    assert gate.told == gate.delivered


def test_a_bug_after_the_commit_is_still_a_250() -> None:
    """A 451 would bring a second copy of what is on disk."""
    gate = Gate()
    bug = RuntimeError("scheduler")

    def deliver(message: QueuedMessage) -> None:
        raise bug

    gate.accept._deliver = deliver

    assert ask(gate, MESSAGE).startswith("250")
    assert gate.told[-1] is bug


def test_a_commit_that_failed_is_temporary_and_nothing_is_delivered() -> None:
    """451 4.3.0 with no detail; the detail goes to the observer."""
    gate = Gate()
    gate.spool.error = StoreError("/var/secret/0.db: disk I/O error")

    assert ask(gate, MESSAGE) == "451 4.3.0 Message could not be stored, try again later"

    assert gate.told == [gate.spool.error]
    assert gate.delivered == []
    assert gate.accept.hold(LIMIT)


LIMIT = 536_870_912


def test_what_is_being_committed_counts_as_in_flight() -> None:
    """And no longer once it is committed."""
    gate = Gate(memory=1_048_576)
    answers: list[object] = []
    gate.spool.on_commit = lambda: answers.append(gate.accept.hold(1_000_000))

    ask(gate, MESSAGE + b"x" * 100_000 + b"\r\n")

    assert answers == [False]
    assert gate.accept.hold(1_048_576)
    assert str(gate.accept.refusal()) == "452 4.3.1 Too much mail in flight, try again later"
    gate.accept.hold(-1)
    assert gate.accept.refusal() is None


def test_a_full_disk_is_temporary() -> None:
    gate = Gate()
    gate.disk_full = True

    assert str(gate.accept.refusal()) == "452 4.3.1 Insufficient system storage, try again later"


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"From: a@b.example\n\nHi\r\n", "554 5.6.0"),
        (b"From: a@b.example\r\n\r\nHi\rHo\r\n", "554 5.6.0"),
        (b"From: a@b.example\r\n\r\nHi\n\r\r\n", "554 5.6.0"),
        (b"From: a@b.example\r\n\r\n\0\r\n", "554 5.6.0"),
        (b"Received: 1\r\n" * 101 + b"\r\n", "554 5.4.6"),
        (b"Received: 1\r\n" * 100 + b"\r\n", "250 2.0.0"),
        (b"\r\n" + b"Received: 1\r\n" * 101, "250 2.0.0"),
        (b"X: " + b"x" * 2044 + b"\r\n\r\n", "552 5.3.4"),
        (b"X: " + b"x" * 2043 + b"\r\n\r\n", "250 2.0.0"),
        (b"\r\n" + b"x" * 3998 + b"\r\n", "552 5.3.4"),
        (b"\r\n" + b"x" * 3996 + b"\r\n", "250 2.0.0"),
        (b"", "250 2.0.0"),
    ],
)
def test_refusals(content: bytes, answer: str) -> None:
    """Line ends, NUL, loops, header size and size; each with its neighbour that passes."""
    gate = Gate(header_size=2048, message_size=4000)

    assert ask(gate, content).startswith(answer)

    assert bool(gate.spool.stored) == answer.startswith("250")


def test_line_ends_are_fixed_where_the_listener_says_so_and_the_size_counts_afterwards() -> None:
    gate = Gate(message_size=1024)

    assert ask(gate, b"From: a@b.example\n\na\rb\r\n", fix_line_ends=True).startswith("250")
    assert ask(gate, b"\n" * 1000, fix_line_ends=True).startswith("552 5.3.4")

    assert gate.spool.stored[0].content.endswith(b"\r\nFrom: a@b.example\r\n\r\na\r\nb\r\n")


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a"])).map(b"".join))
def test_fixed_line_ends_are_fixed_and_lose_nothing_else(content: bytes) -> None:
    """No bare CR or LF is left, a second time changes nothing, and the other octets are as they were."""
    fixed = fixed_line_ends(content)

    assert not has_bare_line_ends(fixed)
    assert fixed_line_ends(fixed) == fixed
    assert fixed.translate(None, b"\r\n") == content.translate(None, b"\r\n")
    assert has_bare_line_ends(content) == (fixed != content)


_fields = st.sampled_from(
    [
        b"Subject: x",
        b"Date: then",
        b"message-id: <1@x>",
        b" folded",
        b"no field",
        b"To : b@c",
        b"",
    ]
)
_messages = st.one_of(
    st.lists(_fields, max_size=8)
    .flatmap(lambda lines: st.permutations([b"From: a@b.example", *lines]) | st.just(lines))
    .map(lambda lines: b"".join(line + b"\r\n" for line in lines)),
    st.binary(max_size=60).map(lambda octets: fixed_line_ends(octets.replace(b"\0", b"0")) + b"\r\n"),
)


@given(_messages)
def test_the_clients_octets_follow_the_stamps_unchanged(content: bytes) -> None:
    """Stamps are a prefix, whole lines, and begin with Received; each field the message must have is there once."""
    gate = Gate()

    assert ask(gate, content).startswith("250")

    stored = gate.spool.stored[0].content
    assert stored.endswith(content)
    prefix = stored[: len(stored) - len(content)]
    assert prefix.startswith(b"Received: from client.example ([192.0.2.1])\r\n")
    assert prefix.endswith(b"\r\n")
    header = stored.partition(b"\r\n\r\n")[0].lower()
    assert header.count(b"\r\nmessage-id:") >= 1
    assert header.count(b"\r\ndate:") >= 1


@pytest.mark.parametrize(
    ("content", "added"),
    [
        (b"Hello, no header at all.\r\n", ["from", "to", "date", "message-id", ""]),
        (b"", ["from", "to", "date", "message-id", ""]),
        (b"\r\nOnly a body.\r\n", ["from", "to", "date", "message-id"]),
        (b" begins with a space: x\r\n\r\n", ["from", "to", "date", "message-id", ""]),
        (b"Subject: x\r\n\r\nHi\r\n", ["from", "date", "message-id"]),
        (b"Subject: no body\r\n", ["from", "date", "message-id"]),
        (b"FROM : a@b.example\r\n\r\nHi\r\n", ["date", "message-id"]),
        (MESSAGE, []),
    ],
)
def test_missing_fields_are_added(content: bytes, added: list[str]) -> None:
    """RFC 6409 §8; an empty name stands for the line that ends a header block made by us."""
    gate = Gate()
    ask(gate, content)
    stored = gate.spool.stored[0].content
    prefix = stored[: len(stored) - len(content)]
    lines = [line for line in prefix.split(b"\r\n")[:-1] if not line.startswith((b"\t", b"Received:"))]

    assert [line.partition(b":")[0].decode().lower() for line in lines] == added


def test_spf_stands_above_received() -> None:
    """RFC 7208 §9.1."""
    gate = Gate()
    ask(gate, MESSAGE, spf=SpfResult("pass"))

    assert gate.spool.stored[0].content.startswith(b"Received-SPF: pass\r\nReceived: from client.example")


def test_the_spooled_message_names_account_user_tags_and_message_id() -> None:
    """Tags come from X-Relay-Tag, capped; a login decides account and user name."""
    gate = Gate()
    ask(gate, b"X-Relay-Tag: " + b"t" * 200 + b"\r\nX-Relay-Tag: two, ,three\r\n" + MESSAGE, restricted())

    (message,) = gate.spool.stored
    assert (message.account, message.username) == ("acme", "app")
    assert message.tags == ("t" * 128, "two", "three")
    assert message.client_message_id == "<1@b.example>"
    assert message.received_at == AT


def test_several_recipients_are_not_told_of_each_other() -> None:
    """Neither in Received nor in a To field of ours."""
    gate = Gate()
    ask(gate, b"Hi\r\n", envelope=Envelope("a@b.example", (Recipient("x@one.example"), Recipient("y@two.example"))))

    stored = gate.spool.stored[0].content
    assert b"one.example" not in stored
    assert b"To: undisclosed-recipients:;\r\n" in stored


@pytest.mark.parametrize(
    ("header", "refused"),
    [
        (b"From: me@acme.example", ""),
        (b"From: Me <me@ACME.example>", ""),
        (b'From: "ceo@bank.example" <me@acme.example>', ""),
        (b"From: me@acme.example (ceo@bank.example)", ""),
        (b"From: Group: me@acme.example, you@acme.example;", ""),
        (b"From: boss@other.example", ""),
        (b"Subject: no From; ours names the envelope's sender", ""),
        (b"From: me@acme.example\r\nSender: ceo@bank.example", ""),
        (b"From: me@sub.acme.example", "me@sub.acme.example"),
        (b"From: not.boss@other.example", "not.boss@other.example"),
        (b"From: me@acme.example, ceo@bank.example", "ceo@bank.example"),
        (b"From: Group: me@acme.example, ceo@bank.example;", "ceo@bank.example"),
        (b"from : ceo@bank.example", "ceo@bank.example"),
        (b"From:\r\n ceo@bank.example", "ceo@bank.example"),
        (b"no field\r\nFrom: ceo@bank.example", "ceo@bank.example"),
        (b"From: ceo@bank.example <me@acme.example>", "ceo@bank.example"),
        (b"From: <ceo@bank.example> <me@acme.example>", "ceo@bank.example"),
        (b"From: ceo@bank.example (\\)<me@acme.example>)", "ceo@bank.example"),
        (b"From: ceo@bank.example (a (b) <me@acme.example>)", "ceo@bank.example"),
        (b'From: (") ceo@bank.example (") <me@acme.example>', "ceo@bank.example"),
        (b"From: <@acme.example:ceo@bank.example>", "@acme.example"),
        (b"From: ceo@bank.example@acme.example", "ceo@bank.example@acme.example"),
        (b"From: undisclosed", "undisclosed"),
        (b"From: (me@acme.example", "(me@acme.example"),
        (b'From: "me@acme.example', '"me@acme.example'),
        (b"From:", ""),
        (b"From: ceo @ bank.example <me@acme.example>", "@"),
    ],
)
def test_every_author_must_be_among_the_rights(header: bytes, refused: str) -> None:
    """550 5.7.60 names the address that is not; what cannot be read is refused as it stands."""
    gate = Gate()
    session = restricted(addresses=("boss@other.example",), domains=("acme.example",))
    answer = ask(gate, (b"Subject: x\r\n" if header.startswith(b"no") else b"") + header + b"\r\n\r\nHi\r\n", session)

    if refused or header == b"From:":
        assert answer == (
            f"550 5.7.60 app has no right to From: {refused}; it may send as boss@other.example, @acme.example"
        )
    else:
        assert answer.startswith("250")


def test_a_login_without_restrictions_writes_any_author() -> None:
    gate = Gate()

    assert ask(gate, b"From: anybody@where.example\r\n\r\n", restricted()).startswith("250")


def test_a_refusal_is_printable_and_short_whatever_stands_in_from() -> None:
    gate = Gate()
    answer = ask(gate, b"From: " + "ä\x1b[31m".encode() * 500 + b"@x\r\n\r\n", restricted(domains=("acme.example",)))

    assert answer.isascii()
    assert answer.isprintable()
    assert len(answer) < 510
    assert "@acme.example" in answer


@pytest.mark.parametrize("size", [100, 200_000])
def test_what_the_real_spool_has_stored_is_what_it_gives_back(tmp_path: Path, size: int) -> None:
    """In the row or in a file of its own, with its stamps."""
    content = MESSAGE + b"x" * size + b"\r\n"

    async def run() -> tuple[str, bytes, bytes]:
        spool = SqliteSpool.open(tmp_path, 0, Still(), file_threshold=65_536)
        try:
            gate = Gate(spool)
            answer = str(await gate.accept.accept(CLIENT, ENVELOPE, content))
            (queued,) = gate.delivered
            assert queued.content is not None
            return answer, queued.content, await spool.read_content(queued.id)
        finally:
            await spool.close()

    answer, queued, stored = asyncio.run(run())

    assert answer.startswith("250 2.0.0 Ok: queued as ")
    assert stored == queued
    assert stored.endswith(content)
    assert answer.split()[-1].encode() in stored


def test_a_header_that_asks_for_what_cannot_be_done_is_refused_from_a_login_and_inert_from_a_stranger() -> None:
    asking = b'X-SMTPAPI: {"to": ["x@y.example"]}\r\n' + MESSAGE
    gate = Gate()
    assert ask(gate, asking, restricted()) == (
        "550 5.6.0 Cannot do what the header asks for: "
        "x-smtpapi to: recipients come from RCPT TO alone; name them there and remove it"
    )
    assert gate.spool.stored == []
    assert ask(gate, asking).startswith("250")
    assert ask(gate, b"X-Relay-Tag: otp\r\n" + MESSAGE).startswith("250")
    assert [message.tags for message in gate.spool.stored] == [(), ()]


def test_a_message_may_name_a_retry_profile_that_exists_and_an_age_at_which_it_ends() -> None:
    gate = Gate()
    gate.accept.reconfigure(LimitSettings(duplicate_window=0), frozenset({"otp", "mta"}))
    header = b"X-Relay-Retry: otp\r\nX-Relay-Expire: 900\r\n"
    assert ask(gate, header + MESSAGE, restricted()).startswith("250")
    [message] = gate.spool.stored
    assert (message.envelope.retry, message.envelope.expires_at) == ("otp", AT + 900)
    assert ask(gate, b"X-Relay-Retry: opt\r\n" + MESSAGE, restricted()) == (
        "550 5.6.0 Cannot do what the header asks for: x-relay-retry: no retry profile 'opt'; known: mta, otp"
    )
    assert ask(gate, b"X-Relay-Expire: soon\r\n" + MESSAGE, restricted()).startswith("550 5.6.0")
    assert ask(gate, header + MESSAGE).startswith("250")
    assert gate.spool.stored[-1].envelope == ENVELOPE


def test_no_notice_goes_to_a_sender_that_spf_denies() -> None:
    gate = Gate()
    ask(gate, MESSAGE, spf=SpfResult("fail"))
    ask(gate, MESSAGE, spf=SpfResult("softfail"))
    ask(gate, MESSAGE, spf=SpfResult("none"))
    assert [message.envelope.recipients[0].notify for message in gate.spool.stored] == [("NEVER",), ("NEVER",), ()]


def test_a_header_of_more_lines_than_anybody_needs_is_not_read() -> None:
    assert ask(Gate(), b"a:\r\n" * 20_001 + MESSAGE) == "552 5.3.4 Message header has too many lines"
    assert ask(Gate(), b"a:\r\n" * 19_000 + MESSAGE).startswith("250")


def test_a_from_that_is_too_long_to_be_read_is_nobodys() -> None:
    """Only where it has to be held against rights."""
    long = MESSAGE.replace(b"From: ", b"From: " + b"a@allowed.example, " * 5_000)
    held = restricted(domains=("allowed.example", "b.example"))
    assert ask(Gate(), long, held) == "550 5.7.60 From is too long to say who it names"
    assert ask(Gate(), long).startswith("250")


@pytest.mark.parametrize("session", [CLIENT, restricted(domains=("b.example",))])
def test_a_second_from_is_refused(session: Session) -> None:
    assert ask(Gate(), b"From: ceo@b.example\r\n" + MESSAGE, session) == (
        "554 5.6.0 More than one From field; name all authors in one"
    )
