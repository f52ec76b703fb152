"""Direct delivery: to the MX hosts of the recipients' domain, over SMTP with opportunistic TLS.

In: a request for one domain. Out: Delivered, Deferred, Failed or InDoubt for each recipient.
A host that gives no session (connect, greeting, EHLO, TLS) is passed over for the next address, five at most;
whatever a session then says is final for this attempt. Never raises for a result.
Source: RFC 5321 §5.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from relay.mail.address import to_ascii_domain
from relay.mail.errors import AddressSyntaxError, DnsTemporaryError, SettingsError
from relay.mail.outcome import Deferred, Failed, Fault, Outcome
from relay.mail.reply import Reply, printable, reply
from relay.ports import Clock, DeliveryReport, DeliveryRequest, MxHost, MxLookup
from relay.settings import DeliverySettings
from relay.transports.guard import AddressGuard
from relay.transports.pool import Pool
from relay.transports.smtp_client import Endpoint, Sweeper, TlsMode
from relay.transports.smtp_sender import SmtpSender
from relay.transports.smtp_session import Dialer
from relay.transports.tls import unverified_context

_AVOIDED_SECONDS: Final = 60.0
_REMEMBERED: Final = 4096
_PUBLIC_ONLY: Final = AddressGuard()


class MxTransport:
    """The transport called `direct`."""

    def __init__(self, settings: DeliverySettings, mx: MxLookup, hostname: str, clock: Clock) -> None:
        """`hostname` is what EHLO says. Raises SettingsError for a malformed `mx_override`."""
        self._settings = settings
        self._mx = mx
        self._clock = clock
        self._tls: TlsMode = settings.starttls
        self._override = _parse_override(settings.mx_override, self._tls) if settings.mx_override else None
        sweeper = Sweeper.for_timeouts(settings.timeouts, settings.idle_connection)
        pool = Pool(sweeper, messages=settings.messages_per_connection, idle=settings.idle_connection)
        dialer = Dialer(
            hostname, settings.timeouts, unverified_context(), sweeper, source_address=settings.source_address
        )
        self._sender = SmtpSender(dialer, pool, final_hop=True)
        self._avoided: dict[Endpoint, float] = {}
        self._known: dict[str, tuple[Sequence[MxHost], list[Endpoint]]] = {}

    async def deliver(self, request: DeliveryRequest, content: bytes) -> DeliveryReport:
        """See ports.Transport."""
        endpoints = [self._override] if self._override else await self._endpoints(request.destination)
        if not isinstance(endpoints, list):
            return DeliveryReport({recipient.address: endpoints for recipient in request.recipients})
        report, refused = await self._sender.send(self._preferred(endpoints), request, content)
        for endpoint in refused:
            self._avoid(endpoint)
        return report

    async def close(self) -> None:
        await self._sender.close()

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


def _parse_override(text: str, tls: TlsMode) -> Endpoint:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise SettingsError(f"delivery.mx_override: {text!r} is not host:port; write e.g. '127.0.0.1:2526'")
    host = host.strip("[]")
    return Endpoint(host, int(port), host, tls)
