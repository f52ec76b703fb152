"""ProviderTransport: carries a provider's calls over HTTP, and knows whether a lost answer is a doubt.

In: a DeliveryRequest and the message's bytes. Out: a DeliveryReport with an outcome for every recipient. One aiohttp
session with a small pool; connects only where the SSRF guard allows, follows no redirect, uses no proxy or cookie,
reads 1 MB of answer at most. Never raises for a result. Raises SettingsError at construction (key, CA file, URL).
Nothing was sent completely: Deferred. The last byte was handed over and no answer came: InDoubt (promise 3).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter
from yarl import URL

import relay
from relay.mail.errors import MessageSyntaxError
from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Outcome
from relay.mail.reply import printable, reply
from relay.mail.session import TlsFacts
from relay.ports import Clock, DeliveryReport, DeliveryRequest, Resolver
from relay.settings import ProviderSettings
from relay.transports.guard import AddressGuard, ForbiddenAddressError, GuardedResolver
from relay.transports.http_settings import checked_host, read_api_key, tls_context
from relay.transports.providers.base import HttpRequest, HttpResponse, Provider, Refusal, Rendering

RESPONSE_OCTETS: Final = 1_048_576
RETRY_AFTER_RANGE: Final = (30.0, 14_400.0)
LONGEST_CONNECT: Final = 30.0
SLOWEST_UPLOAD: Final = 65_536
"""Octets a second; a large message gets so much more than `timeout`."""
IDLE_CONNECTION: Final = 4.0
"""Seconds; shorter than servers wait (5 s is common), for a call sent into a closing connection ends in doubt."""
MOST_CONNECTIONS: Final = 100
SHORTEST_SECRET: Final = 8
"""Characters of an API key from which it is taken out of answers before anybody quotes them."""

_SLICE: Final = 65_536
_log = logging.getLogger(__name__)


class ProviderTransport:
    """One `[provider.NAME]`. Built anywhere; its session is made inside the loop that first delivers."""

    def __init__(
        self, name: str, settings: ProviderSettings, provider: Provider, clock: Clock, resolver: Resolver
    ) -> None:
        """Reads `api_key_file` and `ca_file`. Raises SettingsError naming the key and the fix."""
        self._name = name
        self._provider = provider
        self._clock = clock
        self._guard = AddressGuard(allow_private=settings.allow_private)
        self._host = checked_host(name, provider.base_url, settings.allow_private, self._guard)
        self._api_key = read_api_key(name, settings.api_key_file)
        secure = URL(provider.base_url).scheme == "https"
        self._tls = tls_context(name, settings.ca_file) if secure else True  # True: aiohttp's word for "its default"
        self._timeout = settings.timeout
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def deliver(self, request: DeliveryRequest, content: bytes) -> DeliveryReport:
        """An outcome for every recipient; never raises for a result."""
        rendering = self._render(request, content)
        if not isinstance(rendering, Rendering):
            return DeliveryReport({recipient.address: rendering for recipient in request.recipients})
        outcomes: dict[str, Outcome] = {}
        tls: TlsFacts | None = None
        for position, call in enumerate(rendering.requests):
            body = _TrackedBody(call.body, self._timeout)
            found = await self._carry(call, body)
            outcomes |= found
            tls = body.tls or tls
            stop = _stops_the_rest(found.values())
            if stop is not None:
                rest = (address for later in rendering.requests[position + 1 :] for address in later.recipients)
                outcomes |= dict.fromkeys(rest, stop)
                break
        return DeliveryReport(outcomes, self._host, tls)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # --- before the network --------------------------------------------------------------------------------

    def _render(self, request: DeliveryRequest, content: bytes) -> Rendering | Outcome:
        try:
            rendering = self._provider.render(request, content)
        except MessageSyntaxError as error:
            text = printable(f"The message cannot be taken apart for {self._provider.title}: {error}")
            return Failed(reply(550, "5.6.0", text), elsewhere=True)
        except Exception:
            _log.exception("provider %s: cannot render message %s", self._name, request.message_id)
            return Deferred(reply(451, "4.3.0", "Internal error"))
        if isinstance(rendering, Refusal):
            return Failed(rendering.reply, elsewhere=True)
        covered = sorted(address for call in rendering.requests for address in call.recipients)
        if covered != sorted(recipient.address for recipient in request.recipients):
            _log.error("provider %s: calls for message %s miss or add recipients", self._name, request.message_id)
            return Deferred(reply(451, "4.3.0", "Internal error"))
        return rendering

    # --- one call ------------------------------------------------------------------------------------------

    async def _carry(self, call: HttpRequest, body: _TrackedBody) -> dict[str, Outcome]:
        try:
            response = await self._exchange(call, body)
        except (aiohttp.ClientError, OSError) as error:
            return dict.fromkeys(call.recipients, self._unanswered(call, body, error))
        except Exception:
            _log.exception("provider %s: the call broke", self._name)
            return dict.fromkeys(call.recipients, self._lost(call, body, "internal error", Fault.MESSAGE))
        return self._read(response, call, body)

    def _read(self, response: HttpResponse, call: HttpRequest, body: _TrackedBody) -> dict[str, Outcome]:
        try:
            found = self._provider.read(response, call)
        except Exception:
            _log.exception("provider %s: cannot read its answer", self._name)
            found = {}
        missing = self._lost(call, body, "the answer cannot be read", Fault.MESSAGE)
        return {address: found.get(address, missing) for address in call.recipients}

    async def _exchange(self, call: HttpRequest, body: _TrackedBody) -> HttpResponse:
        """Raises aiohttp.ClientError or OSError (time-outs included) where no usable answer came."""
        session = self._open_session()
        now = self._clock.now()
        headers = {**call.headers, **self._provider.authorise(call, self._api_key, now)}
        timeout = aiohttp.ClientTimeout(
            total=self._timeout + len(call.body) / SLOWEST_UPLOAD,
            sock_connect=min(LONGEST_CONNECT, self._timeout),
            sock_read=self._timeout,
        )
        async with session.request(
            call.method,
            URL(call.url, encoded=True),
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=timeout,
        ) as answer:
            names = {name.lower(): value for name, value in answer.headers.items()}
            octets = await _read_body(answer)
        if len(self._api_key) >= SHORTEST_SECRET:
            octets = octets.replace(self._api_key.encode("ascii"), b"[api key]")
        return HttpResponse(answer.status, names, octets, parse_retry_after(names.get("retry-after", ""), now))

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(
                ssl=self._tls,
                resolver=GuardedResolver(self._resolver, self._guard),
                use_dns_cache=False,  # the Resolver port caches, and a cached answer would escape the check
                socket_factory=self._guard.open_socket,
                keepalive_timeout=IDLE_CONNECTION,
                limit=MOST_CONNECTIONS,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,  # nothing compressed is asked for, so a bomb stays small
                headers={"User-Agent": f"sendrelay/{relay.__version__}", "Accept-Encoding": "identity"},
            )
        return self._session

    # --- no answer -----------------------------------------------------------------------------------------

    def _unanswered(self, call: HttpRequest, body: _TrackedBody, error: Exception) -> Outcome:
        if isinstance(getattr(error, "os_error", error), ForbiddenAddressError):
            _log.warning("provider %s: %s", self._name, error)
            text = f"{self._host} leads to an address that is not public; connection refused by the relay"
            return Deferred(reply(451, "4.3.5", printable(text)), Fault.ROUTE)
        return self._lost(call, body, _what_happened(error), Fault.HOST)

    def _lost(self, call: HttpRequest, body: _TrackedBody, what: str, fault: Fault) -> Outcome:
        title = self._provider.title
        if not body.handed_over:
            return Deferred(reply(451, "4.4.1", printable(f"{title}: {what}; nothing was accepted")), fault)
        if call.idempotent:
            return Deferred(reply(451, "4.4.2", printable(f"{title}: {what}; the next call repeats this one")), fault)
        return InDoubt(reply(451, "4.4.2", printable(f"{title}: {what}; the message may have been accepted")))


class _TrackedBody(aiohttp.payload.Payload):
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


async def _read_body(answer: aiohttp.ClientResponse) -> bytes:
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


def _what_happened(error: Exception) -> str:
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


def _stops_the_rest(outcomes: Iterable[Outcome]) -> Outcome | None:
    """After a fault of host or route, or a lost answer, the next calls of the message would only meet it again."""
    for outcome in outcomes:
        if isinstance(outcome, Deferred) and outcome.fault is not Fault.MESSAGE:
            return outcome
        if isinstance(outcome, InDoubt):
            return Deferred(reply(451, "4.4.2", "An earlier call for this message got no answer"))
    return None


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
