"""Logins: everything by which a client of this server may log in, built for one worker.

In: settings, the registry, the log. Out: the authenticator for passwords, and the Offer of SASL mechanisms for the
doors; `follow` makes another for other settings. Raises SettingsError, one line with the fix, for what it cannot use.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from relay.auth.certificates import CertificateBook
from relay.auth.credentials import CredentialAuthenticator
from relay.auth.jwks import Freshness, JwksError, KeyRing
from relay.auth.passwords import PasswordVerifier
from relay.auth.scram import ScramBook
from relay.auth.scram_keeper import ScramKeeper
from relay.auth.tokens import Issuer, TokenVerifier
from relay.mail.errors import SettingsError
from relay.ports import Clock, Resolver
from relay.settings import IssuerSettings, Settings
from relay.smtpd.sasl_offer import Offer
from relay.store.registry import Registry
from relay.store.registry_admin import keep_scram
from relay.telemetry.log import MailLog
from relay.transports.fetch import GuardedFetcher

_OF_A_FILE: Final = Freshness(age=60.0, floor=5.0)
_OF_A_URL: Final = Freshness(age=3600.0, floor=60.0)


class Logins:
    """One worker's. `authenticator` stays the same; the offer is made anew by `follow`."""

    def __init__(self, settings: Settings, registry: Registry, resolver: Resolver, clock: Clock, log: MailLog) -> None:
        self._registry = registry
        self._resolver = resolver
        self._clock = clock
        self._log = log
        self._keeper = ScramKeeper(
            functools.partial(keep_scram, settings.server.var, clock),
            clock,
            lambda error: log.warn("scram_verifier_not_stored", error=error),
        )
        self.authenticator = CredentialAuthenticator(registry, PasswordVerifier(clock), clock, self._keeper.learn)

    def follow(self, settings: Settings) -> Offer:
        """By these settings from now on."""
        tokens = self._tokens(settings)
        auth = settings.auth
        book = None
        if auth.scram != "off":
            book = ScramBook(self._registry, self._clock, auth.scram_iterations, offer=auth.scram)
        self._keeper.book = book
        issuers = [one.issuer for one in settings.issuer.values() if one.issuer.startswith("https://")]
        only = f"{issuers[0].rstrip('/')}/.well-known/openid-configuration" if len(issuers) == 1 else ""
        return Offer(book, auth.scram_plus, tokens, only, CertificateBook(self._registry))

    def _tokens(self, settings: Settings) -> TokenVerifier | None:
        if not settings.issuer:
            return None
        issuers = [
            make_issuer(name, one, self._resolver, self._clock, functools.partial(self._unavailable, name))
            for name, one in settings.issuer.items()
        ]
        return TokenVerifier(issuers, self._registry, self._clock, self._refused)

    def _refused(self, issuer: str, reason: str) -> None:
        self._log.warn("token_refused", issuer=issuer, reason=reason)

    def _unavailable(self, issuer: str, reason: str) -> None:
        self._log.warn("token_keys_unavailable", issuer=issuer, reason=reason)


def make_issuer(
    name: str, settings: IssuerSettings, resolver: Resolver, clock: Clock, failed: Callable[[str], None]
) -> Issuer:
    """One `[issuer.NAME]`. A file of keys is read at once, an address when the first token comes."""
    algorithms = tuple(settings.algorithms)
    if settings.jwks_file is not None:
        keys = KeyRing(_reader(settings.jwks_file), algorithms, _OF_A_FILE, clock, failed)
        key = f"issuer.{name}.jwks_file"
        try:
            keys.take(settings.jwks_file.read_bytes())
        except OSError as error:
            raise SettingsError(
                f"{key}: cannot read {settings.jwks_file} ({error.strerror}); check the path"
            ) from error
        except JwksError as error:
            raise SettingsError(f"{key}: {settings.jwks_file}: {error}; put the issuer's keys there") from error
    else:
        ca_key = f"issuer.{name}.ca_file"
        fetcher = GuardedFetcher(ca_key, settings.ca_file, resolver, allow_private=settings.allow_private)
        read = functools.partial(fetcher.get, settings.jwks_url)
        keys = KeyRing(read, algorithms, _OF_A_URL, clock, failed)
    return Issuer(
        name, settings.issuer, settings.audience, settings.username_claim, algorithms, settings.clock_skew, keys
    )


def _reader(path: Path) -> Callable[[], Awaitable[bytes]]:
    return lambda: asyncio.to_thread(path.read_bytes)
