"""Build: every way out that the configuration names. In: settings and what transports need. Out: transports by name.

Opens no connection and asks no DNS. Raises SettingsError, with key and fix, for what cannot be used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from relay.mail.errors import SettingsError
from relay.ports import Clock, MxLookup, Resolver, Transport
from relay.settings import DeliverySettings, Settings, seconds_of
from relay.transports.http import ProviderTransport
from relay.transports.http_settings import read_word
from relay.transports.mx import MxTransport
from relay.transports.oauth import smarthost_tokens
from relay.transports.providers import build_provider
from relay.transports.providers.base import Provider
from relay.transports.smarthost import SmarthostTransport

SHORTEST_TOKEN: Final = 16


@dataclass(frozen=True, slots=True)
class Door:
    """One provider's callbacks: `token` ends their address, `secret` is what signs them, `""` for nothing."""

    provider: Provider
    token: str = field(repr=False)
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Polled:
    """A provider that is asked for news `every` so many seconds."""

    provider: Provider
    every: float


def build_polls(settings: Settings) -> dict[str, Polled]:
    """Providers that are asked for news, by name. Raises SettingsError."""
    found = {}
    for name, provider in settings.provider.items():
        if not provider.poll:
            continue
        adapter = build_provider(name, provider)
        problem = adapter.poll_problem()
        if problem:
            raise SettingsError(f"provider.{name}.poll: {problem}")
        found[name] = Polled(adapter, seconds_of(provider.poll))
    return found


def build_transports(
    settings: Settings, delivery: DeliverySettings, mx: MxLookup, clock: Clock, resolver: Resolver
) -> dict[str, Transport]:
    """`direct`, `smarthost:NAME` and `provider:NAME`. `delivery` may differ from the settings': the sandbox's MX."""
    hostname = settings.hostname
    sites = {name: site.mx for name, site in settings.site.items() if site.mx}
    transports: dict[str, Transport] = {"direct": MxTransport(delivery, mx, hostname, clock, sites)}
    for name, smarthost in settings.smarthost.items():
        tokens = smarthost_tokens(name, smarthost, clock, resolver)
        transports[f"smarthost:{name}"] = SmarthostTransport(name, smarthost, delivery, hostname, tokens)
    for name, provider in settings.provider.items():
        adapter = build_provider(name, provider)
        transports[f"provider:{name}"] = ProviderTransport(name, provider, adapter, clock, resolver)
    return transports


def build_doors(settings: Settings) -> dict[str, Door]:
    """Providers that may call back, by name. Raises SettingsError."""
    found = {}
    for name, provider in settings.provider.items():
        adapter = build_provider(name, provider)
        if provider.hook_token_file is None:
            if adapter.callbacks_described:
                raise SettingsError(
                    f"provider.{name}.options.callback: it has no address to call; set hook_token_file too"
                )
            if provider.report_within and not provider.poll:
                raise SettingsError(
                    f"provider.{name}.report_within: nothing reports without callbacks; set hook_token_file or poll too"
                )
            continue
        if not adapter.calls_back:
            described = "callback" in type(adapter).Options.model_fields
            fix = "describe its calls in options.callback" if described else "remove it"
            raise SettingsError(f"provider.{name}.hook_token_file: {adapter.title} calls nobody back; {fix}")
        token = read_word(f"provider.{name}.hook_token_file", provider.hook_token_file)
        if len(token) < SHORTEST_TOKEN:
            raise SettingsError(
                f"provider.{name}.hook_token_file: shorter than {SHORTEST_TOKEN} characters; write what "
                "`openssl rand -hex 24` prints"
            )
        secret = ""
        if provider.hook_secret_file is not None:
            secret = read_word(f"provider.{name}.hook_secret_file", provider.hook_secret_file)
        try:
            adapter.demand_secret(secret)
        except ValueError as error:
            raise SettingsError(f"provider.{name}.hook_secret_file: {error}") from None
        found[name] = Door(adapter, token, secret)
    return found
