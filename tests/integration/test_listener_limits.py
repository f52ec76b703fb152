"""What a listener allows, where that differs from [limits]: sizes, recipients and time-outs of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import trustme
from front_door import FrontDoor, read_all

CA = trustme.CA()


def run(folder: Path, client: Callable[[FrontDoor], None], **options) -> FrontDoor:
    door = FrontDoor(folder, CA, **{"tls": "none", "role": "mx", **options})

    async def test() -> None:
        await door.beside(lambda: client(door))

    asyncio.run(door.run(test))
    return door


def send(door: FrontDoor, octets: int) -> bytes:
    envelope = b"EHLO here\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bob@ours.example>\r\nDATA\r\n"
    body = b"From: a@b.example\r\n\r\n" + (b"x" * 70 + b"\r\n") * (octets // 72)
    with door.raw() as session:
        session.sendall(envelope + body + b".\r\nQUIT\r\n")
        return read_all(session)


def test_a_listener_may_take_larger_messages_than_the_others(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        said = send(door, 3000)
        assert b"250-SIZE 4096\r\n" in said
        assert b"250 2.0.0 Ok: queued as" in said
        assert b"552 5.3.4" in send(door, 5000)

    run(tmp_path, client, message_size=4096, limits={"message_size": 2048})


def test_a_listener_may_take_smaller_messages_than_the_others(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        said = send(door, 3000)
        assert b"250-SIZE 2048\r\n" in said
        assert b"552 5.3.4" in said

    run(tmp_path, client, message_size=2048, limits={"message_size": 4096})


def test_its_recipients_are_counted_by_its_own_limit(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        words = b"EHLO here\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bob@ours.example>\r\nRCPT TO:<eve@ours.example>\r\n"
        with door.raw() as session:
            session.sendall(words + b"QUIT\r\n")
            said = read_all(session)
        assert b"RCPTMAX=1\r\n" in said
        assert b"452 4.5.3 Too many recipients" in said

    run(tmp_path, client, recipients=1)


def test_its_clients_may_be_silent_for_its_own_time(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        with door.raw() as session:
            assert read_all(session).endswith(b"\r\n421 4.4.2 Timeout, closing\r\n")

    run(tmp_path, client, command_timeout=0.1)
