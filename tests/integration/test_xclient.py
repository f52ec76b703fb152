"""Behind an SMTP proxy: XCLIENT says whose session it is, for guard, log and Received.

The real swaks and nginx are in tests/interop.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import trustme
from front_door import MESSAGE, FrontDoor, read_all, read_lines

CA = trustme.CA()
TRUSTED = ("127.0.0.0/8",)
MAIL = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<bob@ours.example>\r\nDATA\r\n" + MESSAGE + b".\r\nQUIT\r\n"


def run(folder: Path, client: Callable[[FrontDoor], None], **options) -> FrontDoor:
    door = FrontDoor(folder, CA, **{"tls": "none", "role": "mx", "xclient": TRUSTED, **options})

    async def test() -> None:
        await door.beside(lambda: client(door))

    asyncio.run(door.run(test))
    return door


def test_log_and_received_have_the_client_that_the_proxy_names(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        with door.raw() as session:
            session.sendall(b"EHLO proxy.example\r\nXCLIENT ADDR=192.0.2.7 HELO=client.example PROTO=ESMTP\r\n" + MAIL)
            assert b"250 2.0.0 Ok: queued as" in read_all(session)

    door = run(tmp_path, client)
    assert door.observer.peers == ["127.0.0.1", "192.0.2.7"]
    assert door.observer.open == 0
    content = door.stored[0].content or b""
    assert content.startswith(b"Received: from client.example ([192.0.2.7])")
    assert b"with ESMTP id" in content


def test_a_client_named_as_logged_in_sends_as_that_login(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        with door.raw() as session:
            session.sendall(b"XCLIENT ADDR=192.0.2.7 LOGIN=alice\r\nEHLO client.example\r\n" + MAIL)
            assert b"250 2.0.0 Ok: queued as" in read_all(session)

    door = run(tmp_path, client, role="submission", xclient_login=True)
    assert (door.stored[0].account, door.stored[0].username) == ("acme", "alice")
    assert b"(authenticated as alice)" in (door.stored[0].content or b"")


def test_the_guard_counts_the_clients_named_and_forgets_them_when_they_leave(tmp_path: Path) -> None:
    """Three connections of one proxy, where one client may have one."""

    def client(door: FrontDoor) -> None:
        def connect(address: str) -> tuple[socket.socket, bytes]:
            session = socket.create_connection(("127.0.0.1", door.port), timeout=60)
            session.sendall(f"XCLIENT ADDR={address}\r\n".encode())
            return session, read_lines(session, 2).splitlines()[1][:3]

        sessions = [connect(address) for address in ("192.0.2.7", "192.0.2.8", "192.0.2.7")]
        assert [said for _, said in sessions] == [b"220", b"220", b"421"]
        for session, _ in sessions:
            session.sendall(b"QUIT\r\n")
            read_all(session)
            session.close()
        again, said = connect("192.0.2.7")
        again.close()
        assert said == b"220"

    door = run(tmp_path, client, guard={"connections": 1, "exempt": ()})
    assert [answer.code for answer in door.observer.rejections] == [421]


def test_a_listener_of_its_own_clients_refuses_others_that_a_proxy_names(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        for address, said in ((b"192.0.2.7", b"220"), (b"198.51.100.7", b"554")):
            with door.raw() as session:
                session.sendall(b"XCLIENT ADDR=" + address + b"\r\n")
                assert read_lines(session, 2).splitlines()[1].startswith(said)

    run(tmp_path, client, only_from=("192.0.2.0/24",))
