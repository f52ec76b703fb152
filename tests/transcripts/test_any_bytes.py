"""Whatever octets come, however cut: the dialogue answers in SMTP, stays within its memory, and never raises."""

from __future__ import annotations

import itertools
import re
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from transcript import TLS, Player

from relay.smtpd.dialogue import AUTH_LINE, COMMAND_LINE, OUTPUT, StartTls

_SETTINGS = {
    "listener": {"tls": "starttls", "role": "mx", "plaintext_auth": "true"},
    "inbound": {"domains": "ours.example"},
    "limits": {"message_size": "1024", "errors": "8", "header_size": "1024"},
}
_REPLY = re.compile(rb"(?:(?:[2345]\d\d-[\x20-\x7e]*\r\n)*[2345]\d\d [\x20-\x7e]*\r\n)*\Z")
_LONGEST_DATA = 1024 + 1024 // 3 + 8

_lines = st.sampled_from(
    [
        b"EHLO a",
        b"HELO b",
        b"MAIL FROM:<>",
        b"MAIL FROM:<a@b.example> SIZE=9",
        b"RCPT TO:<c@ours.example>",
        b"DATA",
        b"BDAT 9",
        b"BDAT 0 LAST",
        b"BDAT 40 LAST",
        b"BDAT 99999",
        b".",
        b"RSET",
        b"NOOP",
        b"QUIT",
        b"AUTH PLAIN",
        b"AUTH LOGIN YQ==",
        b"AHgAeQ==",
        b"*",
        b"STARTTLS",
        b"VRFY",
        b"HELP",
        b"Subject: x",
        b"",
        b"..",
        b"x" * 2100,
        b"y" * 13_000,
        b"RCPT TO:<\xff@ours.example>",
        b"\x16\x03\x01",
        b"GET /",
    ]
)
_ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0\r\n", b""])
_sessions = st.lists(st.one_of(st.tuples(_lines, _ends).map(b"".join), st.binary(max_size=30)), max_size=30).map(
    b"".join
)


def _pieces(octets: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(octets), *(cut % (len(octets) + 1) for cut in cuts)})
    return [octets[start:end] for start, end in itertools.pairwise(places)]


@settings(max_examples=300, deadline=None)
@given(octets=_sessions, cuts=st.lists(st.integers(0, 100_000), max_size=20))
def test_any_octets_get_well_formed_answers_within_bounds(octets: bytes, cuts: list[int]) -> None:
    """Replies are lines of printable ASCII with a code; what is kept is a line, or a message, and no more."""
    player = Player(_SETTINGS)
    dialogue = player.dialogue

    for piece in _pieces(octets, cuts):
        player.send(piece)
        if isinstance(dialogue.waiting, StartTls):
            dialogue.tls_started(TLS)
        elif not dialogue.closing:
            assert dialogue.buffered <= max(COMMAND_LINE, AUTH_LINE, _LONGEST_DATA) + 2
    said = player.replies()

    assert _REPLY.match(said), said


@settings(max_examples=150, deadline=None)
@given(octets=_sessions, cuts=st.lists(st.integers(0, 100_000), max_size=20))
def test_how_octets_are_cut_changes_no_answer(octets: bytes, cuts: list[int]) -> None:
    """But for STARTTLS, where what comes in one piece with it is an attack."""
    octets = octets.replace(b"STARTTLS", b"NOOP")
    whole, cut = Player(_SETTINGS), Player(_SETTINGS)

    whole.settle()
    cut.settle()
    whole.send(octets)
    for piece in _pieces(octets, cuts):
        cut.send(piece)

    assert whole.replies() == cut.replies()
    assert whole.intake.spool.stored == cut.intake.spool.stored
    assert whole.dialogue.closing == cut.dialogue.closing


_bits = st.sampled_from([b".", b"..", b"\r\n", b"\r", b"\n", b"\r\n.", b"\n.", b"a", b"\r\n.\r", b"QUIT"])
_content = st.one_of(st.binary(max_size=300), st.lists(_bits, max_size=40).map(b"".join))


@settings(max_examples=300, deadline=None)
@given(content=_content, cuts=st.lists(st.integers(0, 100_000), max_size=20))
def test_content_arrives_octet_for_octet(content: bytes, cuts: list[int]) -> None:
    """What a client doubles according to RFC 5321 §4.5.2 reaches the gate as it was, however it was cut."""
    content += b"\r\n"
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    player = Player({"session": {"as": "alice"}})
    taken: list[bytes] = []
    accept = player.intake.accept

    async def remember(session, envelope, content, **options):
        taken.append(content)
        return await accept(session, envelope, content, **options)

    player.intake.accept = remember  # type: ignore[method-assign]
    player.send(b"HELO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@ours.example>\r\nDATA\r\n")
    for piece in _pieces(stuffed, cuts):
        player.send(piece)

    assert taken == [content]
    assert player.dialogue.idle


