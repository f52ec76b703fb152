"""The SSRF guard: whatever a name resolves to, we connect to public addresses only, and to those we checked.

In: a host name and the Resolver port. Out: addresses aiohttp connects to, pinned: it never resolves again. Every
address of a name is checked and one bad one refuses all (a rebinding zone answers with both). A second check sits
where the socket is made, so address literals pass through it too. Raises ForbiddenAddressError, DnsTemporaryError.
Sources: IANA special-purpose address registries (RFC 6890), IANA IPv6 global unicast space (2000::/3 alone), RFC 6052,
RFC 6761 §6.3.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

from relay.mail.errors import DnsTemporaryError
from relay.ports import Resolver

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_GLOBAL_UNICAST: Final = "2000::/3"
_NOT_PUBLIC: Final = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)  # fmt: skip
_NAT64: Final = "64:ff9b::/96"


class ForbiddenAddressError(OSError):
    """A name or literal leads to an address that is not public; the text names both."""


class AddressGuard:
    """`allow_private` lets everything through, for stubs and for APIs inside one's own network."""

    def __init__(self, *, allow_private: bool = False) -> None:
        self._allow_private = allow_private
        self._not_public: tuple[_Network, ...] = tuple(ipaddress.ip_network(text) for text in _NOT_PUBLIC)
        self._nat64 = ipaddress.IPv6Network(_NAT64)
        self._global_unicast = ipaddress.IPv6Network(_GLOBAL_UNICAST)

    def permits(self, address: str) -> bool:
        """Whether we may connect there; False for what is no IP address (scoped ones included)."""
        if self._allow_private:
            return True
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return self._public(parsed)

    def _public(self, address: _Address) -> bool:
        if isinstance(address, ipaddress.IPv6Address):
            if address.scope_id is not None:
                return False
            if address in self._nat64:
                return self._public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))  # RFC 6052 §2.2
            if address not in self._global_unicast:
                return False
        return not any(address in network for network in self._not_public)

    def check(self, host: str, address: str) -> None:
        """Raises ForbiddenAddressError."""
        if not self.permits(address):
            raise ForbiddenAddressError(f"{host} leads to {address}, which is no public address; see allow_private")

    def open_socket(self, addr_info: Any) -> socket.socket:
        """aiohttp's `socket_factory`: the last look at the address the socket is made for."""
        family, kind, protocol, _, sockaddr = addr_info
        self.check("the connection", str(sockaddr[0]))
        return socket.socket(family, kind, protocol)


class GuardedResolver(AbstractResolver):
    """aiohttp's resolver on the Resolver port: A and AAAA at once, every answer checked."""

    def __init__(self, resolver: Resolver, guard: AddressGuard) -> None:
        self._resolver = resolver
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError where the name has no address, may not be connected to, or DNS does not answer."""
        addresses = await self._addresses(host)
        if not addresses:
            raise OSError(f"{host} has no address")
        for address in addresses:
            self._guard.check(host, address)
        return [_result(host, port, address) for address in addresses]

    async def _addresses(self, host: str) -> list[str]:
        name = host.rstrip(".").lower()
        if name == "localhost" or name.endswith(".localhost"):
            return ["127.0.0.1", "::1"]  # RFC 6761 §6.3: never asked of DNS
        try:
            answers = await asyncio.gather(self._resolver.query(name, "AAAA"), self._resolver.query(name, "A"))
        except DnsTemporaryError as error:
            raise OSError(f"DNS gives no answer for {host}: {error}") from error
        return [record for answer in answers for record in answer.records]

    async def close(self) -> None:
        """The port is not ours to close."""


def _result(host: str, port: int, address: str) -> ResolveResult:
    return {
        "hostname": host,
        "host": address,
        "port": port,
        "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
        "proto": 0,
        "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    }
