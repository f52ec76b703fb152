"""The SSRF guard: which addresses are public, and that a name is refused for one bad address among good ones."""

from __future__ import annotations

import asyncio
import socket

import pytest

from relay.mail.errors import DnsTemporaryError
from relay.ports import DnsAnswer
from relay.transports.guard import AddressGuard, ForbiddenAddressError, GuardedResolver

NOT_PUBLIC = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
    "::7f00:1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1",
    "2002:7f00:1::1", "3fff::1", "5f00::1", "fc00::1", "fd12::1", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1",
    "::ffff:0:7f00:1", "::ffff:0:a9fe:a9fe", "1::1", "4000::1", "e000::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808"]
NO_ADDRESS = ["", "localhost", "127.1", "0x7f000001", "2130706433", "127.0.0.1:80", "[::1]", "1.1.1.1 ", "01.1.1.1"]


class Records:
    """A Resolver with one set of records for every name."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def query(self, name: str, rdtype: str) -> DnsAnswer:
        self.asked.append(name)
        if not self.addresses:
            raise DnsTemporaryError("SERVFAIL")
        return DnsAnswer(tuple(a for a in self.addresses if (":" in a) == (rdtype == "AAAA")))


def resolve(host: str, *addresses: str, allow_private: bool = False) -> list[str]:
    resolver = GuardedResolver(Records(*addresses), AddressGuard(allow_private=allow_private))
    return [found["host"] for found in asyncio.run(resolver.resolve(host, 443))]


@pytest.mark.parametrize("address", [*NOT_PUBLIC, *NO_ADDRESS])
def test_what_is_not_public_is_refused(address: str):
    """Private, special, wrapped and odd spellings alike."""
    assert not AddressGuard().permits(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address: str):
    """Neighbours of private ranges too, and a public address behind NAT64."""
    assert AddressGuard().permits(address)


def test_allow_private_permits_everything():
    """For stubs, and for APIs inside one's own network."""
    guard = AddressGuard(allow_private=True)

    assert all(guard.permits(address) for address in NOT_PUBLIC)


@pytest.mark.parametrize("private", ["10.0.0.1", "::1"])
def test_one_private_address_refuses_the_name(private: str):
    """A zone that answers with both is rebinding."""
    with pytest.raises(ForbiddenAddressError, match=r"api\.example leads to"):
        resolve("api.example", "1.1.1.1", private)


def test_name_is_pinned_to_what_was_checked():
    """aiohttp gets numeric addresses and has nothing left to look up."""
    resolver = GuardedResolver(Records("1.1.1.1", "2606:4700::1"), AddressGuard())
    found = asyncio.run(resolver.resolve("api.example", 443))

    assert [(f["host"], f["family"], f["port"]) for f in found] == [
        ("2606:4700::1", socket.AF_INET6, 443),
        ("1.1.1.1", socket.AF_INET, 443),
    ]
    assert all(f["flags"] & socket.AI_NUMERICHOST for f in found)


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "api.localhost"])
def test_localhost_is_never_asked_of_dns(name: str):
    """RFC 6761: whatever DNS would say, it is this machine, and so refused."""
    records = Records("1.1.1.1")
    with pytest.raises(ForbiddenAddressError):
        asyncio.run(GuardedResolver(records, AddressGuard()).resolve(name, 443))

    assert records.asked == []
    assert resolve(name, "1.1.1.1", allow_private=True) == ["127.0.0.1", "::1"]


def test_dns_trouble_is_an_oserror():
    """What aiohttp makes a connection error of."""
    with pytest.raises(OSError, match="DNS gives no answer"):
        resolve("api.example")


def test_socket_is_refused_for_a_private_literal():
    """The last look: address literals pass no resolver."""
    guard = AddressGuard()
    info = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80))

    with pytest.raises(ForbiddenAddressError):
        guard.open_socket(info)
    AddressGuard(allow_private=True).open_socket(info).close()
