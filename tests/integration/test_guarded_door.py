"""The guard in front of real connections."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import trustme
from front_door import FrontDoor, read_all, read_lines

CA = trustme.CA()


def run(folder: Path, client, **options):
    door = FrontDoor(folder, CA, **options)

    async def test() -> None:
        await door.beside(lambda: client(door))

    asyncio.run(door.run(test))
    return door


def test_a_client_with_too_many_connections_is_told_and_one_that_leaves_makes_room(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        with door.raw() as first, door.raw() as second:
            assert read_lines(first, 1).startswith(b"220 ")
            assert read_lines(second, 1).startswith(b"220 ")
            with door.raw() as third:
                assert read_all(third) == b"421 4.7.0 Too many connections from your address, try again later\r\n"
        while True:
            with door.raw() as again:
                if read_lines(again, 1).startswith(b"220 "):
                    break
            time.sleep(0.01)

    door = run(tmp_path, client, guard={"connections": 2, "exempt": ()})
    assert str(door.observer.rejections[0]).startswith("421 4.7.0")


def test_a_client_that_guesses_passwords_is_cut_off_and_may_not_come_back(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        for _ in range(3):
            with door.smtp() as session:
                session.ehlo()
                assert session.docmd("AUTH", "PLAIN AGFsaWNlAHdyb25n")[0] == 535
        with door.raw() as session:
            session.sendall(b"EHLO client.example\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n")
            assert read_all(session).endswith(
                b"421 4.7.0 Too many failed authentications from your address, try again later\r\n"
            )

    run(tmp_path, client, guard={"auth_failures": 3, "exempt": ()})


def test_a_client_that_errs_a_lot_is_heard_slowly_before_it_is_cut_off(tmp_path: Path) -> None:
    """Nothing it said is lost meanwhile."""

    def client(door: FrontDoor) -> None:
        with door.raw() as session:
            read_lines(session, 1)
            session.sendall(b"NONSENSE\r\n" * 2)
            read_lines(session, 2)
            started = time.monotonic()
            session.sendall(b"NOOP\r\n")
            assert read_lines(session, 1) == b"250 2.0.0 Ok\r\n"
            assert time.monotonic() - started > 0.25
            session.sendall(b"NONSENSE\r\n" * 2)
            assert read_all(session).endswith(b"421 4.7.0 Too many errors, closing\r\n")

    run(tmp_path, client, limits={"errors": 4, "error_delay": 0.3})
