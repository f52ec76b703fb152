"""Settings: every value of the configuration file, each defined once, with its default and its meaning.

`config/relay.toml` lists them all and a test compares the two. Unknown keys are errors with a suggestion.
Secrets never stand in the file: `*_file` settings name a file that holds one.
"""

from __future__ import annotations

from relay.settings.contacts import ContactEvent, ContactsSettings
from relay.settings.doors import (
    AuthSettings,
    CertificateSettings,
    DeviceSettings,
    GuardSettings,
    InboundSettings,
    IssuerSettings,
    LimitSettings,
    ListenerSettings,
    PeerSettings,
    SessionSettings,
    TlsSettings,
)
from relay.settings.reading import load_settings
from relay.settings.server import DnsSettings, HttpSettings, LogSettings, SandboxSettings, ServerSettings, SpoolSettings
from relay.settings.types import LoginTolerance, Port, Tolerance, per_second, seconds_of
from relay.settings.ways import (
    RETRY_PROFILES,
    AccountSettings,
    BouncesSettings,
    DeliverySettings,
    MatchSettings,
    OAuthSettings,
    ProviderSettings,
    RateLimitSettings,
    RateMatchSettings,
    RetrySettings,
    RouteSettings,
    SiteSettings,
    SmarthostSettings,
    TimeoutSettings,
)
from relay.settings.whole import Settings

__all__ = [
    "AccountSettings",
    "AuthSettings",
    "BouncesSettings",
    "CertificateSettings",
    "ContactEvent",
    "ContactsSettings",
    "DeliverySettings",
    "DeviceSettings",
    "DnsSettings",
    "GuardSettings",
    "HttpSettings",
    "InboundSettings",
    "IssuerSettings",
    "LimitSettings",
    "ListenerSettings",
    "LogSettings",
    "LoginTolerance",
    "MatchSettings",
    "OAuthSettings",
    "PeerSettings",
    "Port",
    "ProviderSettings",
    "RETRY_PROFILES",
    "RateLimitSettings",
    "RateMatchSettings",
    "RetrySettings",
    "RouteSettings",
    "SandboxSettings",
    "ServerSettings",
    "SessionSettings",
    "Settings",
    "SiteSettings",
    "SmarthostSettings",
    "SpoolSettings",
    "TimeoutSettings",
    "TlsSettings",
    "Tolerance",
    "load_settings",
    "per_second",
    "seconds_of",
]
