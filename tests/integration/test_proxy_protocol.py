"""Behind a balancer: its header tells who the client is, for guard, log and Received; from anybody else it is nothing.

The real HAProxy is in tests/interop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from front_door import DIALOGUE, MESSAGE, FrontDoor, read_all, read_lines

from relay.checks.spf import SpfChecker
from relay.ports import DnsAnswer

CA = trustme.CA()
TRUSTED = ("127.0.0.0/8",)
V2 = b"\r\n\r\n\0\r\nQUIT\n"


def run(folder: Path, client: Callable[[FrontDoor], None], **options) -> FrontDoor:
    door = FrontDoor(folder, CA, **{"tls": "none", "role": "mx", "proxy_protocol": TRUSTED, **options})

    async def test() -> None:
        await door.beside(lambda: client(door))

    asyncio.run(door.run(test))
    return door


def received(door: FrontDoor) -> bytes:
    return door.stored[0].content or b""


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n",
        V2 + b"\x21\x11" + struct.pack("!H", 12) + socket.inet_aton("192.0.2.7") + b"\0" * 8,
    ],
)
def test_the_client_is_who_the_header_says_and_may_speak_in_the_same_packet(tmp_path: Path, header: bytes) -> None:
    def client(door: FrontDoor) -> None:
        with door.raw() as session:
            session.sendall(header + DIALOGUE + b".\r\nQUIT\r\n")
            assert read_all(session).startswith(b"220 mx.example ESMTP")

    door = run(tmp_path, client)
    assert door.observer.peers == ["192.0.2.7"]
    assert received(door).startswith(b"Received: from client.example ([192.0.2.7])")
    assert received(door).endswith(MESSAGE)


def test_nothing_is_said_before_the_header_and_without_one_the_connection_is_cut(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        with door.raw() as session:
            session.settimeout(0.2)
            with pytest.raises(TimeoutError):
                session.recv(1)
            session.settimeout(60)
            session.sendall(b"EHLO client.example\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert read_all(session) == b""
        with door.raw() as session:
            session.sendall(b"PROXY TCP4 192.0.2.7 ")

    door = run(tmp_path, client)
    assert door.observer.bad_headers == ["no PROXY header came first"]
    assert door.observer.peers == []
    assert door.observer.bugs == []


def test_a_health_check_of_the_balancer_is_answered_as_itself(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        with door.raw() as session:
            session.sendall(V2 + b"\x20\0\0\0" + b"QUIT\r\n")
            assert read_all(session).endswith(b"221 2.0.0 Bye\r\n")

    assert run(tmp_path, client).observer.peers == ["127.0.0.1"]


def test_a_header_of_somebody_else_is_no_command(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        with door.raw() as session:
            session.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\nNOOP\r\n")
            assert read_lines(session, 3).splitlines()[1] == b"500 5.5.2 Command not recognized"

    door = run(tmp_path, client, proxy_protocol=("192.0.2.0/24",))
    assert door.observer.peers == ["127.0.0.1"]


def test_the_guard_counts_the_clients_and_not_the_balancer(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        def connect(address: str) -> socket.socket:
            session = socket.create_connection(("127.0.0.1", door.port), timeout=60)
            session.sendall(f"PROXY TCP4 {address} 198.51.100.1 1 25\r\n".encode())
            return session

        sessions = [connect("192.0.2.7"), connect("192.0.2.8"), connect("192.0.2.7")]
        told = [read_lines(session, 1)[:3] for session in sessions]
        for session in sessions:
            session.close()
        assert told == [b"220", b"220", b"421"]

    run(tmp_path, client, guard={"connections": 1, "exempt": ()})


def test_a_balancer_that_sends_no_header_in_time_is_cut_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.smtpd.protocol._HEADER_SECONDS", 0.1)

    def client(door: FrontDoor) -> None:
        with door.raw() as session:
            session.sendall(b"PROXY TCP4 192.0.2.7 ")
            with contextlib.suppress(ConnectionResetError):
                assert read_all(session) == b""

    door = run(tmp_path, client)
    assert door.observer.peers == []
    assert door.listeners.sessions() == 0


def test_a_server_that_ends_waits_for_no_header(tmp_path: Path) -> None:
    """It would be cut off after the drain time-out else."""
    door = FrontDoor(tmp_path, CA, tls="none", role="mx", proxy_protocol=TRUSTED, drain_timeout=600.0)

    def wait(session: socket.socket) -> None:
        with contextlib.suppress(ConnectionResetError):
            assert read_all(session) == b""

    async def test() -> None:
        with door.raw() as session:
            session.sendall(V2[:5])
            while not door.listeners.sessions():
                await asyncio.sleep(0.01)
            await asyncio.gather(door.listeners.drain(600.0), door.beside(lambda: wait(session)))

    asyncio.run(asyncio.wait_for(door.run(test), 60))
    assert door.observer.bugs == []


class _Dns:
    """One domain that sends from 192.0.2.7 alone."""

    async def query(self, name: str, rdtype: str) -> DnsAnswer:
        found = ("v=spf1 ip4:192.0.2.7 -all",) if (name, rdtype) == ("b.example", "TXT") else ()
        return DnsAnswer(found, exists=bool(found))


@pytest.mark.parametrize(("address", "said"), [("192.0.2.7", b"250 2.1.0 Ok"), ("192.0.2.8", b"550 5.7.23 SPF")])
def test_spf_judges_the_client_and_not_the_balancer(tmp_path: Path, address: str, said: bytes) -> None:
    def client(door: FrontDoor) -> None:
        with door.raw() as session:
            words = b"HELO client.example\r\nMAIL FROM:<a@b.example>\r\n"
            session.sendall(f"PROXY TCP4 {address} 198.51.100.1 56324 25\r\n".encode() + words)
            assert read_lines(session, 3).splitlines()[2].startswith(said)

    run(tmp_path, client, spf=SpfChecker(_Dns(), hostname="mx.example"))
