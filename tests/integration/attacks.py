"""What the tests of known attacks share: the ends of data that are none, and doors one behind the other."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trustme
from front_door import FrontDoor, read_all
from smtp_setting import mx_to, request

from relay.settings import TimeoutSettings

CA = trustme.CA()

# Each is the end of data to some server, or was; RFC 5321 §4.1.1.4 knows CR LF . CR LF alone.
FALSE_ENDS = {
    "LF.LF": b"\n.\n",
    "LF.CR": b"\n.\r",
    "LF.CRLF": b"\n.\r\n",
    "CR.CR": b"\r.\r",
    "CR.LF": b"\r.\n",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CRLF.CR": b"\r\n.\r",
    "LFLF.LF": b"\n\n.\n",
    "LFLF.CRLF": b"\n\n.\r\n",
    "CRCR.CRCR": b"\r\r.\r\r",
    "CRLFLF.CRLF": b"\r\n\n.\r\n",
    "CRLFCR.CRLF": b"\r\n\r.\r\n",
    "CRCRLF.CRCRLF": b"\r\r\n.\r\r\n",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "CRLF.LFCRLF": b"\r\n.\n\r\n",
    "CRLFNUL.CRLF": b"\r\n\0.\r\n",
    "CRLF.NULCRLF": b"\r\n.\0\r\n",
    "LF.NULLF": b"\n.\0\n",
    "CRNULLF.CRNULLF": b"\r\0\n.\r\0\n",
    "VT.VT": b"\x0b.\x0b",
    "NEL.NEL": b"\xc2\x85.\xc2\x85",
}
SMUGGLED = (
    b"MAIL FROM:<mallory@b.example>\r\nRCPT TO:<victim@ours.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"
)
HEAD = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<bob@ours.example>\r\n"


def at_door(folder: Path, client: Callable[[FrontDoor], None], **options: Any) -> FrontDoor:
    """One door, and what a client does to it."""
    door = FrontDoor(folder, CA, **{"tls": "none", "role": "mx", **options})

    async def test() -> None:
        await door.beside(lambda: client(door))

    asyncio.run(door.run(test))
    assert door.observer.bugs == []
    return door


def over_two_hops(folder: Path, client: Callable[[FrontDoor], None], **options: Any) -> tuple[FrontDoor, FrontDoor]:
    """The same, and what the first took is sent on to a second, which takes everything it can."""
    for name in ("first", "second"):
        (folder / name).mkdir()
    first = FrontDoor(folder / "first", CA, **{"tls": "none", "role": "mx", **options})
    second = FrontDoor(folder / "second", CA, tls="none", role="mx", tolerate=("undeclared_8bit", "bare_lf"))

    async def send_on() -> None:
        await first.beside(lambda: client(first))
        transport = mx_to(second.port, timeouts=TimeoutSettings())
        for message in first.stored:
            envelope = message.envelope
            await transport.deliver(request(*envelope.recipients, sender=envelope.reverse_path), message.content or b"")
        await transport.close()

    async def test() -> None:
        await second.run(send_on)

    asyncio.run(first.run(test))
    assert first.observer.bugs == second.observer.bugs == []
    return first, second


def says(octets: bytes, replies: list[bytes] | None = None) -> Callable[[FrontDoor], None]:
    """A client that sends all of it and reads to the end; its replies, line by line, go to `replies`."""

    def client(door: FrontDoor) -> None:
        with door.raw() as session:
            session.sendall(octets)
            session.shutdown(socket.SHUT_WR)
            said = read_all(session).splitlines()
            (replies if replies is not None else []).extend(said)

    return client


def resident() -> int:
    """Octets of memory this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
