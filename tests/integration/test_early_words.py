"""The first words inside TLS may come in the packet that ends the handshake: they are heard."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import trustme
import uvloop
from front_door import FrontDoor


class _HurriedClient:
    """TLS by hand, so that Finished and the first command leave in one piece."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    def say_after_handshake(self, words: bytes) -> None:
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                break
            self._connection.sendall(self._outgoing.read())
            self._incoming.write(self._connection.recv(65_536))
        self._tls.write(words)
        self._connection.sendall(self._outgoing.read())

    def hear(self) -> bytes:
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                return self._tls.read(65_536)
            data = self._connection.recv(65_536)
            assert data, "the server hung up"
            self._incoming.write(data)


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_command_in_the_packet_that_ends_the_handshake_is_answered(
    tmp_path: Path, run: Callable[..., None], implicit: bool
) -> None:
    door = FrontDoor(tmp_path, trustme.CA(), tls="implicit" if implicit else "starttls")

    def client() -> None:
        with closing(socket.create_connection(("127.0.0.1", door.port), timeout=60)) as connection:
            if not implicit:
                assert connection.recv(4096).startswith(b"220 ")
                connection.sendall(b"EHLO client.example\r\n")
                assert b"STARTTLS" in connection.recv(4096)
                connection.sendall(b"STARTTLS\r\n")
                assert connection.recv(4096).startswith(b"220 ")
            hurried = _HurriedClient(connection, door.client_tls)
            hurried.say_after_handshake(b"EHLO client.example\r\n")
            heard = hurried.hear()
            if implicit:
                assert heard.startswith(b"220 ")
            while b"ENHANCEDSTATUSCODES" not in heard:
                heard += hurried.hear()
            assert b"\r\n250-SIZE " in heard or heard.startswith(b"250-")

    run(door.run(lambda: door.beside(client)))
