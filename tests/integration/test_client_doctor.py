"""The doctor for clients: what clients do wrong, done to a running listener, is named, and what to change is said."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from front_door import DIALOGUE, MESSAGE, FrontDoor, read_all, read_lines

from relay.mail.diagnosis import FailedSession
from relay.smtpd.symptoms import RULES, UNKNOWN

CA = trustme.CA()
SUBMISSION: dict[str, Any] = {"tls": "starttls", "plaintext_auth": False}
Client = Callable[[FrontDoor], object]


def failures(
    folder: Path, client: Client, *, run: Callable[..., Any] = asyncio.run, **options: Any
) -> list[FailedSession]:
    """What is remembered after `client` has done what it does and its sessions are over."""
    door = FrontDoor(folder, CA, **options)

    async def test() -> None:
        await door.beside(lambda: client(door))
        while door.observer.open:
            await asyncio.sleep(0.005)

    run(door.run(test))
    assert not door.observer.bugs
    return door.failed.all()


def says(octets: bytes) -> Client:
    """A client that sends all of it, and reads until the server closes."""

    def client(door: FrontDoor) -> None:
        with door.raw() as connection:
            read_lines(connection, 1)
            connection.sendall(octets)
            connection.shutdown(socket.SHUT_WR)
            read_all(connection)

    return client


def quietly(octets: bytes = b"") -> Client:
    """A client that does not wait for a greeting."""

    def client(door: FrontDoor) -> None:
        with door.raw() as connection:
            connection.sendall(octets)
            if octets:
                with contextlib.suppress(ConnectionError):
                    read_all(connection)

    return client


def starttls(context: ssl.SSLContext) -> Client:
    def client(door: FrontDoor) -> None:
        session = door.smtp()
        with contextlib.suppress(OSError):
            session.starttls(context=context)
        session.close()

    return client


def implicit(context: ssl.SSLContext) -> Client:
    def client(door: FrontDoor) -> None:
        with contextlib.suppress(OSError):
            smtplib.SMTP_SSL("localhost", door.port, timeout=60, context=context).close()

    return client


def unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    return context


def old_tls() -> ssl.SSLContext:
    context = unchecked()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def nonsense_for_a_handshake(door: FrontDoor) -> None:
    with door.raw() as connection:
        connection.sendall(b"EHLO client.example\r\n")
        read_lines(connection, 11)
        connection.sendall(b"STARTTLS\r\n")
        read_lines(connection, 1)
        connection.sendall(b"EHLO client.example\r\n")
        with contextlib.suppress(ConnectionError):
            read_all(connection)


def left_without_starttls(door: FrontDoor) -> None:
    """As smtplib and PHPMailer do that look for AUTH and find none."""
    with door.smtp() as session, contextlib.suppress(smtplib.SMTPNotSupportedError):
        session.login("alice", "secret")


def stays_silent(door: FrontDoor) -> None:
    with door.raw() as connection:
        read_all(connection)


def comes_too_often(door: FrontDoor) -> None:
    with door.raw() as first, door.raw() as second:
        read_lines(first, 1)
        read_all(second)
        first.sendall(b"QUIT\r\n")
        read_all(first)


def breaks_off(door: FrontDoor) -> None:
    with door.raw() as connection:
        connection.sendall(DIALOGUE)
        read_lines(connection, 5)


_CONSEQUENCES = ("too_many_errors",)
PLAIN = b"AUTH PLAIN AGFsaWNlAHdyb25n\r\n"
SHOP = b"AUTH PLAIN AHNob3AAc2VjcmV0\r\n"
CASES: dict[str, tuple[Client, dict[str, Any]]] = {
    "tls_on_starttls_port": (implicit(unchecked()), SUBMISSION),
    "tls_on_plain_port": (implicit(unchecked()), {"tls": "none"}),
    "http": (says(b"GET /?password=hunter2 HTTP/1.1\r\nHost: mail.example\r\n\r\n"), SUBMISSION),
    "plain_on_tls_port": (quietly(b"EHLO client.example\r\n"), {"tls": "implicit"}),
    "certificate_refused": (starttls(ssl.create_default_context()), SUBMISSION),
    "tls_too_old": (starttls(old_tls()), SUBMISSION),
    "handshake_failed": (nonsense_for_a_handshake, SUBMISSION),
    "left_at_handshake": (starttls(unchecked()), SUBMISSION),
    "starttls_not_here": (says(b"EHLO client.example\r\nSTARTTLS\r\nQUIT\r\n"), {"tls": "none"}),
    "auth_in_clear": (says(b"EHLO client.example\r\n" + PLAIN), SUBMISSION),
    "no_starttls": (left_without_starttls, SUBMISSION),
    "no_auth": (says(b"EHLO client.example\r\nMAIL FROM:<a@b.example>\r\n"), {}),
    "wrong_password": (says(b"EHLO client.example\r\n" + PLAIN), {}),
    "auth_mechanism": (says(b"EHLO client.example\r\nAUTH NTLM TlRMTVNTUAAB\r\n"), {}),
    "sender_right": (says(b"EHLO client.example\r\n" + SHOP + b"MAIL FROM:<a@b.example>\r\n"), {}),
    "relaying": (
        says(b"EHLO client.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@else.example>\r\n"),
        {"role": "mx"},
    ),
    "too_big": (
        says(b"EHLO client.example\r\nMAIL FROM:<a@b.example> SIZE=2000\r\n"),
        {"role": "mx", "limits": {"message_size": 1024}},
    ),
    "bare_lf": (says(b"EHLO client.example\n"), {}),
    "no_brackets": (says(b"EHLO client.example\r\nMAIL FROM:a@b.example\r\n"), {}),
    "space_after_colon": (says(b"EHLO client.example\r\nMAIL FROM: <a@b.example>\r\n"), {}),
    "undeclared_8bit": (
        says(DIALOGUE.replace(b"hello", b"gr\xfc\xdfe") + b".\r\n"),
        {"role": "mx", "tolerate": ()},
    ),
    "bad_helo": (says(b"EHLO my printer\r\n"), {}),
    "other_networks": (quietly(b"NOOP\r\n"), {"only_from": ("192.0.2.0/24",)}),
    "bad_address": (says(b"EHLO client.example\r\nMAIL FROM:<somebody>\r\n"), {"role": "mx"}),
    "parameter_not_offered": (says(b"EHLO client.example\r\nMAIL FROM:<a@b.example> XVERP\r\n"), {"role": "mx"}),
    "helo_first": (says(b"MAIL FROM:<a@b.example>\r\n"), {}),
    "from_our_limits": (comes_too_often, {"guard": {"connection_rate": "1/hour", "exempt": ()}}),
    "left_in_message": (breaks_off, {"role": "mx"}),
    "timeout": (stays_silent, {"limits": {"command_timeout": 0.05}}),
    "no_smtp": (says(b"Dear Sir,\r\n"), {}),
    "too_many_errors": (
        says(b"EHLO client.example\r\nEXPN a\r\nEXPN b\r\n"),
        {"limits": {"errors": 2, "error_delay": 0}},
    ),
    "refused": (says(b"EHLO client.example\r\nEXPN all\r\n"), {}),
}


@pytest.mark.parametrize("symptom", CASES)
def test_what_a_client_does_wrong_is_named_and_what_to_change_is_said(tmp_path: Path, symptom: str) -> None:
    client, options = CASES[symptom]

    (session,) = failures(tmp_path, client, **options)

    names = [finding.symptom for finding in session.findings]
    assert symptom in names
    assert names[0] == symptom or symptom in _CONSEQUENCES
    assert all(finding.happened and finding.change for finding in session.findings)
    assert session.peer == "127.0.0.1"


def test_every_rule_of_the_table_is_driven_here() -> None:
    assert set(CASES) == {*(rule.symptom for rule in RULES), UNKNOWN.symptom}


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_client_that_hangs_up_on_our_certificate_left_at_the_handshake(tmp_path: Path, run: Any) -> None:
    """As Node.js does: no alert, and nothing after our part of the handshake."""

    def client(door: FrontDoor) -> None:
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        secured = unchecked().wrap_bio(to_client, to_server)
        with door.raw() as connection:
            connection.sendall(b"EHLO client.example\r\n")
            read_lines(connection, 11)
            connection.sendall(b"STARTTLS\r\n")
            read_lines(connection, 1)
            with contextlib.suppress(ssl.SSLWantReadError):
                secured.do_handshake()
            connection.sendall(to_server.read())
            assert connection.recv(1) == b"\x16"

    (session,) = failures(tmp_path, client, run=run, **SUBMISSION)
    assert [finding.symptom for finding in session.findings] == ["left_at_handshake"]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_handshake_that_fails_is_known_whichever_loop_tells_of_it(tmp_path: Path, run: Any, tls: str) -> None:
    connect = {"starttls": starttls, "implicit": implicit}[tls]
    (session,) = failures(tmp_path, connect(ssl.create_default_context()), run=run, tls=tls, plaintext_auth=False)
    assert [finding.symptom for finding in session.findings] == ["certificate_refused"]
    assert session.transcript[-1] == "-- TLS handshake failed (tlsv1 alert unknown ca) --"


def test_a_client_that_only_opens_an_implicit_port_waited_for_a_greeting(tmp_path: Path) -> None:
    (session,) = failures(tmp_path, quietly(), tls="implicit")
    assert session.findings[0].symptom == "plain_on_tls_port"


def test_a_session_that_went_well_leaves_nothing_behind(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        says(DIALOGUE + b".\r\nQUIT\r\n")(door)
        with door.smtp() as session:
            session.starttls(context=door.client_tls)
            session.login("alice", "secret")
            session.sendmail("a@b.example", ["bob@else.example"], MESSAGE)
        with door.raw() as connection:
            read_lines(connection, 1)

    assert failures(tmp_path, client, tls="starttls", role="mx") == []


def test_a_connection_kept_open_after_its_mail_that_ends_by_time_is_no_failure(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        with door.raw() as connection:
            connection.sendall(DIALOGUE + b".\r\n")
            assert b"421 4.4.2" in read_all(connection)

    assert failures(tmp_path, client, role="mx", limits={"command_timeout": 0.05}) == []


def test_a_server_that_stops_blames_no_client(tmp_path: Path) -> None:
    door = FrontDoor(tmp_path, CA)

    async def test() -> None:
        await door.beside(lambda: None)
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        await reader.readline()
        await door.listeners.drain(5)
        assert (await reader.read()).startswith(b"421 4.3.2")
        writer.close()

    asyncio.run(door.run(test))
    assert door.failed.all() == []


def test_a_client_that_fails_again_and_again_is_one_entry_with_its_latest_words(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        for name in (b"first", b"second", b"third"):
            says(b"EHLO " + name + b".example\r\n" + PLAIN)(door)

    (session,) = failures(tmp_path, client)
    assert session.times == 3
    assert session.id == "0-1"
    assert session.first_at < session.at
    assert "C: EHLO third.example" in session.transcript


SECRETS = {
    "plain": b"AUTH PLAIN AGFsaWNlAHNlc2FtZQ==\r\n",
    "plain_after_a_challenge": b"AUTH PLAIN\r\nAGFsaWNlAHNlc2FtZQ==\r\n",
    "login": b"AUTH LOGIN\r\nYWxpY2U=\r\nc2VzYW1l\r\n",
    "login_with_a_name": b"AUTH LOGIN YWxpY2U=\r\nc2VzYW1l\r\n",
    "unknown_mechanism": b"AUTH c2VzYW1l\r\n",
    "known_name_of_none_we_have": b"AUTH XOAUTH2 c2VzYW1l\r\n",
    "sent_on_after_a_refusal": b"AUTH NTLM\r\nYWxpY2U=\r\nc2VzYW1l\r\n",
    "no_space": b"AUTH\tPLAIN c2VzYW1l\r\n",
    "as_an_argument": b"NOOP c2VzYW1l\r\nVRFY c2VzYW1l\r\nEXPN c2VzYW1l\r\nQUIT c2VzYW1l\r\n",
    "as_a_parameter": b"MAIL FROM:<a@b.example> AUTH=c2VzYW1l c2VzYW1l PASS=c2VzYW1l\r\n",
    "http": b"GET /?c2VzYW1l HTTP/1.1\r\n",
}


@pytest.mark.parametrize("how", SECRETS)
def test_no_transcript_holds_what_a_client_said_of_its_password(tmp_path: Path, how: str) -> None:
    (session,) = failures(tmp_path, says(b"EHLO client.example\r\n" + SECRETS[how]))
    shown = repr(session)
    assert "c2VzYW1l" not in shown
    assert "AGFsaWNlAHNlc2FtZQ" not in shown
    assert "sesame" not in shown


def test_no_transcript_holds_a_message_whether_it_was_taken_or_sent_in_vain(tmp_path: Path) -> None:
    body = b"Subject: private\r\n\r\nMail me privately.\r\nmail from: Bob, privately\r\nPrivate.\r\n.\r\n"
    dialogue = b"HELO client.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bob@ours.example>\r\nDATA\r\n" + body
    refused = dialogue.replace(b"ours.example", b"else.example")
    (session,) = failures(tmp_path, says(dialogue + refused + b"QUIT\r\n"), role="mx")
    assert "privat" not in repr(session).lower()
    assert "C: RCPT TO:<bob@else.example>" in session.transcript


def test_a_transcript_has_the_last_lines_and_short_ones(tmp_path: Path) -> None:
    lines = b"".join(b"MAIL FROM:<%d@%s>\r\n" % (number, b"x" * 1500) for number in range(100))
    (session,) = failures(tmp_path, says(b"EHLO client.example\r\n" + lines), limits={"errors": 1000})
    assert len(session.transcript) <= 60
    assert max(map(len, session.transcript)) < 300
    assert session.transcript[-2].startswith("C: MAIL FROM:<99@xxx")


@pytest.mark.parametrize("octets", [b"EHLO \x1b[2Jx\xff\r\n", b"MAIL FROM:<\x1b]0;x\x07>\r\n"])
def test_a_transcript_cannot_speak_to_a_terminal(tmp_path: Path, octets: bytes) -> None:
    (session,) = failures(tmp_path, says(octets + b"EXPN\r\n"))
    assert all(line.isascii() and line.isprintable() for line in session.transcript)
