"""Handshake: a connection goes on inside TLS, also where the first of TLS was read before TLS was there.

In: a transport and what it read too early. Out: the transport inside TLS. Raises OSError (ssl.SSLError, TimeoutError
and ConnectionError among them) when the handshake fails. Source: RFC 3207 §4, RFC 8314 §3.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final

_SECONDS: Final = 30.0


async def start_server_tls(
    transport: asyncio.Transport, protocol: asyncio.BaseProtocol, context: ssl.SSLContext, early: Callable[[], bytes]
) -> asyncio.Transport:
    """`early` is asked, once the transport reads for TLS alone, what came before that."""
    loop = asyncio.get_running_loop()
    handshake = loop.create_task(
        loop.start_tls(transport, protocol, context, server_side=True, ssl_handshake_timeout=_SECONDS)
    )
    await asyncio.sleep(0)  # start_tls has put its own protocol on the transport
    tls = transport.get_protocol()
    if tls is not protocol:
        _feed(tls, early())
    inside = await handshake
    if inside is None:
        raise ConnectionResetError("peer left during the handshake")
    return inside


def _feed(tls: Any, data: bytes) -> None:
    """Into an asyncio.BufferedProtocol."""
    while data:
        room = tls.get_buffer(len(data))
        size = min(len(room), len(data))
        room[:size] = data[:size]
        tls.buffer_updated(size)
        data = data[size:]
