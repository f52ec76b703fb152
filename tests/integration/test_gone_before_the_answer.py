"""A client that has gone before the answer can be sent leaves no copy behind, where that can be seen (RFC 1047)."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
import uvloop
from front_door import MESSAGE, FrontDoor, read_lines

from relay.intake import accept as gate

CA = trustme.CA()
ENVELOPE = b"EHLO client.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bob@ours.example>\r\nDATA\r\n"


def play(
    folder: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., None], leave: Callable[..., None], *, tls: bool
):
    """The client waits for the 354, sends its message and leaves; the gate looks only after that."""
    front = FrontDoor(folder, CA, role="mx", tls="starttls" if tls else "none", plaintext_auth=False)
    left = threading.Event()

    def slow(content: bytes) -> bool:
        assert left.wait(60)
        return False

    monkeypatch.setattr(gate, "has_bare_line_ends", slow)

    def client() -> None:
        with front.raw() as plain:
            read_lines(plain, 1)
            connection = plain
            if tls:
                plain.sendall(b"EHLO client.example\r\nSTARTTLS\r\n")
                said = b""
                while b"220 2.0.0" not in said:
                    said += plain.recv(4096)
                connection = front.client_tls.wrap_socket(plain, server_hostname="localhost")
            connection.sendall(ENVELOPE)
            said = b""
            while b"354 " not in said:
                said += connection.recv(4096)
            connection.sendall(MESSAGE + b".\r\n")
            leave(connection, left)
            connection.close()

    async def test() -> None:
        await front.beside(client)
        while front.observer.open:
            await asyncio.sleep(0.01)

    run(front.run(test))
    return front


def close(connection: socket.socket, left: threading.Event) -> None:
    connection.close()
    left.set()


def reset(connection: socket.socket, left: threading.Event) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    left.set()


def stay(connection: socket.socket, left: threading.Event) -> None:
    left.set()
    assert connection.recv(4096).startswith(b"250 2.0.0 Ok: queued as ")


LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@LOOPS
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("leave", [close, reset])
def test_who_closes_or_resets_leaves_no_copy(tmp_path, monkeypatch, run, leave, tls):
    front = play(tmp_path, monkeypatch, run, leave, tls=tls)
    assert front.stored == []
    assert front.observer.bugs == []


@LOOPS
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_who_waits_is_served(tmp_path, monkeypatch, run, tls):
    front = play(tmp_path, monkeypatch, run, stay, tls=tls)
    assert len(front.stored) == 1
