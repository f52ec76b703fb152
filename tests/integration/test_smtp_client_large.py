"""A message too large for one write: sent at the peer's pace, and in doubt only once its terminator was written.

From memory, and from a file it is never taken out of whole.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from smtp_peer import Peer
from smtp_setting import LOOPS, letters, mx_to, request, send, server_tls, timeouts_at

from relay.mail.errors import StoreError
from relay.ports import LongContent
from relay.settings import TimeoutSettings
from relay.store.bodies import StoredFile

LINE = b"." + b"x" * 70 + b"\r\n"
LARGE = b"Subject: large\r\n\r\n" + LINE * 120_000
"""More than the kernel holds between two ends; every line needs a dot more."""
OFFER = ("PIPELINING", "SIZE 100000000")


@pytest.fixture(params=["memory", "file"])
def sent_from(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[bytes], bytes | LongContent]]:
    """How the client is given content."""
    if request.param == "memory":
        yield bytes
        return
    made: list[LongContent] = []

    def stored(content: bytes) -> LongContent:
        made.append(on_disk(tmp_path / "body", content, threads))
        return made[-1]

    with ThreadPoolExecutor(1) as threads:
        yield stored
    for content in made:
        content.rest.close()


def on_disk(path: Path, content: bytes, threads: ThreadPoolExecutor) -> LongContent:
    """Its first field is not in the file, which begins with one that is not sent."""
    header, rest = content.split(b"\r\n\r\n", 1)
    path.write_bytes(b"X-Unsent: 1\r\n\r\n" + rest)
    head = header + b"\r\n\r\n"
    return LongContent(
        header=header + b"\r\n",
        head=head,
        rest=StoredFile(path, threads),
        skip=len(b"X-Unsent: 1\r\n\r\n"),
        ascii=content.isascii(),
        ends_line=content.endswith(b"\r\n"),
    )


def narrow() -> socket.socket:
    """A listener whose connections hold little that was not read."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    return listener


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("end", [b"", b"x", b"\r"], ids=["ends", "no line end", "half a line end"])
def test_large_message_arrives_dot_stuffed_and_whole(loop: str, tls: bool, end: bytes, sent_from) -> None:
    """Wherever chunks end they lose no dot, and the last line has its end."""
    with Peer(offer=OFFER, tls=server_tls() if tls else None) as peer:
        report = send(mx_to(peer.port), content=sent_from(LARGE + end), loop=loop)

        assert letters(report) == "D"
        assert f"SIZE={len(LARGE + end)}".encode() in b"".join(peer.sessions[0].commands)
    assert peer.messages == [LARGE.replace(b"\r\n.", b"\r\n..") + (end + b"\r\n" if end else b"")]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("fault", "wanted"),
    [("close", "dd"), ("rst", "dd"), ("421", "dd"), ("4xx", "dd"), ("5xx", "FF"), ("2xx", "dd"), ("deaf", "dd")],
)
def test_what_happens_before_the_terminator_is_no_doubt(fault: str, wanted: str, loop: str, sent_from) -> None:
    """A peer that leaves, accepts or stops reading in the middle cannot hold the message; a refusal is one."""
    with Peer({"body": fault}, offer=OFFER, listener=narrow()) as peer:
        transport = mx_to(peer.port, timeouts=timeouts_at("body", fault))
        report = send(transport, request("ann@mx.example", "bob@mx.example"), content=sent_from(LARGE), loop=loop)

        assert letters(report) == wanted
    assert peer.messages == []


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("fault", ["close", "rst", "silence", "garbage"])
def test_lost_answer_after_the_terminator_is_a_doubt(fault: str, loop: str, sent_from) -> None:
    """The peer has read all of it and never said so."""
    with Peer({"dot": fault}, offer=OFFER) as peer:
        report = send(mx_to(peer.port, timeouts=timeouts_at("dot", fault)), content=sent_from(LARGE), loop=loop)

        assert letters(report) == "?"
    assert len(peer.messages) == 1


@pytest.mark.parametrize(("octet", "body"), [(b"a", b""), ("ü".encode(), b" BODY=8BITMIME")], ids=["ascii", "8bit"])
def test_content_beyond_ascii_is_declared(octet: bytes, body: bytes, sent_from) -> None:
    with Peer(offer=(*OFFER, "8BITMIME")) as peer:
        content = LARGE + octet + b"\r\n"
        assert letters(send(mx_to(peer.port), content=sent_from(content))) == "D"
        assert peer.sessions[0].commands[1].split(b" SIZE=")[1] == str(len(content)).encode() + body


