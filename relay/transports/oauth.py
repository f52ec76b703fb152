"""TokenSource: access tokens by OAuth 2.0: client credentials, a refresh token, or a signed assertion.

In: an `oauth` table of a provider or smarthost, and the client's secret. Out: a token, cached and renewed before it
expires, or the outcome of mail that cannot have one. One request at a time however many wait; after a failure none for
a while. Secrets come from files and stand in no log and no text. Never raises for an answer. Raises SettingsError at
construction.
Sources: RFC 6749 §2.3.1, §4.4, §5.2 and §6; RFC 7523 §2.1.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import aiohttp
from yarl import URL

from relay.mail.errors import SettingsError
from relay.mail.outcome import Deferred, Fault
from relay.mail.reply import printable, reply
from relay.ports import Clock, Resolver
from relay.presets import PRESETS
from relay.settings import OAuthSettings, ProviderSettings, SmarthostSettings
from relay.transports.assertion import GRANT_TYPE, Assertion
from relay.transports.guard import AddressGuard, ForbiddenAddressError
from relay.transports.http_exchange import (
    guarded_session,
    parse_retry_after,
    read_body,
    what_happened,
    without_secrets,
)
from relay.transports.http_settings import checked_host, read_word
from relay.transports.providers.answers import json_of, words_of
from relay.transports.providers.base import HttpResponse, Provider
from relay.transports.refresh_token import RefreshToken

RENEW_BEFORE: Final = 300.0
"""Seconds before it expires, or a fifth of a shorter life, at which a token is renewed."""
PAUSE: Final = 10.0
"""Seconds after a failure in which nobody asks again."""
LONGEST_TOKEN: Final = 16_384
_LIFE: Final = 3600.0  # where the answer does not say
_LONGEST_LIFE: Final = 86_400.0
_PATIENCE: Final = 60.0
_OPERATORS: Final = (400, 401, 403, 404, 405)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Token:
    """In seconds of the monotonic clock: when to renew it, and when it is over."""

    word: str
    renew_at: float
    over_at: float


class TokenSource:
    """Of one provider or smarthost, in one worker."""

    def __init__(
        self,
        where: str,
        settings: OAuthSettings,
        url: str,
        scope: str,
        secret: str | Assertion,
        clock: Clock,
    ) -> None:
        """Reads the refresh token. `where` is the table's name. Raises SettingsError."""
        self._where = where
        self._settings = settings
        self._url = URL(url, encoded=True)
        self._scope = scope
        self._secret = secret if isinstance(secret, str) else ""
        self._assertion = secret if isinstance(secret, Assertion) else None
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token: _Token | None = None
        self._failure: tuple[float, Deferred] = (0.0, Deferred(reply(451, "4.7.0", "No token")))
        self._refresh = RefreshToken(f"{where}.oauth.refresh_token_file", settings.refresh_token_file)

    async def token(self, session: aiohttp.ClientSession, timeout: float) -> str | Deferred:
        """The one in force, after at most one request."""
        held = self._token
        if held is not None and self._clock.monotonic() < held.renew_at:
            return held.word
        async with self._lock:
            return await self._renewed(session, timeout)

    def refuse(self, word: str) -> None:
        """The API takes it no more, whatever was said of its life."""
        if self._token is not None and self._token.word == word:
            self._token = None
            self._failure = (0.0, self._failure[1])

    async def _renewed(self, session: aiohttp.ClientSession, timeout: float) -> str | Deferred:
        """With the lock held; somebody else may have been here meanwhile."""
        now, held = self._clock.monotonic(), self._token
        if held is not None and now < held.renew_at:
            return held.word
        until, failure = self._failure
        if now >= until:
            found = await self._ask(session, timeout)
            if isinstance(found, _Token):
                self._token = found
                return found.word
            self._failure = (self._clock.monotonic() + (found.retry_after or PAUSE), found)
            failure = found
            _log.warning("%s: no token: %s", self._where, found.reply.text)
        # It was to be renewed early, and is good still.
        return held.word if held is not None and now < held.over_at else failure

    # --- one request ---------------------------------------------------------------------------------------

    async def _ask(self, session: aiohttp.ClientSession, timeout: float) -> _Token | Deferred:
        refresh = self._refresh.read()
        if isinstance(refresh, Deferred):
            return refresh
        answer = await self._post(session, timeout, refresh)
        if isinstance(answer, HttpResponse) and _word(answer, "error") == "invalid_grant":
            # Another worker may have been given a new refresh token meanwhile, and the old one is worth nothing then.
            newer = self._refresh.read()
            if isinstance(newer, str) and newer != refresh:
                answer = await self._post(session, timeout, newer)
        return self._read(answer) if isinstance(answer, HttpResponse) else answer

    async def _post(self, session: aiohttp.ClientSession, timeout: float, refresh: str) -> HttpResponse | Deferred:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        fields = self._fields(refresh, headers)
        body = urlencode({name: value for name, value in fields.items() if value}).encode("ascii")
        try:
            async with session.post(
                self._url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout),
            ) as answer:
                octets = await read_body(answer)
                wait = parse_retry_after(answer.headers.get("Retry-After", ""), self._clock.now())
                return HttpResponse(answer.status, {}, octets, wait)
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(getattr(error, "os_error", error), ForbiddenAddressError):
                text = f"{self._url.host} leads to an address that is not public; connection refused by the relay"
                return Deferred(reply(451, "4.3.5", printable(text)), Fault.ROUTE)
            text = f"No token from {self._url.host}: {what_happened(error)}"
            return Deferred(reply(451, "4.4.1", printable(text)), Fault.HOST)

    def _fields(self, refresh: str, headers: dict[str, str]) -> dict[str, str]:
        """The form; a secret that goes in a header is put there."""
        if self._assertion is not None:
            return {"grant_type": GRANT_TYPE, "assertion": self._assertion.signed(self._clock.now(), self._scope)}
        fields = {"grant_type": self._settings.grant, "scope": self._scope, "refresh_token": refresh}
        if self._settings.client_auth == "body":
            return {**fields, "client_id": self._settings.client_id, "client_secret": self._secret}
        pair = f"{quote_plus(self._settings.client_id)}:{quote_plus(self._secret)}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode("ascii")).decode("ascii")
        return fields

    def _read(self, answer: HttpResponse) -> _Token | Deferred:
        word = _word(answer, "access_token", LONGEST_TOKEN)
        if answer.status == 200 and word and all("!" <= character <= "~" for character in word):
            newer = _word(answer, "refresh_token", LONGEST_TOKEN)
            if newer and self._settings.grant == "refresh_token":
                self._refresh.replace(newer)
            life, now = _life(answer), self._clock.monotonic()
            return _Token(word, now + life - min(RENEW_BEFORE, life / 5), now + life)
        quotable = HttpResponse(answer.status, {}, without_secrets(answer.body, (self._secret, self._refresh.latest)))
        said = ": ".join(
            word for name in ("error", "error_description") if (word := words_of(_word(quotable, name, 1000)))
        )
        text = printable(f"No token from {self._url.host}: HTTP {answer.status}: {said or 'no reason given'}")
        if answer.status in _OPERATORS or answer.status < 400:
            return Deferred(reply(451, "4.7.0", text), Fault.ROUTE)
        return Deferred(reply(451, "4.4.1", text), Fault.HOST, answer.retry_after)


