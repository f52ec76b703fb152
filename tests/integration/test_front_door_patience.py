"""The front door and clients that are slow, silent or deaf: each ends in its time, and takes no memory meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
import uvloop
from front_door import DIALOGUE, FrontDoor, read_all, read_lines

from relay.smtpd import listener
from relay.smtpd.dialogue import OUTPUT

Run = Callable[..., None]
LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@pytest.fixture(autouse=True)
def _sweep_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_SWEEP_SECONDS", 0.02)


@pytest.fixture
def door(tmp_path: Path) -> Callable[..., FrontDoor]:
    return lambda **options: FrontDoor(tmp_path / "spool", trustme.CA(), **{"role": "mx", **options})


@LOOPS
def test_a_silent_client_is_told_why_it_is_closed(door: Callable[..., FrontDoor], run: Run) -> None:
    """421 4.4.2 after `command_timeout`."""
    front = door(limits={"command_timeout": 0.2})

    def client() -> None:
        with front.raw() as connection:
            assert read_all(connection).endswith(b"421 4.4.2 Timeout, closing\r\n")

    run(front.run(lambda: front.beside(client)))

    assert front.observer.open == 0


@LOOPS
def test_octets_that_trickle_win_no_time_for_a_command(door: Callable[..., FrontDoor], run: Run) -> None:
    """The time for a command runs from the last answer, not from the last octet."""
    front = door(limits={"command_timeout": 0.3})

    def client() -> None:
        end = time.monotonic() + 60
        with front.raw() as connection:
            read_lines(connection, 1)
            connection.settimeout(0.02)
            said = b""
            while b"421" not in said:
                assert time.monotonic() < end, "it was not cut"
                try:
                    connection.sendall(b"N")
                    said += connection.recv(1000)
                except TimeoutError:
                    continue
                except ConnectionError:
                    break

    run(front.run(lambda: front.beside(client)))


@LOOPS
def test_data_has_its_own_time_which_each_octet_renews(door: Callable[..., FrontDoor], run: Run) -> None:
    """Another than `command_timeout`; a slow client that goes on is served."""
    front = door(limits={"command_timeout": 60, "data_timeout": 600})

    async def test() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(DIALOGUE)
        await reader.readuntil(b"354 End data with <CR><LF>.<CR><LF>\r\n")
        (session,) = front.listeners._sessions
        for _ in range(3):
            before = session.deadline
            assert before > asyncio.get_running_loop().time() + 60
            await asyncio.sleep(0.01)
            writer.write(b"x")
            while session.deadline == before:
                await asyncio.sleep(0.01)
            assert session.deadline > before
        writer.write(b"\r\n.\r\nQUIT\r\n")
        assert b"queued as" in await reader.read()
        writer.close()
        await writer.wait_closed()

    run(front.run(test))

    assert len(front.stored) == 1


@LOOPS
def test_data_that_stops_is_told_why_it_is_closed(door: Callable[..., FrontDoor], run: Run) -> None:
    """421 4.4.2 after `data_timeout` without an octet."""
    front = door(limits={"command_timeout": 3600, "data_timeout": 0.4})

    def client() -> None:
        with front.raw() as connection:
            connection.sendall(DIALOGUE)
            assert read_all(connection).endswith(b"421 4.4.2 Timeout, closing\r\n")

    run(front.run(lambda: front.beside(client)))

    assert front.stored == []


@LOOPS
def test_a_session_has_an_end_however_busy_it_is(door: Callable[..., FrontDoor], run: Run) -> None:
    front = door(limits={"session_timeout": 0.4})

    def client() -> None:
        started = time.monotonic()
        with front.raw() as connection:
            said = read_lines(connection, 1)
            while b"421 4.4.2" not in said:
                connection.sendall(b"NOOP\r\n")
                said = read_lines(connection, 1)
                time.sleep(0.02)
        assert time.monotonic() - started > 0.3

    run(front.run(lambda: front.beside(client)))


@LOOPS
def test_the_clock_stands_while_a_commit_runs(door: Callable[..., FrontDoor], run: Run) -> None:
    """The client waits for us then, and would send again what it got no answer for."""
    front = door(limits={"command_timeout": 100, "data_timeout": 100, "session_timeout": 200})

    async def test() -> None:
        front.spool.may_commit.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(DIALOGUE + b".\r\n")
        await front.spool.started.wait()
        (session,) = front.listeners._sessions
        session.sweep(asyncio.get_running_loop().time() + 300)
        front.spool.may_commit.set()
        said = await reader.readuntil(b"250 2.0.0 Ok: queued as ") + await reader.readline()
        assert b"421 " not in said
        session.sweep(asyncio.get_running_loop().time() + 300)
        assert await reader.read() == b"421 4.4.2 Timeout, closing\r\n"
        writer.close()
        await writer.wait_closed()

    run(front.run(test))


@LOOPS
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_client_that_never_reads_is_cut_and_costs_little(
    door: Callable[..., FrontDoor], monkeypatch: pytest.MonkeyPatch, run: Run, tls: bool
) -> None:
    """It sends HELP without end: soon nothing more is read from it, and its time runs out."""
    from relay.smtpd import protocol

    monkeypatch.setattr(protocol, "_LAST_WORDS_SECONDS", 0.2)
    front = door(limits={"command_timeout": 0.5}, tls="implicit" if tls else "starttls")
    most = 0

    def client() -> None:
        nonlocal most
        with front.raw() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stream = front.client_tls.wrap_socket(connection, server_hostname="localhost") if tls else connection
            stream.settimeout(2)
            deadline = time.monotonic() + 60
            with stream, contextlib.suppress(OSError):
                while time.monotonic() < deadline:
                    stream.sendall(b"HELP\r\n" * 1000)
                    for session in tuple(front.listeners._sessions):
                        most = max(most, session.transport.get_write_buffer_size() + session.dialogue.buffered)
                raise AssertionError("it was not cut")
            while front.observer.open and time.monotonic() < deadline:
                time.sleep(0.02)
            assert front.observer.open == 0

    run(front.run(lambda: front.beside(client)))

    assert most < 10 * OUTPUT
    assert front.observer.bugs == []


@LOOPS
def test_a_client_that_reads_late_gets_every_reply(door: Callable[..., FrontDoor], run: Run) -> None:
    """What had to wait for room is answered once there is some, and a message behind it too."""
    front = door()

    async def test() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port, limit=4096)
        writer.write(b"HELP\r\n" * 60_000 + DIALOGUE + b".\r\nQUIT\r\n")
        await asyncio.sleep(0.3)
        said = await reader.read()
        assert said.count(b"214 2.0.0 ") == 60_000
        assert said.endswith(b"221 2.0.0 Bye\r\n")
        writer.close()
        await writer.wait_closed()

    run(front.run(test))

    assert len(front.stored) == 1


@LOOPS
def test_commands_behind_a_message_wait_in_the_socket(door: Callable[..., FrontDoor], run: Run) -> None:
    """While a commit runs no more than a little is read ahead; afterwards all of it is served."""
    front = door()

    async def test() -> None:
        front.spool.may_commit.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(DIALOGUE + b".\r\n" + b"NOOP\r\n" * 400_000 + b"QUIT\r\n")
        await front.spool.started.wait()
        await asyncio.sleep(0.2)
        (session,) = front.listeners._sessions
        assert session.dialogue.buffered < 600_000
        front.spool.may_commit.set()
        said = await reader.read()
        assert said.count(b"250 2.0.0 Ok\r\n") == 400_000
        assert said.endswith(b"221 2.0.0 Bye\r\n")
        writer.close()
        await writer.wait_closed()

    run(front.run(test))


@LOOPS
def test_messages_in_flight_share_the_memory_of_the_worker(door: Callable[..., FrontDoor], run: Run) -> None:
    """Of four messages of 400 KB at once only those that fit into 1 MB are kept; the others are 452, none is lost."""
    front = door(limits={"memory": 1_048_576})

    async def one(there: asyncio.Event) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(DIALOGUE + b"x" * 400_000)
        await there.wait()
        writer.write(b"\r\n.\r\nQUIT\r\n")
        said = await reader.read()
        writer.close()
        await writer.wait_closed()
        return said

    def all_read() -> bool:
        """But for what is not counted."""
        framings = [session.dialogue._framing for session in front.listeners._sessions]
        return len(framings) == 4 and all(one._refusal is not None or one._held > 350_000 for one in framings)

    async def test() -> None:
        there = asyncio.Event()
        clients = [asyncio.create_task(one(there)) for _ in range(4)]
        while not all_read():
            await asyncio.sleep(0.01)
        there.set()
        said = await asyncio.gather(*clients)
        assert sum(b"250 2.0.0 Ok: queued as " in each for each in said) == 2
        assert sum(b"452 4.3.1 " in each for each in said) == 2
        assert front.intake.hold(1_048_576)

    run(front.run(test))

    assert len(front.stored) == 2
