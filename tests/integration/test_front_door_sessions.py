"""The front door over real sockets: messages in by every way a client may choose, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import trustme
import uvloop
from front_door import DIALOGUE, MESSAGE, FrontDoor, read_all, read_lines

from relay.mail.errors import OperatorError, SettingsError
from relay.ports import SystemClock
from relay.settings import Settings
from relay.smtpd.listener import bind
from relay.smtpd.tls_certificates import Certificates, check_pairs
from relay.smtpd.tls_tickets import TicketContexts

Run = Callable[..., None]
LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def door(tmp_path: Path, authority: trustme.CA) -> Callable[..., FrontDoor]:
    return lambda **options: FrontDoor(tmp_path / "spool", authority, **options)


@LOOPS
def test_starttls_and_login(door: Callable[..., FrontDoor], run: Run) -> None:
    """smtplib over STARTTLS: the stored message carries the facts of TLS and login, and the client's bytes."""
    front = door()
    content = b"From: a@b.example\r\n\r\n.dot\r\n" + b"x" * 300_000 + b"\r\n"

    def client() -> None:
        with front.smtp() as smtp:
            smtp.starttls(context=front.client_tls)
            smtp.login("alice", "secret")
            smtp.sendmail("a@b.example", ["bob@any.example", "ann@any.example"], content)

    run(front.run(lambda: front.beside(client)))

    (message,) = front.stored
    assert message.content is not None
    assert message.content.endswith(content)
    assert b" with ESMTPSA id " in message.content
    assert b"(using TLSv1.3 with cipher TLS_" in message.content
    assert b"(authenticated as alice)" in message.content
    assert b"bob@any" not in message.content
    assert front.observer.bugs == []
    assert front.observer.open == 0


@LOOPS
def test_implicit_tls(door: Callable[..., FrontDoor], run: Run) -> None:
    """smtplib.SMTP_SSL: the greeting comes inside TLS."""
    front = door(tls="implicit", plaintext_auth=False)

    def client() -> None:
        for _ in range(3):
            with front.smtp(implicit=True) as smtp:
                smtp.login("alice", "secret")
                smtp.sendmail("a@b.example", ["bob@any.example"], MESSAGE)

    run(front.run(lambda: front.beside(client)))

    assert len(front.stored) == 3
    assert [facts.version for facts in front.observer.tls] == ["TLSv1.3"] * 3
    assert front.observer.bugs == []


@LOOPS
def test_a_new_certificate_is_used_at_once(door: Callable[..., FrontDoor], run: Run) -> None:
    """Implicit TLS asks for the certificate at each handshake, so a renewed one needs no restart."""
    front = door(tls="implicit")
    other = trustme.CA()

    def client() -> None:
        with front.smtp(implicit=True):
            pass
        front.server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        other.issue_cert("localhost").configure_cert(front.server_tls)
        with pytest.raises(ssl.SSLCertVerificationError):
            front.smtp(implicit=True)

    run(front.run(lambda: front.beside(client)))


@LOOPS
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_bytes_right_behind_the_handshake_are_not_lost(door: Callable[..., FrontDoor], run: Run, tls: str) -> None:
    """A TLS 1.3 client may send its first command in the packet that ends the handshake."""
    front = door(tls=tls)

    def client() -> None:
        for _ in range(10):
            with front.raw() as connection:
                if tls == "starttls":
                    connection.sendall(b"HELO a\r\nSTARTTLS\r\n")
                    read_lines(connection, 3)
                inbox, outbox = ssl.MemoryBIO(), ssl.MemoryBIO()
                tunnel = front.client_tls.wrap_bio(inbox, outbox, server_hostname="localhost")
                with pytest.raises(ssl.SSLWantReadError):
                    tunnel.do_handshake()
                connection.sendall(outbox.read())
                while True:
                    inbox.write(connection.recv(65_536))
                    try:
                        tunnel.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        continue
                tunnel.write(b"QUIT\r\n")
                connection.sendall(outbox.read())
                said = b""
                while b"221 2.0.0 Bye" not in said:
                    inbox.write(connection.recv(65_536))
                    with contextlib.suppress(ssl.SSLWantReadError):
                        while piece := tunnel.read(1000):
                            said += piece

    run(front.run(lambda: front.beside(client)))

    assert front.observer.bugs == []


