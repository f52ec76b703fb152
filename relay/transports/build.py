"""Build: every way out that the configuration names. In: settings and what transports need. Out: transports by name.

Opens no connection and asks no DNS. Raises SettingsError, with key and fix, for what cannot be used.
"""

from __future__ import annotations

from relay.ports import Clock, MxLookup, Resolver, Transport
from relay.settings import DeliverySettings, Settings
from relay.transports.http import ProviderTransport
from relay.transports.mx import MxTransport
from relay.transports.providers import build_provider
from relay.transports.smarthost import SmarthostTransport


def build_transports(
    settings: Settings, delivery: DeliverySettings, mx: MxLookup, clock: Clock, resolver: Resolver
) -> dict[str, Transport]:
    """`direct`, `smarthost:NAME` and `provider:NAME`. `delivery` may differ from the settings': the sandbox's MX."""
    hostname = settings.hostname
    transports: dict[str, Transport] = {"direct": MxTransport(delivery, mx, hostname, clock)}
    for name, smarthost in settings.smarthost.items():
        transports[f"smarthost:{name}"] = SmarthostTransport(name, smarthost, delivery, hostname)
    for name, provider in settings.provider.items():
        adapter = build_provider(name, provider)
        transports[f"provider:{name}"] = ProviderTransport(name, provider, adapter, clock, resolver)
    return transports
