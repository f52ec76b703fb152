"""What a listener tolerates, over real connections: it is served, counted, and shown with who needs it."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from front_door import FrontDoor, read_all, read_lines

from relay.settings import ListenerSettings

CA = trustme.CA()
SLOPPY = b"HELO my printer\r\nMAIL FROM: a@b.example\r\nRCPT TO:<bob@ours.example>\nDATA\r\n"
NEEDS = ["bad_helo", "space_after_colon", "no_brackets", "bare_lf", "undeclared_8bit"]
Client = Callable[[FrontDoor], object]


def run(folder: Path, client: Client, *, loop: Callable[..., Any] = asyncio.run, **options: Any) -> FrontDoor:
    door = FrontDoor(folder, CA, **options)

    async def test() -> None:
        await door.beside(lambda: client(door))
        while door.observer.open:
            await asyncio.sleep(0.005)

    loop(door.run(test))
    assert not door.observer.bugs
    return door


def says(octets: bytes) -> Client:
    def client(door: FrontDoor) -> None:
        with door.raw() as connection:
            read_lines(connection, 1)
            connection.sendall(octets + b"QUIT\r\n")
            read_all(connection)

    return client


def old_client() -> ssl.SSLContext:
    """A client that has nothing newer than TLS 1.0."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@pytest.mark.parametrize("subject", [b"gr\xfc\xdfe\n", b"x" * 1_200_000 + b"\xfc\n"], ids=["short", "long"])
def test_a_device_that_does_everything_wrong_is_served_and_what_it_needs_is_known(
    tmp_path: Path, subject: bytes
) -> None:
    body = b"From: a@b.example\r\n\r\n" + b"\r\n".join(subject[at : at + 900] for at in range(0, len(subject), 900))
    door = run(tmp_path, says(SLOPPY + body + b"\r\n.\r\n"), role="mx", tolerate=tuple(NEEDS))
    assert len(door.stored) == 1
    assert sorted(one.what for one in door.devices.all()) == sorted(NEEDS)
    assert {(one.peer, one.listener, one.username) for one in door.devices.all()} == {("127.0.0.1", "test", None)}
    assert {one.helo for one in door.devices.all()} == {"my printer"}
    assert {what for _, what in door.observer.tolerated_things} == set(NEEDS)
    assert not door.observer.rejections


def test_a_long_8bit_message_is_refused_where_nothing_is_tolerated_and_leaves_no_file(tmp_path: Path) -> None:
    body = b"From: a@b.example\r\n\r\n" + (b"x" * 900 + b"\r\n") * 1400 + b"\xfc\r\n.\r\n"
    dialogue = b"HELO client.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bob@ours.example>\r\nDATA\r\n"
    door = run(tmp_path, says(dialogue + body), role="mx", tolerate=())
    assert [str(answer)[:9] for answer in door.observer.rejections] == ["554 5.6.3"]
    assert not door.stored
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 1_000_000]


def test_undeclared_8bit_is_tolerated_until_it_is_taken_out(tmp_path: Path) -> None:
    """PHPMailer and Python's smtplib send so."""

    def client(door: FrontDoor) -> None:
        with door.smtp() as session:
            session.sendmail("a@b.example", ["bob@ours.example"], b"Subject: gr\xfc\xdfe\r\n\r\nx\r\n")

    door = run(tmp_path, client, role="mx")
    assert len(door.stored) == 1
    assert [one.what for one in door.devices.all()] == ["undeclared_8bit"]


def test_a_client_that_keeps_to_the_rules_is_no_device(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        with door.smtp() as session:
            session.starttls(context=door.client_tls)
            session.sendmail("a@b.example", ["bob@ours.example"], b"Subject: x\r\n\r\nx\r\n")

    everything = (*NEEDS, "old_tls")
    door = run(tmp_path, client, role="mx", tls="starttls", tolerate=everything)
    assert len(door.stored) == 1
    assert door.devices.all() == []


@pytest.mark.parametrize("loop", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_tls_1_0_is_spoken_where_old_tls_is_tolerated_and_counted(tmp_path: Path, loop: Any, tls: str) -> None:
    def client(door: FrontDoor) -> None:
        if tls == "implicit":
            session: smtplib.SMTP = smtplib.SMTP_SSL("localhost", door.port, timeout=60, context=old_client())
        else:
            session = door.smtp()
            session.starttls(context=old_client())
        session.sendmail("a@b.example", ["bob@ours.example"], b"Subject: x\r\n\r\nx\r\n")
        session.quit()

    door = run(tmp_path, client, loop=loop, role="mx", tls=tls, tolerate=("old_tls",))
    assert [facts.version for facts in door.observer.tls] == ["TLSv1"]
    assert [one.what for one in door.devices.all()] == ["old_tls"]


def test_tls_1_0_is_not_spoken_elsewhere(tmp_path: Path) -> None:
    def client(door: FrontDoor) -> None:
        with door.raw():
            session = door.smtp()
            with pytest.raises(OSError):  # noqa: PT011 - which one depends on who closes first
                session.starttls(context=old_client())
            session.close()

    door = run(tmp_path, client, role="mx", tls="starttls", tolerate=())
    assert door.observer.tls == []


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_client_of_a_network_that_is_not_served_is_told_and_left(tmp_path: Path, tls: str) -> None:
    def client(door: FrontDoor) -> None:
        with door.raw() as connection:
            said = read_all(connection)
            assert said == (b"" if tls == "implicit" else b"554 5.7.1 This port serves other networks, closing\r\n")

    run(tmp_path, client, tls=tls, only_from=("192.0.2.0/24", "2001:db8::/32"))


def test_a_client_of_a_served_network_is_greeted(tmp_path: Path) -> None:
    door = run(tmp_path, says(b""), only_from=("192.0.2.0/24", "127.0.0.0/8"))
    assert not door.observer.rejections


@pytest.mark.parametrize(
    "listener",
    [{"address": "127.0.0.1"}, {"address": "0.0.0.0", "only_from": ("10.0.0.0/8",)}, {"address": "::1"}],
)
def test_old_tls_is_for_an_isolated_listener(listener: dict[str, Any]) -> None:
    ListenerSettings(name="old", port=25, tolerate=("old_tls",), **listener)


@pytest.mark.parametrize(
    ("listener", "words"),
    [
        ({"address": "0.0.0.0"}, "on a loopback address or for networks in only_from alone"),
        ({"address": "192.0.2.1", "only_from": ("0.0.0.0/0",)}, "lets strangers in"),
        ({"address": "192.0.2.1", "only_from": ("::/0",)}, "lets strangers in"),
    ],
)
def test_old_tls_for_strangers_is_refused_at_the_start(listener: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ListenerSettings(name="old", port=25, tolerate=("old_tls",), **listener)
