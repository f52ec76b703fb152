"""Attacks that other servers fell to, by their number in SECURITY.md, against the front door."""

from __future__ import annotations

import base64
import contextlib
import ssl
from pathlib import Path

import pytest
from attacks import FALSE_ENDS, HEAD, SMUGGLED, at_door, says
from front_door import FrontDoor, read_all, read_lines

LOGIN = b"EHLO client.example\r\nAUTH PLAIN " + base64.b64encode(b"\0alice\0secret") + b"\r\n"
BODY = b"From: a@b.example\r\nSubject: one\r\n\r\none"


# --- 2.1 SMTP smuggling ------------------------------------------------------------------------------------


def smuggle(folder: Path, before: bytes, padding: bytes = b"", **options: object) -> dict[str, list[bytes]]:
    """Every false end in a session of its own; the replies of each. Nothing may be stored for the victim."""
    replies: dict[str, list[bytes]] = {name: [] for name in FALSE_ENDS}

    def client(door: FrontDoor) -> None:
        for name, end in FALSE_ENDS.items():
            content = BODY + padding + end + SMUGGLED
            chunk = b"BDAT %d LAST\r\n" % len(content) if b"BDAT" in before else b""
            says(before.removesuffix(b"BDAT") + chunk + content + b"QUIT\r\n", replies[name])(door)

    door = at_door(folder, client, plaintext_auth=True, **options)
    assert {one.address for message in door.stored for one in message.envelope.recipients} <= {"bob@ours.example"}
    assert len(door.stored) <= len(FALSE_ENDS)
    return replies


@pytest.mark.parametrize("hello", [LOGIN, b"EHLO client.example\r\n"], ids=["login", "stranger"])
@pytest.mark.parametrize("way", [b"DATA\r\n", b"BDAT"])
def test_2_1_smuggling_by_a_false_end_of_data(tmp_path: Path, hello: bytes, way: bytes) -> None:
    """CVE-2023-51764, -51765, -51766: one answer for all of it, and nothing in it was a command."""
    for name, said in smuggle(tmp_path, hello + HEAD + way).items():
        assert said[-2].startswith((b"554 5.6.0", b"250 2.0.0 Ok: queued as")), name
        assert said[-3].startswith(b"354" if way == b"DATA\r\n" else b"250 2.1.5"), name
        assert said[-1] == b"221 2.0.0 Bye", name


@pytest.mark.parametrize("way", [b"DATA\r\n", b"BDAT"])
def test_2_1_smuggling_in_a_message_that_is_too_big(tmp_path: Path, way: bytes) -> None:
    """What is refused is read to its true end all the same."""
    before = b"EHLO client.example\r\n" + HEAD + way
    for name, said in smuggle(tmp_path, before, b"x" * 1000, limits={"message_size": 1024}).items():
        assert [line[:3] for line in said[-2:]] == [b"552", b"221"], name


# --- 2.2 STARTTLS injection, 2.3 downgrade -----------------------------------------------------------------


def test_2_2_commands_behind_starttls_are_never_executed(tmp_path: Path) -> None:
    """CVE-2011-0411: in the packet of STARTTLS they end the connection."""
    replies: list[bytes] = []
    at_door(tmp_path, says(b"EHLO a.example\r\nSTARTTLS\r\n" + SMUGGLED, replies), tls="starttls")
    assert replies[-1].startswith(b"554 5.5.1")