@LOOPS
def test_commands_injected_before_the_handshake_are_not_executed(door: Callable[..., FrontDoor], run: Run) -> None:
    """In one packet with STARTTLS: the server hangs up. After the 220, in clear: the handshake fails."""
    front = door(role="mx")

    def client() -> None:
        with front.raw() as connection:
            connection.sendall(b"HELO a\r\nSTARTTLS\r\nMAIL FROM:<mallory@b.example>\r\n")
            assert read_all(connection).endswith(b"554 5.5.1 Commands sent before the TLS handshake, closing\r\n")
        with front.raw() as connection:
            connection.sendall(b"HELO a\r\nSTARTTLS\r\n")
            read_lines(connection, 3)
            connection.sendall(b"MAIL FROM:<mallory@b.example>\r\n")
            try:
                assert b"250" not in read_all(connection)
            except ConnectionResetError:
                pass

    run(front.run(lambda: front.beside(client)))

    assert front.observer.tls == []
    assert front.observer.bugs == []
    assert front.observer.open == 0


@LOOPS
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_tls_below_1_2_is_refused(
    door: Callable[..., FrontDoor], tmp_path: Path, authority: trustme.CA, run: Run, tls: str
) -> None:
    """With the server's own context: the handshake fails, and the session is gone."""
    front = door(tls=tls)
    folder = tmp_path / "certs"
    folder.mkdir()
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.pem")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    certificates = Certificates(TicketContexts(SystemClock()), SystemClock(), front.observer)
    certificates.use(certificates.prepare(Settings.model_validate({"server": {"var": tmp_path}})))
    front.server_tls = certificates.context
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(old)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.options &= ~ssl.OP_NO_TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1

    def client() -> None:
        with front.raw() as connection:
            if tls == "starttls":
                connection.sendall(b"HELO a\r\nSTARTTLS\r\n")
                read_lines(connection, 3)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                old.wrap_socket(connection, server_hostname="localhost")
        with front.smtp(implicit=tls == "implicit") as smtp:
            if tls == "starttls":
                smtp.starttls(context=front.client_tls)

    run(front.run(lambda: front.beside(client)))

    assert front.observer.bugs == []
    assert front.observer.open == 0


@LOOPS
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01", b"no TLS at all\r\n"])
def test_a_handshake_that_does_not_end_leaves_no_session(
    door: Callable[..., FrontDoor], run: Run, tls: str, hello: bytes
) -> None:
    """A client that leaves before or in the middle; its place among the connections is free again."""
    front = door(tls=tls, limits={"connections": 1})

    def client() -> None:
        for _ in range(3):
            with front.raw() as connection:
                if tls == "starttls":
                    connection.sendall(b"HELO a\r\nSTARTTLS\r\n")
                    read_lines(connection, 3)
                connection.sendall(hello)
                wait_until(lambda: front.observer.open == 1 or hello.startswith(b"no"))
            wait_until(lambda: front.observer.open == 0)

    run(front.run(lambda: front.beside(client)))

    assert front.observer.bugs == []


@LOOPS
def test_a_client_that_half_closes_after_the_dot_gets_its_answer(door: Callable[..., FrontDoor], run: Run) -> None:
    """`nc` and devices send everything, shut down their side and wait; also when a second message follows."""
    front = door(role="mx")

    def client() -> None:
        with front.raw() as connection:
            connection.sendall(DIALOGUE + b".\r\n" + DIALOGUE + b".\r\nQUIT\r\n")
            connection.shutdown(socket.SHUT_WR)
            said = read_all(connection)
        assert said.count(b"250 2.0.0 Ok: queued as ") == 2
        assert said.endswith(b"221 2.0.0 Bye\r\n")

    run(front.run(lambda: front.beside(client)))

    assert len(front.stored) == 2


@LOOPS
def test_a_half_close_without_quit_ends_the_session_after_the_answer(door: Callable[..., FrontDoor], run: Run) -> None:
    front = door(role="mx")

    def client() -> None:
        with front.raw() as connection:
            connection.sendall(DIALOGUE + b".\r\n")
            connection.shutdown(socket.SHUT_WR)
            assert b"250 2.0.0 Ok: queued as " in read_all(connection)

    run(front.run(lambda: front.beside(client)))

    assert front.observer.open == 0


