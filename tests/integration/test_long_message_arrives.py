"""A long message over a real connection: to disk as it arrives, byte for byte, in little memory."""

from __future__ import annotations

import asyncio
import smtplib
import tracemalloc
from pathlib import Path

import pytest
import trustme
from front_door import FrontDoor

CA = trustme.CA()
LINE = b"0123456789" * 7 + b"\r\n"


def body(megabytes: float) -> bytes:
    return (LINE * (int(megabytes * 1_048_576) // len(LINE) + 1)).replace(b"\r\n0123", b"\r\n.123", 5)


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "0.bodies").rglob("*") if path.is_file()]


def test_what_is_stored_is_what_was_sent_with_the_stamps_before_it(tmp_path: Path) -> None:
    door = FrontDoor(tmp_path, CA)
    message = b"From: a@b.example\r\nBcc: secret@x.example\r\nSubject: long\r\n\r\n" + body(5)

    def client() -> None:
        with door.smtp() as session:
            session.login("alice", "secret")
            session.sendmail("a@b.example", ["bob@ours.example"], message)

    async def test() -> None:
        await door.beside(client)
        [stored] = door.stored
        assert stored.content is None
        content = await door.spool._spool.read_content(stored.id)
        assert len(content) == stored.size
        assert content.startswith(b"Received: from client.example")
        assert b"secret@x.example" not in content
        assert content.endswith(b"Subject: long\r\n\r\n" + body(5))
        assert [path.name for path in files(tmp_path)] == [stored.id]

    asyncio.run(door.run(test))


def test_a_line_that_is_no_field_and_what_follows_stay_when_a_field_before_it_goes(tmp_path: Path) -> None:
    door = FrontDoor(tmp_path, CA)
    kept = b"no field\r\nSubject: long\r\n\r\n" + body(5)

    def client() -> None:
        with door.smtp() as session:
            session.login("alice", "secret")
            session.sendmail("a@b.example", ["bob@ours.example"], b"Bcc: secret@x.example\r\n" + kept)

    async def test() -> None:
        await door.beside(client)
        [stored] = door.stored
        assert (await door.spool._spool.read_content(stored.id)).endswith(b"\r\n" + kept)

    asyncio.run(door.run(test))


@pytest.mark.parametrize(
    ("tail", "code"), [(b"bare\nline end\r\n", 554), (b"nul \0\r\n", 554), (b"", 250)], ids=["bare", "nul", "clean"]
)
def test_what_is_refused_leaves_no_file(tmp_path: Path, tail: bytes, code: int) -> None:
    door = FrontDoor(tmp_path, CA)
    answers: list[int] = []

    def client() -> None:
        with door.smtp() as session:
            session.login("alice", "secret")
            session.mail("a@b.example")
            session.rcpt("bob@ours.example")
            session.docmd("DATA")
            session.send(b"From: a@b.example\r\n\r\n" + body(3) + tail + b".\r\n")
            answers.append(session.getreply()[0])

    async def test() -> None:
        await door.beside(client)
        assert answers == [code]
        assert len(files(tmp_path)) == (code == 250)

    asyncio.run(door.run(test))


def test_a_client_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    door = FrontDoor(tmp_path, CA)

    def client() -> None:
        session = door.smtp()
        session.login("alice", "secret")
        session.mail("a@b.example")
        session.rcpt("bob@ours.example")
        session.docmd("DATA")
        session.send(b"From: a@b.example\r\n\r\n" + body(3))
        session.close()

    async def test() -> None:
        await door.beside(client)
        while door.observer.open:
            await asyncio.sleep(0.01)
        assert files(tmp_path) == []
        assert door.stored == []

    asyncio.run(door.run(test))


def test_receiving_twenty_five_megabytes_keeps_a_few_in_memory(tmp_path: Path) -> None:
    door = FrontDoor(tmp_path, CA)
    message = b"From: a@b.example\r\n\r\n" + body(25)
    wire = smtplib._fix_eols(message.decode()).encode().replace(b"\r\n.", b"\r\n..") + b".\r\n"  # type: ignore[attr-defined]

    async def send() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(b"EHLO x\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n")
        writer.write(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<b@ours.example>\r\nDATA\r\n")
        while not (await reader.readline()).startswith(b"354"):
            pass
        tracemalloc.start()
        for start in range(0, len(wire), 65_536):
            writer.write(wire[start : start + 65_536])
            await writer.drain()
        assert (await reader.readline()).startswith(b"250")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        writer.close()
        await writer.wait_closed()
        assert peak < 8_000_000, peak

    asyncio.run(door.run(send))


def test_a_long_binary_message_is_kept_octet_for_octet(tmp_path: Path) -> None:
    """RFC 3030: in chunks that end anywhere; no line end is looked for, and none is added."""
    door = FrontDoor(tmp_path, CA)
    data = bytes(range(256)) * 20_000 + b"\r"
    message = b"Subject: long\r\n\r\n" + data
    answers: list[int] = []

    def client() -> None:
        with door.smtp() as session:
            session.login("alice", "secret")
            answers.append(session.docmd("MAIL FROM:<a@b.example> BODY=BINARYMIME")[0])
            session.rcpt("bob@ours.example")
            for start in range(0, len(message), 1_000_001):
                chunk = message[start : start + 1_000_001]
                last = " LAST" if start + len(chunk) == len(message) else ""
                session.putcmd(f"BDAT {len(chunk)}{last}")
                session.send(chunk)
                answers.append(session.getreply()[0])

    async def test() -> None:
        await door.beside(client)
        assert set(answers) == {250}
        [stored] = door.stored
        assert stored.envelope.binary
        content = await door.spool._spool.read_content(stored.id)
        assert content.endswith(b"Subject: long\r\n\r\n" + data)

    asyncio.run(door.run(test))
