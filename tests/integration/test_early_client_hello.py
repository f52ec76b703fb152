"""Implicit TLS where the ClientHello is there before the server has looked: none of it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from contextlib import closing

import pytest
import trustme
import uvloop

from relay.settings import LimitSettings, ListenerSettings
from relay.smtpd.listener import Listeners, bind

_TLS_HANDSHAKE = b"\x16"


class _Observer:
    """Hears everything and keeps nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *facts: None


class _Hooks:
    """For a session that never gets as far as a command."""

    def connected(self, peer: str) -> None: ...

    def left(self, peer: str) -> None: ...

    def known(self, session: object) -> None: ...

    def hold(self, octets: int) -> bool:
        return True

    def incoming(self) -> None: ...


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_client_hello_that_waits_in_the_backlog_is_answered(run: Callable[..., None]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    settings = ListenerSettings(name="test", address="127.0.0.1", port=0, tls="implicit")

    async def serve(listening: socket.socket, client: socket.socket) -> bytes:
        listeners = Listeners(LimitSettings(), "mx.example", _Observer(), lambda: context)  # type: ignore[arg-type]
        await listeners.serve(settings, _Hooks(), [listening])  # type: ignore[arg-type]
        try:
            return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1), 60)
        finally:
            client.close()
            await listeners.drain(5)

    async def test() -> None:
        listening = bind("127.0.0.1", 0, "listener test")
        with closing(socket.create_connection(listening.getsockname())) as client:
            client.sendall(_client_hello())
            client.setblocking(False)
            assert await serve(listening, client) == _TLS_HANDSHAKE

    run(test())