def test_2_2_commands_in_place_of_a_handshake_are_never_answered(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        with door.raw() as session:
            session.sendall(b"EHLO a.example\r\n")
            read_lines(session, 14)
            session.sendall(b"STARTTLS\r\n")
            read_lines(session, 1)
            session.sendall(SMUGGLED)
            with contextlib.suppress(ConnectionError):
                assert b"250" not in read_all(session)

    assert at_door(tmp_path, client, tls="starttls").stored == []


def test_2_3_tls_1_1_is_no_way_in(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with door.raw() as plain, pytest.raises(ssl.SSLError):
            context.wrap_socket(plain)

    assert at_door(tmp_path, client, tls="implicit").observer.tls == []


# --- 2.4 open relay ----------------------------------------------------------------------------------------

FOREIGN = (
    b"<user@ext.example>",
    b"<USER@EXT.EXAMPLE>",
    b"<user%ext.example@ours.example>",
    b"<user%ext.example%x@ours.example>",
    b'<"user@ext.example"@ours.example>',
    b'<"user%ext.example"@ours.example>',
    b"<@ours.example:user@ext.example>",
    b"<@ours.example,@ext.example:user@ext.example>",
    b"<ext.example!user@ours.example>",
    b"<ext.example!user>",
    b"<user@[127.0.0.1]>",
    b"<user@[192.0.2.1]>",
    b"<user@[IPv6:::1]>",
    b"<user@[IPv6:::ffff:127.0.0.1]>",
    b'<"user"@ext.example>',
    b"<user@ours.example.>",
    b"<user@.ours.example>",
    b"<user@ours.example.ext.example>",
    b"<user@xours.example>",
    b"<user@ours.example@ext.example>",
    b"<user@ext.example@ours.example>",
    b"<user@ours.example\0.ext.example>",
    b"<user@ours.example\\@ext.example>",
    b"<user@ours\xc2\xad.ext.example>",
    "<user@\u03bfurs.example>".encode(),
    b"<user@localhost>",
    b"<user>",
    b"<>",
    b"user@ext.example",
    b"<user@ours.example> <user@ext.example>",
    b"<user@ours.example>,<user@ext.example>",
    b"<user@ext.example> ORCPT=rfc822;user@ours.example",
)


@pytest.mark.parametrize("hello", [b"EHLO localhost", b"EHLO [127.0.0.1]", b"HELO ours.example"])
@pytest.mark.parametrize("sender", [b"<>", b"<a@b.example>", b"<boss@ours.example>", b"<a@b.example> SMTPUTF8"])
def test_2_4_no_address_makes_an_open_relay(tmp_path: Path, hello: bytes, sender: bytes) -> None:
    replies: list[bytes] = []
    recipients = b"".join(b"RCPT TO:" + address + b"\r\n" for address in FOREIGN)
    words = hello + b"\r\nMAIL FROM:" + sender + b"\r\n" + recipients
    at_door(tmp_path, says(words, replies), limits={"errors": 1000, "error_delay": 0})
    said = replies[-len(FOREIGN) :]
    assert [line for line in said if not line.startswith(b"5")] == []


@pytest.mark.parametrize("word", [b"XCLIENT ADDR=127.0.0.1 LOGIN=alice", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 25"])
def test_2_4_and_2_29_who_is_not_trusted_becomes_nobody_else(tmp_path: Path, word: bytes) -> None:
    replies: list[bytes] = []
    relaying = b"EHLO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<user@ext.example>\r\n"
    others = {"xclient": ("192.0.2.0/24",), "proxy_protocol": ("192.0.2.0/24",)}
    door = at_door(tmp_path, says(word + b"\r\n" + relaying, replies), xclient_login=True, **others)
    assert replies[1][:3] in (b"550", b"500")
    assert replies[-1].startswith(b"550 5.7.1")
    assert door.observer.peers == ["127.0.0.1"]


# --- 2.5 brute force and enumeration -----------------------------------------------------------------------


@pytest.mark.parametrize("user", [b"alice", b"nobody"])
def test_2_5_after_a_few_wrong_passwords_nobody_is_heard(tmp_path: Path, user: bytes) -> None:
    """The same words for who exists and who does not, and at most ten tries, over connections too."""
    replies: list[bytes] = []
    tries = b"AUTH PLAIN " + base64.b64encode(b"\0" + user + b"\0wrong") + b"\r\n"

    def client(door: FrontDoor) -> None:
        for _ in range(4):
            says(b"EHLO a.example\r\n" + tries * 10, replies)(door)

    guard = {"auth_failures": 3, "exempt": ()}
    at_door(tmp_path, client, plaintext_auth=True, guard=guard, limits={"error_delay": 0})
    wrong = [line for line in replies if line.startswith(b"535")]
    assert 1 <= len(wrong) <= 10
    assert set(wrong) == {b"535 5.7.8 Authentication credentials invalid"}
    assert replies[-1].startswith(b"421 4.7.0")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"AUTH PLAIN " + b"A" * 100_000, b"500"),
        (b"AUTH PLAIN !!!", b"501"),
        (b"AUTH PLAIN " + base64.b64encode(b"\0alice\0sec\0ret"), b"501"),
        (b"AUTH PLAIN " + base64.b64encode(b"\0alice\0\xff"), b"501"),
        (b"AUTH LOGIN\r\n*", b"501"),
        (b"AUTH LOGIN\r\n" + b"A" * 100_000, b"500"),
        (b"AUTH", b"504"),
    ],
)
def test_2_5_no_form_of_auth_lets_in_or_breaks(tmp_path: Path, line: bytes, code: bytes) -> None:
    replies: list[bytes] = []
    words = b"EHLO a.example\r\n" + line + b"\r\nMAIL FROM:<a@b.example>\r\n"
    at_door(tmp_path, says(words, replies), role="submission", plaintext_auth=True)
    assert replies[-2][:3] == code
    assert replies[-1].startswith(b"530")


def test_2_5_no_password_is_heard_in_clear(tmp_path: Path) -> None:
    replies: list[bytes] = []
    at_door(tmp_path, says(LOGIN, replies), tls="starttls", plaintext_auth=False, role="submission")
    assert replies[-1].startswith(b"538")


# --- 2.25 other protocols, 2.29 proxies --------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: 99\r\n\r\n",
        b"CONNECT ext.example:25 HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\x10binary",
        b"\x80\x2e\x01\x03\x01",
    ],
    ids=["GET", "POST", "CONNECT", "TLS", "binary", "SSL 2"],
)
def test_2_25_another_protocol_is_cut_off_and_smuggles_no_command(tmp_path: Path, words: bytes) -> None:
    """ALPACA: a request whose body is SMTP."""
    replies: list[bytes] = []
    door = at_door(tmp_path, says(words + b"EHLO a.example\r\n" + HEAD + b"DATA\r\n" + BODY + b"\r\n.\r\n", replies))
    assert len(replies) == 2
    assert replies[1] == b"554 5.5.1 This is an SMTP server, closing"
    assert door.stored == []


@pytest.mark.parametrize(
    "header", [b"PROXY " + b"A" * 10_000, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff" + b"\0" * 10_000]
)
def test_2_29_a_header_without_an_end_is_cut_off(tmp_path: Path, header: bytes) -> None:
    replies: list[bytes] = []
    with contextlib.suppress(ConnectionResetError):
        at_door(tmp_path, says(header, replies), proxy_protocol=("127.0.0.0/8",))
    assert replies == []
