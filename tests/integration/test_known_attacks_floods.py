"""Attacks that other servers fell to, by their number in SECURITY.md: too much, too slow, too long, too clever."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attacks import HEAD, at_door, resident, says
from front_door import DIALOGUE, FrontDoor, read_all, read_lines

from relay.mail.address import parse_address
from relay.mail.errors import AddressSyntaxError
from relay.smtpd.commands import CommandError, parse_mail, parse_rcpt
from relay.smtpd.tolerance import host_name, mended
from relay.smtpd.xclient import parse_xclient

MEGABYTE = 1 << 20

# --- 2.13 memory, 2.14 slow clients ------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"a" * 65_536, b"a" * 998 + b"\n", b"\r" * 65_536], ids=["endless", "LF", "CR"])
def test_2_13_data_without_an_end_is_not_kept(tmp_path: Path, line: bytes) -> None:
    def client(door: FrontDoor) -> None:
        with door.raw() as session:
            session.sendall(DIALOGUE)
            read_lines(session, 5)
            before = resident()
            for _ in range(48 * MEGABYTE // len(line)):
                session.sendall(line)
            assert resident() - before < 24 * MEGABYTE
            session.sendall(b"\r\n.\r\nQUIT\r\n")
            assert b"552 5.3.4" in read_all(session)

    assert at_door(tmp_path, client, limits={"message_size": MEGABYTE}).stored == []


@pytest.mark.parametrize(
    "flood",
    [b"A" * 8 * MEGABYTE, b"AUTH PLAIN " + b"A" * 8 * MEGABYTE, b"MAIL FROM:<" + b"a" * 8 * MEGABYTE],
    ids=["no verb", "AUTH", "MAIL"],
)
def test_2_13_a_line_without_an_end_is_refused_and_not_kept(tmp_path: Path, flood: bytes) -> None:
    replies: list[bytes] = []
    at_door(tmp_path, says(b"EHLO a.example\r\n" + flood + b"\r\nNOOP\r\n", replies), plaintext_auth=True)
    assert [line[:3] for line in replies[-2:]] == [b"500", b"250"]


def test_2_13_a_chunk_of_all_octets_there_are_is_not_waited_for(tmp_path: Path) -> None:
    replies: list[bytes] = []
    at_door(tmp_path, says(b"EHLO a.example\r\n" + HEAD + b"BDAT 9223372036854775808 LAST\r\n", replies))
    assert replies[-1][:3] in (b"501", b"552")


def test_2_13_recipients_without_an_end(tmp_path: Path) -> None:
    replies: list[bytes] = []
    recipients = b"".join(b"RCPT TO:<r%d@ours.example>\r\n" % number for number in range(3000))
    at_door(tmp_path, says(b"EHLO a.example\r\nMAIL FROM:<a@b.example>\r\n" + recipients, replies))
    said = [line[:9] for line in replies[-3000:]]
    assert (said.count(b"250 2.1.5"), said.count(b"452 4.5.3")) == (1000, 2000)


def test_2_14_others_are_served_while_many_dawdle(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        slow = [socket.create_connection(("127.0.0.1", door.port), timeout=60) for _ in range(200)]
        for number, one in enumerate(slow):
            one.sendall(DIALOGUE[: number % len(DIALOGUE)])
        says(DIALOGUE + b".\r\nQUIT\r\n")(door)
        for one in slow:
            one.close()

    assert len(at_door(tmp_path, client, guard={"connections": 1000, "exempt": ()}).stored) == 1


# --- 2.22 regular expressions, 2.27 addresses --------------------------------------------------------------

PUMPS = (b"a@", b"(((", b'"\\"', b"a.", b"\\", b"@a,", b" ", b"=", b"+", b"a=b ", b"<", b"\xc3\xa4.", b"-", b"[", b"%")


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Of CPU time, far more than it takes; what is quadratic at these lengths takes far more still."""

    def late(*facts: object) -> None:
        raise AssertionError(f"not done in {seconds} s")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


_READERS: tuple[Callable[[bytes], object], ...] = (
    lambda pump: parse_mail(b"FROM:<" + pump + b"> " + pump),
    lambda pump: parse_mail(b"FROM:<> AUTH=" + pump),
    lambda pump: parse_rcpt(b"TO:<" + pump + b"@a> ORCPT=rfc822;" + pump, smtputf8=True),
    lambda pump: parse_rcpt(b"TO:<@" + pump + b":a@b>", smtputf8=True),
    lambda pump: parse_xclient(b"NAME=" + pump, login=False),
    lambda pump: mended(b"FROM : " + pump, lambda what: True),
    host_name,
)


@pytest.mark.parametrize("pump", PUMPS)
def test_2_22_no_expression_of_a_command_is_slow(pump: bytes) -> None:
    with within(30):
        for read in _READERS:
            with contextlib.suppress(CommandError):
                read(pump * (200_000 // len(pump)))


@pytest.mark.parametrize(
    "text",
    [
        "alice@example.org)bob@evil.example",
        "alice@example.org(bob@evil.example)",
        "alice@example.org\\bob@evil.example",
        '"alice@example.org" <bob@evil.example>',
        "alice@example.org,bob@evil.example",
        "alice@example.org bob@evil.example",
        "alice@example.org>bob@evil.example",
        '"a"b@evil.example',
        '"a\r\nb"@evil.example',
        "a@evil.example\r\nRCPT TO:<b@c>",
        "=?utf-8?q?alice=40example.org=0a?=@evil.example@x",
        "a@b..c",
        "a..b@c.example",
    ],
)
def test_2_27_no_address_is_two(text: str) -> None:
    """CVE-2023-27043: what a laxer parser takes for another mailbox is none here."""
    with pytest.raises(AddressSyntaxError):
        parse_address(text)
