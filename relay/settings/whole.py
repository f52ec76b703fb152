"""The whole configuration: the sections together, and what has to fit between them."""

from __future__ import annotations

import socket
from hashlib import sha256
from typing import Any, Self

from pydantic import model_validator

from relay.settings.contacts import ContactsSettings
from relay.settings.doors import (
    AuthSettings,
    DeviceSettings,
    GuardSettings,
    InboundSettings,
    IssuerSettings,
    LimitSettings,
    ListenerSettings,
    SessionSettings,
    TlsSettings,
)
from relay.settings.server import DnsSettings, HttpSettings, LogSettings, SandboxSettings, ServerSettings, SpoolSettings
from relay.settings.types import Name, Section, unique
from relay.settings.ways import (
    RETRY_PROFILES,
    AccountSettings,
    BouncesSettings,
    DeliverySettings,
    MatchSettings,
    ProviderSettings,
    RateLimitSettings,
    RateMatchSettings,
    RetrySettings,
    RouteSettings,
    SiteSettings,
    SmarthostSettings,
)


class Settings(Section):
    """The whole configuration."""

    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    tls: TlsSettings = TlsSettings()
    limits: LimitSettings = LimitSettings()
    guard: GuardSettings = GuardSettings()
    auth: AuthSettings = AuthSettings()
    sessions: SessionSettings = SessionSettings()
    inbound: InboundSettings = InboundSettings()
    bounces: BouncesSettings = BouncesSettings()
    http: HttpSettings = HttpSettings()
    dns: DnsSettings = DnsSettings()
    delivery: DeliverySettings = DeliverySettings()
    spool: SpoolSettings = SpoolSettings()
    sandbox: SandboxSettings = SandboxSettings()
    listener: tuple[ListenerSettings, ...] = ()
    device: tuple[DeviceSettings, ...] = ()
    route: tuple[RouteSettings, ...] = ()
    limit: tuple[RateLimitSettings, ...] = ()
    retry: dict[Name, RetrySettings] = {}
    account: dict[Name, AccountSettings] = {}
    site: dict[Name, SiteSettings] = {}
    issuer: dict[Name, IssuerSettings] = {}
    smarthost: dict[Name, SmarthostSettings] = {}
    provider: dict[Name, ProviderSettings] = {}
    contacts: dict[Name, ContactsSettings] = {}

    @model_validator(mode="after")
    def _references_exist(self) -> Self:
        unique("listeners", [listener.name for listener in self.listener])
        _check_devices(self.device, [listener.name for listener in self.listener if not listener.path])
        unique("routes", [route.name for route in self.route])
        unique("limits", [limit.name for limit in self.limit])
        unique("issuers", [one.issuer for one in self.issuer.values()])
        for limit in self.limit:
            for candidate in limit.match.candidate:
                self._check_candidate(f"limit {limit.name!r}", candidate)
        for route in self.route:
            for candidate in route.via:
                self._check_candidate(f"route {route.name!r}", candidate)
        for name, smarthost in self.smarthost.items():
            if smarthost.return_path == "bounces" and not self.bounces.domain:
                raise ValueError(f"smarthost {name!r} uses return_path = 'bounces'; set bounces.domain too")
        self._check_retries()
        return self

    def _check_retries(self) -> None:
        named = {"delivery": self.delivery.retry} | {f"route.{one.name}": one.retry for one in self.route}
        named |= {f"account.{name}": one.retry for name, one in self.account.items()}
        named |= {f"contacts.{name}": one.retry for name, one in self.contacts.items()}
        for table, profile in named.items():
            if profile:
                self.retry_profile(profile, f"{table}.retry")

    @property
    def gate_limits(self) -> LimitSettings:
        """Those of the gate behind all listeners: a listener may take larger messages than the others."""
        largest = max((one.message_size for one in self.listener), default=0)
        if largest <= self.limits.message_size:
            return self.limits
        return self.limits.model_copy(update={"message_size": largest})

    @property
    def routes(self) -> tuple[RouteSettings, ...]:
        """Those of the file, after the one for what comes back to return paths of ours."""
        if not self.bounces.domain:
            return self.route
        back = RouteSettings(
            name="returns", match=MatchSettings(recipient_domain=(self.bounces.domain,)), via=("returns",)
        )
        return (back, *self.route)

    @property
    def sender_domains(self) -> dict[str, tuple[str, ...]]:
        """Candidates that do not take every sender's mail, and whose they take."""
        smarthosts = {f"smarthost:{name}": one.sender_domains for name, one in self.smarthost.items()}
        providers = {f"provider:{name}": one.sender_domains for name, one in self.provider.items()}
        return {name: domains for name, domains in (smarthosts | providers).items() if domains}

    def _check_candidate(self, user: str, candidate: str) -> None:
        kind, _, name = candidate.partition(":")
        known: dict[str, Any] = {"smarthost": self.smarthost, "provider": self.provider}
        if candidate in ("direct", "capture") or name in known.get(kind, ()):
            return
        if kind in known:
            raise ValueError(f"{user} uses {candidate!r}, but there is no [{kind}.{name}]; add it")
        raise ValueError(f"{user} uses {candidate!r}; use direct, capture, smarthost:NAME or provider:NAME")

    def retry_profile(self, name: str, key: str = "delivery.retry") -> RetrySettings:
        """The profile called `name`, which `key` names, own ones first. Raises ValueError with the known names."""
        profile = self.retry.get(name) or RETRY_PROFILES.get(name)
        if profile is None:
            known = ", ".join(sorted({*self.retry, *RETRY_PROFILES}))
            raise ValueError(f"{key}: no retry profile {name!r}; add [retry.{name}], or use one of {known}")
        return profile

    def retry_profile_for(self, message: str, route: str | None, account: str) -> RetrySettings:
        """The most particular one: what the message names, then the route, the account, and the default.

        A message may name one that is not there any more.
        """
        own = self.account.get(account)
        for name in (message, route, own.retry if own else None):
            if name and (profile := self.retry.get(name) or RETRY_PROFILES.get(name)):
                return profile
        return self.retry_profile(self.delivery.retry)

    @property
    def retry_names(self) -> frozenset[str]:
        return frozenset((*RETRY_PROFILES, *self.retry))

    @property
    def retry_profiles(self) -> tuple[RetrySettings, ...]:
        """Every profile there is."""
        return tuple({**RETRY_PROFILES, **self.retry}.values())

    @property
    def rate_limits(self) -> tuple[RateLimitSettings, ...]:
        """Every [[limit]], and what smarthosts say of themselves."""
        own = tuple(
            RateLimitSettings.model_construct(
                name=f"smarthost:{name}",
                match=RateMatchSettings(candidate=(f"smarthost:{name}",)),
                rate=smarthost.rate,
                burst=1,
            )
            for name, smarthost in self.smarthost.items()
            if smarthost.rate
        )
        return self.limit + own

    @property
    def digest(self) -> str:
        """A few letters that differ where any value does."""
        return sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def hostname(self) -> str:
        return self.server.hostname or socket.getfqdn()


def _check_devices(devices: tuple[DeviceSettings, ...], listeners: list[str]) -> None:
    unique("devices", [device.name for device in devices])
    owners: dict[tuple[str, str], str] = {}
    for device in devices:
        for listener in device.listeners:
            if listener not in listeners:
                known = ", ".join(listeners) or "none"
                raise ValueError(f"device {device.name!r} names the listener {listener!r}; those with a port: {known}")
            for network in device.network:
                other = owners.setdefault((listener, network), device.name)
                if other != device.name:
                    raise ValueError(f"devices {other!r} and {device.name!r} both have {network}; give it to one")
