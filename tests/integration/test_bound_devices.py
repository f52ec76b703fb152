"""Devices that cannot log in: bound to an account by their address, and open to nobody else."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from front_door import MESSAGE, FrontDoor, read_all

CA = trustme.CA()
SCALE = {
    "name": "scale",
    "network": ["127.0.0.9/32"],
    "account": "acme",
    "senders": ["scale@acme.example", "a@b.example"],
    "listeners": ["test"],
}
MAIL = b"MAIL FROM:<scale@acme.example>\r\nRCPT TO:<bob@other.example>\r\nDATA\r\n" + MESSAGE + b".\r\n"


def run(folder: Path, client: Callable[[FrontDoor], None], **options) -> FrontDoor:
    door = FrontDoor(folder, CA, **{"tls": "none", "devices": [SCALE], **options})

    async def test() -> None:
        await door.beside(lambda: client(door))

    asyncio.run(door.run(test))
    return door


def talk(door: FrontDoor, address: str, words: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", door.port), timeout=60, source_address=(address, 0)) as session:
        session.sendall(b"HELO scale\r\n" + words + b"QUIT\r\n")
        return read_all(session)


def test_a_device_sends_without_a_password_as_its_account_and_nobody_else_does(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        assert b"250 2.0.0 Ok: queued as" in talk(door, "127.0.0.9", MAIL)
        assert b"530 5.7.0 Authentication required" in talk(door, "127.0.0.8", MAIL)

    door = run(tmp_path, client)
    (stored,) = door.stored
    assert (stored.account, stored.username) == ("acme", "device:scale")
    content = stored.content or b""
    assert content.startswith(b"Received: from scale ([127.0.0.9])\r\n\t(known as device:scale)\r\n")
    assert b"with SMTP id" in content
    assert [login.username for login in door.observer.logins if login] == ["device:scale"]


def test_its_senders_hold_in_the_envelope_and_in_the_header(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        assert b"550 5.7.1 device:scale has no right to the sender" in talk(
            door, "127.0.0.9", MAIL.replace(b"FROM:<scale@", b"FROM:<boss@")
        )
        said = talk(door, "127.0.0.9", MAIL.replace(b"From: a@b.example", b"From: boss@acme.example"))
        assert b"550 5.7.60 device:scale has no right to From: boss@acme.example" in said

    assert run(tmp_path, client).stored == []


def test_the_guard_counts_its_messages_as_a_login_of_its_own(tmp_path: Path) -> None:
    devices = [SCALE, SCALE | {"name": "printer", "network": ["127.0.0.8/32"]}]

    def client(door: FrontDoor) -> None:
        said = talk(door, "127.0.0.9", MAIL + MAIL)
        assert b"250 2.0.0 Ok: queued as" in said
        assert b"450 4.7.0 Too many messages with this login" in said
        assert b"250 2.0.0 Ok: queued as" in talk(door, "127.0.0.8", MAIL)

    run(tmp_path, client, devices=devices, guard={"login_message_rate": "1/hour"})


def test_what_a_device_sends_twice_is_stored_once_and_two_devices_are_two(tmp_path: Path) -> None:
    mail = MAIL.replace(b"Subject:", b"Message-ID: <1@scale>\r\nSubject:")
    devices = [SCALE, SCALE | {"name": "printer", "network": ["127.0.0.8/32"]}]

    def client(door: FrontDoor) -> None:
        assert b"Ok: queued as" in talk(door, "127.0.0.9", mail)
        assert b"Ok: duplicate of" in talk(door, "127.0.0.9", mail)
        assert b"Ok: queued as" in talk(door, "127.0.0.8", mail)

    door = run(tmp_path, client, devices=devices, limits={"duplicate_window": 3600}, shielded=True)
    assert [message.username for message in door.stored] == ["device:scale", "device:printer"]


def test_starttls_does_not_make_a_device_a_stranger(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        import smtplib

        with smtplib.SMTP("localhost", door.port, "scale", timeout=60, source_address=("127.0.0.9", 0)) as session:
            session.starttls(context=door.client_tls)
            assert session.sendmail("scale@acme.example", ["bob@other.example"], MESSAGE) == {}

    door = run(tmp_path, client, tls="starttls")
    assert door.stored[0].username == "device:scale"
    assert b"with ESMTPS id" in (door.stored[0].content or b"")


def test_a_device_may_log_in_as_somebody_else(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        said = talk(door, "127.0.0.9", b"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n" + MAIL)
        assert b"250 2.0.0 Ok: queued as" in said

    assert run(tmp_path, client).stored[0].username == "alice"


def test_a_device_behind_a_balancer_or_a_proxy_is_known_by_its_own_address(tmp_path: Path) -> None:
    devices = [SCALE | {"network": ["192.168.7.20/32"]}]

    def client(door: FrontDoor) -> None:
        assert b"530 5.7.0" in talk(door, "127.0.0.1", MAIL)
        assert b"Ok: queued as" in talk(door, "127.0.0.1", b"XCLIENT ADDR=192.168.7.20 HELO=scale\r\n" + MAIL)

    door = run(tmp_path, client, devices=devices, xclient=("127.0.0.1/32",))
    assert [message.username for message in door.stored] == ["device:scale"]


def test_what_it_does_wrong_is_tolerated_where_it_says_so(tmp_path: Path) -> None:
    mail = MAIL.replace(b"FROM:<scale@acme.example>", b"FROM: scale@acme.example")

    def client(door: FrontDoor) -> None:
        assert b"Ok: queued as" in talk(door, "127.0.0.9", mail)

    run(tmp_path, client, devices=[SCALE | {"tolerate": ["space_after_colon", "no_brackets"]}])


def test_swaks_as_a_printer(tmp_path: Path) -> None:
    if shutil.which("swaks") is None:
        pytest.skip("swaks is not installed")
    words = "--local-interface 127.0.0.9 --from scale@acme.example --to bob@other.example --helo scale"

    def client(door: FrontDoor) -> None:
        command = ["swaks", "--server", f"127.0.0.1:{door.port}", *words.split()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout

    assert run(tmp_path, client).stored[0].username == "device:scale"