def test_data_without_an_end_is_not_kept() -> None:
    """Ten times the limit without a single CRLF: no more than the limit is held, and its refusal comes at the end."""
    player = Player({**_SETTINGS, "session": {"as": "alice"}})
    player.send(b"HELO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@ours.example>\r\nDATA\r\n")
    most = 0
    for _ in range(100):
        player.send(b"a" * 100)
        most = max(most, player.dialogue.buffered)
    player.replies()
    player.send(b"\r\n.\r\n")

    assert most <= _LONGEST_DATA
    assert player.replies() == b"552 5.3.4 Message is larger than the SIZE this server announces\r\n"


def test_the_replies_of_a_client_that_does_not_read_are_bounded() -> None:
    """Its commands wait in the buffer until the driver has room again."""
    player = Player({"session": {"as": "alice"}})
    dialogue = player.dialogue

    dialogue.receive(b"HELP\r\n" * 50_000)

    assert dialogue.stalled
    assert len(dialogue.take_output()) < OUTPUT + 200
    assert not dialogue.stalled
    dialogue.go_on()
    player.settle()
    assert dialogue.idle


def test_data_in_flight_is_counted_while_it_comes_and_given_back() -> None:
    """`limits.memory` holds for messages being received too; a client that leaves gives its share back."""
    limits = {"limits": {"memory": "1048576", "message_size": "10485760"}, "session": {"as": "alice"}}
    player = Player(limits)
    begin = b"HELO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@ours.example>\r\nDATA\r\n"
    player.send(begin)
    player.send(b"a" * 900_000)
    assert not player.intake.hold(200_000)
    player.send(b"a" * 200_000)
    assert player.dialogue.buffered < 10
    assert player.intake.hold(1_000_000)
    player.intake.hold(-1_000_000)
    player.replies()
    player.send(b"\r\n.\r\n")
    assert player.replies() == b"452 4.3.1 Too much mail in flight, try again later\r\n"

    player.send(begin + b"a" * 900_000)
    player.dialogue.lost()
    assert player.intake.hold(1_048_576)


def test_a_full_budget_is_said_before_the_data() -> None:
    """At MAIL and at DATA, so that the client need not send what cannot be kept."""
    player = Player({"limits": {"memory": "1048576"}, "session": {"as": "alice"}})
    player.send(b"HELO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@ours.example>\r\n")
    player.replies()
    player.intake.hold(1_048_576)
    player.send(b"DATA\r\nRSET\r\nMAIL FROM:<a@b.example>\r\n")
    full = b"452 4.3.1 Too much mail in flight, try again later\r\n"

    assert player.replies() == full + b"250 2.0.0 Ok\r\n" + full


def test_a_busy_password_check_is_no_failed_login() -> None:
    """454 any number of times does not end the session with `too many failed authentications`."""
    from relay.mail.errors import AuthBusyError

    player = Player({"listener": {"tls": "implicit"}, "limits": {"auth_failures": "2"}})

    async def busy(username: str, password: str) -> None:
        raise AuthBusyError

    player.authenticator.verify = busy  # type: ignore[method-assign,assignment]
    player.send(b"HELO a\r\n" + b"AUTH PLAIN AGEAYg==\r\n" * 5)

    assert player.replies().count(b"454 4.7.0 ") == 5
    assert not player.dialogue.closing


def test_hostile_lines_cost_no_time() -> None:
    """Addresses and parameters made to make a parser try again and again."""
    player = Player({"session": {"as": "alice"}, "limits": {"errors": "10000"}})
    player.send(b"HELO a\r\n")
    started = time.process_time()
    for pump in (b"a@", b"((", b'"\\"', b"a.", b"<", b"@a,", b"a-", b" X=", b"xn--", "ä".encode()):
        for frame in (
            b"%b",
            b"<%b>",
            b"<%b@b.example>",
            b"<a@%b>",
            b'<"%b"@b.example>',
            b"<@%b:a@b.example>",
            b"<a@b.example> %b",
        ):
            line = frame % (pump * (1900 // len(pump)))
            player.send(b"MAIL FROM:" + line + b"\r\nRSET\r\n")
    assert time.process_time() - started < 2.0
