"""What calls over HTTP share: the guarded session, a body that knows how far it came, an answer read within bounds.

In: where one may connect, octets, an answer. Out: an aiohttp session, octets, words for what happened. Raises
aiohttp.ClientError and OSError where no usable answer came.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Iterable, Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter

import relay
from relay.mail.session import TlsFacts
from relay.ports import Resolver
from relay.transports.guard import AddressGuard, GuardedResolver

RESPONSE_OCTETS: Final = 1_048_576
RETRY_AFTER_RANGE: Final = (30.0, 14_400.0)
IDLE_CONNECTION: Final = 4.0
"""Seconds; shorter than servers wait (5 s is common), for a call sent into a closing connection ends in doubt."""
MOST_CONNECTIONS: Final = 100
SHORTEST_SECRET: Final = 8
"""Characters of a secret from which it is taken out of answers before anybody quotes them."""

_SLICE: Final = 65_536
_SECONDS_DIGITS: Final = 8  # more are a time since the epoch
_EPOCH_DIGITS: Final = 20


def guarded_session(guard: AddressGuard, resolver: Resolver, tls: ssl.SSLContext | bool) -> aiohttp.ClientSession:
    """Connects only where `guard` allows, uses no proxy or cookie. To be made inside the loop."""
    connector = aiohttp.TCPConnector(
        ssl=tls,
        resolver=GuardedResolver(resolver, guard),
        use_dns_cache=False,  # the Resolver port caches, and a cached answer would escape the check
        socket_factory=guard.open_socket,
        keepalive_timeout=IDLE_CONNECTION,
        limit=MOST_CONNECTIONS,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,  # nothing compressed is asked for, so a bomb stays small
        headers={"User-Agent": f"sendrelay/{relay.__version__}", "Accept-Encoding": "identity"},
    )


class TrackedBody(aiohttp.payload.Payload):
    """A request body that knows whether its last byte was handed to the connection, and what TLS that one had."""

    _default_content_type = "application/json"

    def __init__(self, octets: bytes, stall: float) -> None:
        """`stall`: seconds the peer may take to make room for the next slice."""
        super().__init__(octets)
        self._octets = octets
        self._stall = stall
        self._size = len(octets)
        self.handed_over = False
        self.tls: TlsFacts | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._octets.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        assert isinstance(writer, StreamWriter)  # what the client's connections are made of
        self.tls = _tls_facts(writer.transport)
        view = memoryview(self._octets)
        last = max(len(view) - 1, 0) // _SLICE * _SLICE
        for start in range(0, last, _SLICE):
            async with asyncio.timeout(self._stall):
                await writer.write(view[start : start + _SLICE])
                await writer.drain()
        # No await stands between a writing that did not raise and the note of it, so no time-out falls in between.
        await writer.write(view[last:], drain=False)
        self.handed_over = True


def _tls_facts(transport: asyncio.Transport | None) -> TlsFacts | None:
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    if tls is None:
        return None
    cipher = tls.cipher()
    return TlsFacts(tls.version() or "", cipher[0], cipher[2])


async def read_body(answer: aiohttp.ClientResponse) -> bytes:
    """The body up to RESPONSE_OCTETS. A refusal counts even when its body is cut; an acceptance has to be whole."""
    accepting = answer.status < 300
    body = bytearray()
    try:
        async for chunk in answer.content.iter_chunked(_SLICE):
            body += chunk
            if len(body) > RESPONSE_OCTETS:
                if accepting:
                    raise aiohttp.ClientPayloadError("the answer is longer than 1 MB")
                break
    except (aiohttp.ClientError, OSError):
        if accepting:
            raise
    return bytes(body[:RESPONSE_OCTETS])


def what_happened(error: Exception) -> str:
    """Our own words, for an exception's text may hold addresses, paths or a peer's bytes."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name does not resolve"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return "TLS failed; check ca_file and base_url"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "no connection"
    if isinstance(error, TimeoutError):
        return "time-out"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer broke off or is too long"
    if isinstance(error, aiohttp.ClientResponseError):
        return "the answer is no HTTP"
    return "the connection was lost"


def secrets_in(proof: Iterable[str]) -> Iterator[str]:
    """Of header values that prove who we are: the value, and the password of Basic (RFC 7617), which may be derived."""
    for value in proof:
        scheme, _, word = value.rpartition(" ")
        yield word
        if scheme.lower() == "basic":
            with contextlib.suppress(ValueError):  # an operator's own header may be anything
                yield base64.b64decode(word, validate=True).decode("utf-8").partition(":")[2]


def without_secrets(octets: bytes, secrets: Iterable[str]) -> bytes:
    """An answer that can be quoted."""
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            octets = octets.replace(secret.encode("utf-8"), b"[api key]")
    return octets


def parse_retry_after(value: str, now: float) -> float | None:
    """Seconds or an HTTP-date (RFC 9110 §10.2.3) as seconds from `now`, clamped to RETRY_AFTER_RANGE; else None."""
    value = value.strip()[:64]
    if value.isascii() and value.isdigit():
        seconds = float(value)
    else:
        try:
            seconds = parsedate_to_datetime(value).replace(tzinfo=UTC).timestamp() - now  # always GMT
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, RETRY_AFTER_RANGE[0]), RETRY_AFTER_RANGE[1])


def parse_reset(value: str, now: float) -> float | None:
    """A vendor's own header, as `parse_retry_after`: seconds from now, or since the epoch."""
    if value.isascii() and value.isdigit() and _SECONDS_DIGITS < len(value) <= _EPOCH_DIGITS:
        value = str(max(0, round(float(value) - now)))
    return parse_retry_after(value, now)
