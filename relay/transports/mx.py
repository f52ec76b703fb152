"""Direct delivery: to the MX hosts of the recipients' domain, over SMTP with opportunistic TLS.

In: a request for one domain. Out: Delivered, Deferred, Failed or InDoubt for each recipient.
A host that gives no session (connect, greeting, EHLO, TLS) is passed over for the next address, five at most;
whatever a session then says is final for this attempt. Never raises for a result.
Sources: RFC 5321 §5.1, RFC 8689 §4.2.1 (REQUIRETLS).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache, partial
from ipaddress import ip_address
from typing import Final

from relay.mail.address import to_ascii_domain
from relay.mail.errors import AddressSyntaxError, DnsTemporaryError
from relay.mail.outcome import Deferred, Failed, Fault, Outcome
from relay.mail.reply import Reply, printable, reply
from relay.policy.sites import site_of
from relay.ports import Clock, DeliveryReport, DeliveryRequest, LongContent, MxHost, MxLookup
from relay.settings import DeliverySettings
from relay.transports.guard import AddressGuard
from relay.transports.pool import Pool
from relay.transports.promises import rather_than_lost
from relay.transports.smtp_client import Endpoint, Sweeper, TlsMode
from relay.transports.smtp_sender import SmtpSender
from relay.transports.smtp_session import Dialer
from relay.transports.tls import unverified_context, verifying_context

_AVOIDED_SECONDS: Final = 60.0
_REMEMBERED: Final = 4096
_PUBLIC_ONLY: Final = AddressGuard()


class MxTransport:
    """The transport called `direct`."""

    takes_long = True

    def __init__(
        self,
        settings: DeliverySettings,
        mx: MxLookup,
        hostname: str,
        clock: Clock,
        sites: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`hostname` is what EHLO says, `sites` are names of MX hosts that belong together.

        Raises SettingsError for a `ca_file` that cannot be used.
        """
        self._own_sites = sites or {}
        self._sites: dict[str, tuple[Sequence[MxHost], str]] = {}
        self._settings = settings
        self._mx = mx
        self._clock = clock
        self._tls: TlsMode = settings.starttls
        self._override = _override(settings.mx_override, self._tls) if settings.mx_override else None
        sweeper = Sweeper.for_timeouts(settings.timeouts, settings.idle_connection)
        pool = Pool(sweeper, messages=settings.messages_per_connection, idle=settings.idle_connection)
        dialer = Dialer(
            hostname,
            settings.timeouts,
            unverified_context(),
            sweeper,
            source_address=settings.source_address,
            verifying=cache(partial(verifying_context, settings.ca_file)),
        )
        if settings.ca_file is not None and dialer.verifying is not None:
            dialer.verifying()
        self._sender = SmtpSender(dialer, pool, final_hop=True)
        self._avoided: dict[Endpoint, float] = {}
        self._known: dict[str, tuple[Sequence[MxHost], list[Endpoint]]] = {}

    async def deliver(self, request: DeliveryRequest, content: bytes | LongContent) -> DeliveryReport:
        """See ports.TakesLong."""
        if request.envelope.requiretls:
            return await rather_than_lost(lambda asked: self._deliver(asked, content), request)
        return await self._deliver(request, content)

    async def _deliver(self, request: DeliveryRequest, content: bytes | LongContent) -> DeliveryReport:
        endpoints = [self._override] if self._override else await self._endpoints(request.destination)
        if request.envelope.requiretls and isinstance(endpoints, list):
            endpoints = self._secured(request.destination, endpoints)
        if not isinstance(endpoints, list):
            return DeliveryReport({recipient.address: endpoints for recipient in request.recipients})
        report, refused = await self._sender.send(self._preferred(endpoints), request, content)
        for endpoint in refused:
            self._avoid(endpoint)
        return report

    async def close(self) -> None:
        await self._sender.close()

    async def site(self, destination: str) -> str:
        """See ports.RollsUp."""
        if self._override or not self._settings.share_hosts:
            return ""
        try:
            hosts = await self._mx.hosts(to_ascii_domain(destination))
        except (DnsTemporaryError, AddressSyntaxError):
            return ""
        if isinstance(hosts, Reply):
            return ""
        known = self._sites.get(destination)
        if known is None or known[0] is not hosts:
            if len(self._sites) >= _REMEMBERED:
                self._sites.clear()
            known = self._sites[destination] = (hosts, site_of(hosts, self._own_sites))
        return known[1]

    async def _endpoints(self, domain: str) -> list[Endpoint] | Outcome:
        """Where to connect, in order, or the outcome when there is nowhere."""
        try:
            hosts = await self._mx.hosts(to_ascii_domain(domain))
        except DnsTemporaryError as error:
            text = f"DNS has no answer for {printable(domain, 255)}: {printable(str(error), 120)}"
            return Deferred(reply(451, "4.4.3", text), Fault.HOST)
        except AddressSyntaxError as error:
            return Failed(reply(553, "5.1.2", f"Bad destination: {error}"))
        if isinstance(hosts, Reply):
            return Failed(hosts) if hosts.permanent else Deferred(hosts, Fault.HOST)
        # A resolver that caches gives the same hosts again; comparing them is cheaper than building endpoints.
        known = self._known.get(domain)
        if known is not None and known[0] == hosts:
            return known[1]
        return self._resolved(domain, hosts)

    def _resolved(self, domain: str, hosts: Sequence[MxHost]) -> list[Endpoint] | Outcome:
        if not any(host.addresses for host in hosts):
            return Deferred(reply(451, "4.4.4", f"No MX host of {printable(domain, 255)} has an address"), Fault.HOST)
        endpoints = self._dialable(hosts)
        if not endpoints:
            text = f"MX hosts of {printable(domain, 255)} have no address we may connect to"
            return Failed(reply(550, "5.4.4", text))
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[domain] = (hosts, endpoints)
        return endpoints

    def _dialable(self, hosts: Sequence[MxHost]) -> list[Endpoint]:
        settings = self._settings
        return [
            Endpoint(address, settings.mx_port, host.name, self._tls)
            for host in hosts
            for address in host.addresses
            if _may_dial(address, private=settings.allow_private_mx, ipv6=settings.ipv6, source=settings.source_address)
        ]

    def _secured(self, domain: str, endpoints: list[Endpoint]) -> list[Endpoint] | Outcome:
        """RFC 8689 §4.2.1: the hosts that DNSSEC vouches for, each of which has to show a certificate."""
        if not self._override:
            secure = {host.name for host in self._known[domain][0] if host.secure}
            endpoints = [endpoint for endpoint in endpoints if endpoint.name in secure]
        if not endpoints:
            text = f"Message requires TLS, and DNSSEC does not protect the MX hosts of {printable(domain, 255)}"
            return Failed(reply(550, "5.7.30", text), elsewhere=True)
        return [replace(endpoint, tls="verify") for endpoint in endpoints]

    def _preferred(self, endpoints: list[Endpoint]) -> list[Endpoint]:
        """Endpoints that refused within the last minute go to the end, in their order."""
        if not self._avoided or len(endpoints) < 2:
            return endpoints
        now = self._clock.monotonic()
        return sorted(endpoints, key=lambda endpoint: self._avoided.get(endpoint, 0.0) > now)

    def _avoid(self, endpoint: Endpoint) -> None:
        if len(self._avoided) >= _REMEMBERED:
            self._avoided.clear()
        self._avoided[endpoint] = self._clock.monotonic() + _AVOIDED_SECONDS


@lru_cache(maxsize=4096)
def _may_dial(address: str, *, private: bool, ipv6: bool, source: str) -> bool:
    """Whether `address` is one we connect to: the checked address is the one dialled, so no name can rebind."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if ip.version == 6 and not ipv6:
        return False
    if source and ip_address(source).version != ip.version:
        return False
    return private or _PUBLIC_ONLY.permits(address)


def _override(text: str, tls: TlsMode) -> Endpoint:
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    return Endpoint(host, int(port), host, tls)