@LOOPS
@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_disconnect_during_the_commit_does_not_cancel_it(
    door: Callable[..., FrontDoor], run: Run, reset: bool, tls: bool
) -> None:
    """The message is stored; a second one pipelined behind it, whose answer nobody can read, is not."""
    front = door(role="mx", tls="implicit" if tls else "starttls")

    async def test() -> None:
        front.spool.may_commit.clear()

        def client() -> socket.socket:
            connection = socket.create_connection(("127.0.0.1", front.port), timeout=60)
            if tls:
                connection = front.client_tls.wrap_socket(connection, server_hostname="localhost")
            connection.sendall(DIALOGUE + b".\r\n" + DIALOGUE + b".\r\n")
            # What is left unread at close() makes the close a reset.
            read_lines(connection, 5)
            return connection

        connection = await asyncio.to_thread(client)
        await front.spool.started.wait()
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        while front.observer.open and (reset or tls):
            await asyncio.sleep(0.01)
        front.spool.may_commit.set()
        while not front.stored or front.observer.open:
            await asyncio.sleep(0.01)

    run(front.run(test))

    assert len(front.stored) == (1 if reset or tls else 2)
    assert front.observer.bugs == []


@LOOPS
def test_the_answer_comes_after_the_commit(door: Callable[..., FrontDoor], run: Run) -> None:
    """Promise 1: while the commit waits there is no 250."""
    front = door(role="mx")

    async def test() -> None:
        front.spool.may_commit.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(DIALOGUE + b".\r\n")
        await front.spool.started.wait()
        assert (await reader.readuntil(b"354 End data with <CR><LF>.<CR><LF>\r\n")).count(b"queued") == 0
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        assert front.stored == []
        front.spool.may_commit.set()
        assert b"250 2.0.0 Ok: queued as " in await reader.readline()
        writer.close()
        await writer.wait_closed()

    run(front.run(test))

    assert len(front.stored) == 1


@LOOPS
def test_many_connections_at_once(door: Callable[..., FrontDoor], run: Run) -> None:
    """300 sessions, five messages each, all in the spool, none left open."""
    front = door(role="mx")

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        for _ in range(5):
            writer.write(DIALOGUE + b".\r\n")
        writer.write(b"QUIT\r\n")
        said = await reader.read()
        assert said.count(b"250 2.0.0 Ok: queued as ") == 5
        writer.close()
        await writer.wait_closed()

    async def test() -> None:
        await asyncio.gather(*(one() for _ in range(300)))

    run(front.run(test))

    assert len({message.id for message in front.stored}) == 1500
    assert front.observer.open == 0


@LOOPS
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_connections_beyond_the_limit_are_told_so(door: Callable[..., FrontDoor], run: Run, tls: str) -> None:
    """421 4.3.2 in clear; where only TLS is spoken the connection just ends. A handshake counts as a session."""
    front = door(tls=tls, limits={"connections": 2})

    def client() -> None:
        with front.raw() as first, front.raw() as second, front.raw() as third:
            if tls == "starttls":
                read_lines(first, 1)
                read_lines(second, 1)
                assert read_all(third) == b"421 4.3.2 Too many connections, try again later\r\n"
            else:
                assert read_all(third) == b""
        wait_until(lambda: front.observer.open == 0)
        with front.smtp(implicit=tls == "implicit") as smtp:
            assert smtp.noop()[0] == 250

    run(front.run(lambda: front.beside(client)))


def wait_until(condition: Callable[[], bool]) -> None:
    event = threading.Event()
    for _ in range(500):
        if condition():
            return
        event.wait(0.01)
    raise AssertionError("it did not come to pass")


