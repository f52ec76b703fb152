"""Calls: one call of a vendor's API over HTTP, and those its answer leads to; knows whether a lost answer is a doubt.

In: an HttpRequest. Out: an outcome for everybody it covers. One aiohttp session with a small pool; connects only where
the SSRF guard allows, follows no redirect, uses no proxy or cookie, reads 1 MB of answer at most. Never raises for a
result. Nothing was sent completely: Deferred. The last byte was handed over and no answer came: InDoubt (promise 3).
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import aiohttp
from yarl import URL

from relay.mail.outcome import Deferred, Fault, InDoubt, Outcome
from relay.mail.reply import printable, reply
from relay.mail.session import TlsFacts
from relay.ports import Clock, Resolver
from relay.transports.guard import AddressGuard, ForbiddenAddressError
from relay.transports.http_exchange import (
    TrackedBody,
    guarded_session,
    parse_reset,
    parse_retry_after,
    read_body,
    secrets_in,
    what_happened,
    without_secrets,
)
from relay.transports.oauth import TokenSource
from relay.transports.providers.base import HttpRequest, HttpResponse

LONGEST_CONNECT: Final = 30.0
SLOWEST_UPLOAD: Final = 65_536
"""Octets a second; a large message gets so much more than `timeout`."""
MOST_STEPS: Final = 1_000
"""Calls one after the other for one purpose."""

_log = logging.getLogger(__name__)


class Vendor(Protocol):
    """Whose API it is; pure, as providers/base.py has it."""

    @property
    def title(self) -> str: ...

    @property
    def reset_header(self) -> str: ...

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]: ...

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]: ...


@dataclass(frozen=True, slots=True)
class Line:
    """How the vendor is reached. `name` is for the log; `key` proves who we are where there are no `tokens`."""

    name: str
    host: str
    key: str = field(repr=False)
    tokens: TokenSource | None
    guard: AddressGuard
    tls: ssl.SSLContext | bool
    timeout: float


class Calls:
    """To one vendor. Built anywhere; its session is made inside the loop that first calls."""

    def __init__(self, vendor: Vendor, line: Line, clock: Clock, resolver: Resolver) -> None:
        self._vendor = vendor
        self._line = line
        self._clock = clock
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def ask(self, call: HttpRequest) -> HttpResponse | Outcome:
        """A question that carries no message: its answer, or what stood in its way. Raises nothing."""
        answer, _ = await self._step(call)
        return answer

    async def carry(self, call: HttpRequest) -> tuple[dict[str, Outcome], TlsFacts | None]:
        """Outcomes, and what TLS the last call had. Where one answer leads to the next call, they are all made."""
        for _ in range(MOST_STEPS):
            made = call
            answer, body = await self._step(made)
            following = self._following(made, answer) if made.verdict is None else None
            if following is None:
                return self._outcomes(answer, made, body), body.tls
            call = following
        endless = self._lost(made, body, f"no end after {MOST_STEPS} calls", Fault.MESSAGE)
        return dict.fromkeys(made.recipients, endless), body.tls

    def _outcomes(self, answer: HttpResponse | Outcome, call: HttpRequest, body: TrackedBody) -> dict[str, Outcome]:
        """Of the last call."""
        if call.verdict is not None:
            return dict.fromkeys(call.recipients, call.verdict)
        if isinstance(answer, HttpResponse):
            return self._read(answer, call, body)
        return dict.fromkeys(call.recipients, answer)

    async def _step(self, call: HttpRequest) -> tuple[HttpResponse | Outcome, TrackedBody]:
        """A token that is refused is renewed once: a 401 took nothing."""
        body = TrackedBody(call.body, self._line.timeout)
        key = await self._key()
        answer = await self._ask(call, body, key) if isinstance(key, str) else key
        if self._line.tokens is not None and isinstance(answer, HttpResponse) and answer.status == 401:
            assert isinstance(key, str)
            self._line.tokens.refuse(key)
            key, body = await self._key(), TrackedBody(call.body, self._line.timeout)
            answer = await self._ask(call, body, key) if isinstance(key, str) else key
        return answer, body

    def _following(self, call: HttpRequest, answer: HttpResponse | Outcome) -> HttpRequest | None:
        if call.follow is None or isinstance(answer, InDoubt):
            return None
        try:
            return call.follow(answer if isinstance(answer, HttpResponse) else None, self._clock.now())
        except Exception:
            _log.exception("%s: cannot go on from an answer", self._line.name)
            return None

    async def _key(self) -> str | Deferred:
        """What proves who we are: the API key, or a token."""
        if self._line.tokens is None:
            return self._line.key
        return await self._line.tokens.token(self._open_session(), self._line.timeout)

    async def _ask(self, call: HttpRequest, body: TrackedBody, key: str) -> HttpResponse | Outcome:
        try:
            return await self._exchange(call, body, key)
        except (aiohttp.ClientError, OSError) as error:
            return self._unanswered(call, body, error)
        except Exception:
            _log.exception("%s: the call broke", self._line.name)
            return self._lost(call, body, "internal error", Fault.MESSAGE)

    def _read(self, response: HttpResponse, call: HttpRequest, body: TrackedBody) -> dict[str, Outcome]:
        try:
            found = self._vendor.read(response, call)
        except Exception:
            _log.exception("%s: cannot read its answer", self._line.name)
            found = {}
        missing = self._lost(call, body, "the answer cannot be read", Fault.MESSAGE)
        outcomes = {address: found.get(address, missing) for address in call.recipients}
        if call.prepares:  # nothing was asked for yet that could have been accepted
            return {
                address: Deferred(one.reply, Fault.HOST) if isinstance(one, InDoubt) else one
                for address, one in outcomes.items()
            }
        if call.idempotent and all(isinstance(one, InDoubt) for one in outcomes.values()):
            # A 504 and the like: as good as no answer.
            return {address: Deferred(one.reply, Fault.HOST, repeats=True) for address, one in outcomes.items()}
        return outcomes

    async def _exchange(self, call: HttpRequest, body: TrackedBody, key: str) -> HttpResponse:
        """Raises aiohttp.ClientError or OSError (time-outs included) where no usable answer came."""
        session = self._open_session()
        now = self._clock.now()
        proof = self._vendor.authorise(call, key, now)
        headers = {**call.headers, **proof}
        timeout = aiohttp.ClientTimeout(
            total=self._line.timeout + len(call.body) / SLOWEST_UPLOAD,
            sock_connect=min(LONGEST_CONNECT, self._line.timeout),
            sock_read=self._line.timeout,
        )
        async with session.request(
            call.method,
            URL(call.url, encoded=True),
            data=None if call.method == "GET" else body,
            headers=headers,
            allow_redirects=False,
            timeout=timeout,
        ) as answer:
            names = {name.lower(): value for name, value in answer.headers.items()}
            octets = await read_body(answer)
        octets = without_secrets(octets, (key, *secrets_in(proof.values())))
        return HttpResponse(answer.status, names, octets, self._wait(names, now))

    def _wait(self, headers: Mapping[str, str], now: float) -> float | None:
        """Until when the vendor wants to hear nothing: Retry-After, or a header of its own."""
        wait = parse_retry_after(headers.get("retry-after", ""), now)
        own = headers.get(self._vendor.reset_header, "") if wait is None else ""
        return parse_reset(own, now) if own else wait

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = guarded_session(self._line.guard, self._resolver, self._line.tls)
        return self._session

    # --- no answer -----------------------------------------------------------------------------------------

    def _unanswered(self, call: HttpRequest, body: TrackedBody, error: Exception) -> Outcome:
        if isinstance(getattr(error, "os_error", error), ForbiddenAddressError):
            _log.warning("%s: %s", self._line.name, error)
            text = f"{self._line.host} leads to an address that is not public; connection refused by the relay"
            return Deferred(reply(451, "4.3.5", printable(text)), Fault.ROUTE)
        return self._lost(call, body, what_happened(error), Fault.HOST)

    def _lost(self, call: HttpRequest, body: TrackedBody, what: str, fault: Fault) -> Outcome:
        title = self._vendor.title
        if call.prepares or not body.handed_over:
            return Deferred(reply(451, "4.4.1", printable(f"{title}: {what}; nothing was accepted")), fault)
        if call.idempotent:
            words = f"{title}: {what}; the next call repeats this one"
            return Deferred(reply(451, "4.4.2", printable(words)), fault, repeats=True)
        return InDoubt(reply(451, "4.4.2", printable(f"{title}: {what}; the message may have been accepted")))