class Drain:
    """A next hop that takes any message and remembers nothing."""

    def __init__(self) -> None:
        self.octets = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    @contextmanager
    def serve(self, sessions: int) -> Iterator[None]:
        threads = [threading.Thread(target=self._converse, daemon=True) for _ in range(sessions)]
        for thread in threads:
            thread.start()
        yield
        for thread in threads:
            thread.join(5)
        self._listener.close()

    def _converse(self) -> None:
        connection, _ = self._listener.accept()
        room, tail = bytearray(65_536), b""
        with connection, suppress(ConnectionError):  # who says QUIT may not wait for the answer
            connection.sendall(b"220 drain\r\n")
            in_message = False
            while taken := connection.recv_into(room):
                self.octets += taken
                tail = (tail + bytes(room[max(0, taken - 64) : taken]))[-64:]
                if in_message and tail.endswith(b"\r\n.\r\n"):
                    in_message, tail = False, b""
                    connection.sendall(b"250 ok\r\n")
                elif not in_message and tail.endswith(b"\r\n"):
                    in_message, tail = tail.endswith(b"DATA\r\n"), b""
                    connection.sendall(b"354 go\r\n" if in_message else b"250 drain\r\n")


def test_long_messages_from_files_need_little_memory(tmp_path: Path) -> None:
    """Four of 25 MB at a time: their peak is a few pieces each, and no more for longer ones."""
    content = b"Subject: long\r\n\r\n" + LINE * (25 * 2**20 // len(LINE))
    drain = Drain()

    async def scene(bodies: list[LongContent]) -> int:
        transport = mx_to(drain.port, timeouts=TimeoutSettings())
        tracemalloc.start()
        try:
            reports = await asyncio.gather(*(transport.deliver(request(), body) for body in bodies))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            await transport.close()
        assert [letters(report) for report in reports] == ["D"] * 4
        return peak

    with drain.serve(4), ThreadPoolExecutor(4) as pool:
        bodies = [on_disk(tmp_path / str(n), content, pool) for n in range(4)]
        del content
        peak = asyncio.run(scene(bodies))
        for body in bodies:
            body.rest.close()
    assert drain.octets > 4 * 25 * 2**20
    assert peak < 4 * 1_500_000


class Spoilt:
    """A stored body whose beginning can be read `times` times; then the disk fails."""

    def __init__(self, stored: StoredFile, skip: int, times: int) -> None:
        self.size = stored.size
        self._stored, self._skip, self._left = stored, skip, times

    async def read(self, start: int, most: int) -> bytes:
        self._left -= start == self._skip
        if self._left < 0:
            raise StoreError("body: cannot read it: Input/output error")
        return await self._stored.read(start, most)

    def close(self) -> None:
        self._stored.close()


@pytest.mark.parametrize(
    ("rcpts", "sessions"), [({"limit": 1}, 1), ({"offer": (*OFFER, "LIMITS MAILMAX=1 RCPTMAX=1")}, 2)]
)
def test_who_was_accepted_stays_so_when_the_stored_message_cannot_be_read_again(
    rcpts: dict[str, Any], sessions: int, tmp_path: Path
) -> None:
    """In a later transaction of the same session, and in the next session."""
    with Peer(**{"offer": OFFER, **rcpts}) as peer, ThreadPoolExecutor(1) as threads:
        body = on_disk(tmp_path / "body", LARGE, threads)
        spoilt = replace(body, rest=Spoilt(body.rest, body.skip, 1))
        report = send(mx_to(peer.port), request("ann@mx.example", "bob@mx.example"), content=spoilt)
        body.rest.close()

        assert letters(report) == "Dd"
        assert len(peer.sessions) == sessions
    assert len(peer.messages) == 1


def test_a_stored_message_that_cannot_be_read_at_all_is_said_to_the_caller(tmp_path: Path) -> None:
    with Peer(offer=OFFER) as peer, ThreadPoolExecutor(1) as threads:
        body = on_disk(tmp_path / "body", LARGE, threads)
        with pytest.raises(StoreError):
            send(mx_to(peer.port), content=replace(body, rest=Spoilt(body.rest, body.skip, 0)))
        body.rest.close()
    assert peer.messages == []