class SmarthostTokens:
    """A TokenSource with a session of its own, for a transport that has no other use for HTTP."""

    def __init__(self, source: TokenSource, guard: AddressGuard, resolver: Resolver) -> None:
        self._source = source
        self._guard = guard
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def token(self) -> str | Deferred:
        """See TokenSource."""
        if self._session is None or self._session.closed:
            self._session = guarded_session(self._guard, self._resolver, True)
        return await self._source.token(self._session, _PATIENCE)

    def refuse(self, word: str) -> None:
        """See TokenSource."""
        self._source.refuse(word)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def smarthost_tokens(
    name: str, settings: SmarthostSettings, clock: Clock, resolver: Resolver
) -> SmarthostTokens | None:
    """None where a password is all the server wants. Raises SettingsError."""
    oauth, where = settings.oauth, f"smarthost.{name}"
    if oauth is None:
        return None
    if not settings.username or settings.password_file is None:
        raise SettingsError(
            f"{where}.oauth: set username to the mailbox, and password_file to a file with the client's secret"
        )
    preset = PRESETS.get(settings.preset)
    url = oauth.token_url or (preset.token_url if preset else "")
    scope = oauth.scope
    if preset and not scope:
        scopes = {"client_credentials": preset.app_scope, "refresh_token": preset.user_scope}
        scope = scopes.get(oauth.grant, preset.signed_scope)
    guard = AddressGuard(allow_private=oauth.allow_private)
    _check_url(where, url, oauth.allow_private, guard)
    setting = f"{where}.password_file"
    secret = _assertion(setting, settings.password_file, oauth, url) or read_word(setting, settings.password_file)
    return SmarthostTokens(TokenSource(where, oauth, url, scope, secret, clock), guard, resolver)


def token_source(
    name: str, settings: ProviderSettings, provider: Provider, secret: str, guard: AddressGuard, clock: Clock
) -> TokenSource | None:
    """None where a key is all the API wants. Raises SettingsError."""
    oauth, where = settings.oauth, f"provider.{name}"
    if oauth is None:
        if provider.wants_token:
            raise SettingsError(
                f"{where}.oauth: {provider.title} takes OAuth tokens only; add [{where}.oauth] with client_id"
            )
        return None
    if oauth.grant not in provider.grants:
        raise SettingsError(
            f"{where}.oauth.grant: {provider.title} gives nothing for {oauth.grant}; set {' or '.join(provider.grants)}"
        )
    url = oauth.token_url or provider.token_url
    _check_url(where, url, settings.allow_private, guard)
    signed = _assertion(f"{where}.api_key_file", settings.api_key_file, oauth, url)
    return TokenSource(where, oauth, url, oauth.scope or provider.token_scope(oauth.grant), signed or secret, clock)


def _assertion(setting: str, path: Path, oauth: OAuthSettings, url: str) -> Assertion | None:
    """None where a secret is all that is asked for. Raises SettingsError."""
    if oauth.grant != "jwt_bearer":
        return None
    return Assertion(setting, path, oauth.client_id, oauth.subject, url)


def _check_url(where: str, url: str, allow_private: bool, guard: AddressGuard) -> None:
    """Raises SettingsError."""
    if not url:
        raise SettingsError(
            f"{where}.oauth.token_url: missing; write where tokens are given out, such as "
            "https://login.microsoftonline.com/TENANT/oauth2/v2.0/token"
        )
    checked_host(f"{where}.oauth.token_url", url, allow_private, guard)


def _word(answer: HttpResponse, name: str, longest: int = 100) -> str:
    found: Any = json_of(answer)
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, str) and len(value) <= longest else ""


def _life(answer: HttpResponse) -> float:
    """Seconds; a text with digits counts too."""
    found: Any = json_of(answer)
    try:
        life = float(found["expires_in"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return _LIFE
    return min(life, _LONGEST_LIFE) if life > 0 else _LIFE