@LOOPS
def test_drain_ends_sessions_between_commands_and_lets_a_message_through(
    door: Callable[..., FrontDoor], run: Run
) -> None:
    """SIGTERM: an idle session is told 421 4.3.2 at once; one in its data may end it and gets its 250 before."""
    front = door(role="mx")

    async def test() -> None:
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", front.port)
        busy_reader, busy_writer = await asyncio.open_connection("127.0.0.1", front.port)
        await idle_reader.readline()
        busy_writer.write(DIALOGUE)
        await busy_reader.readuntil(b"354 End data with <CR><LF>.<CR><LF>\r\n")
        draining = asyncio.create_task(front.listeners.drain(10))
        assert await idle_reader.read() == b"421 4.3.2 Server is going down, try again\r\n"
        busy_writer.write(b".\r\n")
        said = await busy_reader.read()
        assert said.startswith(b"250 2.0.0 Ok: queued as ")
        assert said.endswith(b"\r\n421 4.3.2 Server is going down, try again\r\n")
        await draining
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", front.port)
        for writer in (idle_writer, busy_writer):
            writer.close()
            await writer.wait_closed()

    run(front.run(test))

    assert len(front.stored) == 1


@LOOPS
def test_drain_does_not_speak_into_a_handshake(door: Callable[..., FrontDoor], run: Run) -> None:
    """A session that has not ended its handshake is cut at the end of the time, without a word in clear."""
    front = door(tls="implicit", drain_timeout=0.3)

    async def test() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        while not front.observer.open:
            await asyncio.sleep(0.01)
        await front.listeners.drain(0.2)
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()

    run(front.run(test))

    assert front.observer.open == 0


def test_a_taken_port_is_one_line_with_the_fix() -> None:
    """OperatorError names the listener, the port and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OperatorError) as caught:
            bind("127.0.0.1", port, "listener submission")

    line = str(caught.value)
    assert line == (
        f"listener submission: cannot listen on 127.0.0.1:{port}: the port is taken; "
        "stop what uses it (ss -ltnp shows it) or choose another port"
    )


def test_an_address_of_another_machine_is_one_line_with_the_fix() -> None:
    with pytest.raises(OperatorError, match=r"listener mx: .*192\.0\.2\.1:0: this machine does not have that address"):
        bind("192.0.2.1", 0, "listener mx")


@pytest.mark.parametrize("missing", ["server.pem", "server.key"])
def test_a_missing_certificate_or_key_is_named(tmp_path: Path, authority: trustme.CA, missing: str) -> None:
    """The file that is not there, not the other one."""
    folder = tmp_path / "certs"
    folder.mkdir()
    certificate = authority.issue_cert("mx.example")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.pem")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    (folder / missing).unlink()

    with pytest.raises(SettingsError, match=rf"certs/{missing} is missing; `relay init` makes"):
        check_pairs(Settings.model_validate({"server": {"var": tmp_path}}))


def test_an_encrypted_key_is_an_error_and_no_question_on_the_terminal(tmp_path: Path) -> None:
    """OpenSSL would wait for a password nobody types."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    folder = tmp_path / "certs"
    folder.mkdir()
    trustme.CA().issue_cert("mx.example").cert_chain_pems[0].write_to_path(folder / "server.pem")
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "server.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    )

    with pytest.raises(SettingsError, match="cannot use"):
        check_pairs(Settings.model_validate({"server": {"var": tmp_path}}))


@LOOPS
def test_pipelined_commands_are_answered_in_one_write(door: Callable[..., FrontDoor], run: Run) -> None:
    """One segment in, one segment out: what a client saves by pipelining is not spent on the way back."""
    front = door(role="mx")

    async def test() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        await reader.readline()
        writer.write(b"HELO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bob@ours.example>\r\nDATA\r\n")
        said = await reader.read(65_536)
        assert said.count(b"\r\n") == 4
        writer.close()
        await writer.wait_closed()

    run(front.run(test))


def test_smtplib_sees_refusals_as_it_expects(door: Callable[..., FrontDoor]) -> None:
    """AUTH failures and refused recipients arrive as smtplib's own exceptions."""
    front = door()

    def client() -> None:
        with closing(front.smtp()) as smtp:
            with pytest.raises(smtplib.SMTPAuthenticationError):
                smtp.login("alice", "wrong")
            with pytest.raises(smtplib.SMTPSenderRefused) as caught:
                smtp.sendmail("a@b.example", ["bob@ours.example"], MESSAGE)
            assert caught.value.smtp_code == 530

    asyncio.run(front.run(lambda: front.beside(client)))

    assert front.observer.logins == [None, None]
    assert [str(answer)[:9] for answer in front.observer.rejections] == ["535 5.7.8", "535 5.7.8", "530 5.7.0"]
