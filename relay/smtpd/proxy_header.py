"""PROXY protocol: what a balancer says of the client before the client says a word, versions 1 and 2.

In: the first octets of a trusted balancer. Out: where the client is, or None while octets are missing.
Raises ProxyHeaderError. Source: HAProxy's proxy-protocol.txt (2020/03/05) §2.1, §2.2.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LONGEST_V1: Final = 107
LONGEST_V2: Final = 4096  # addresses and a few TLVs; the length field could say 65,535
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V1: Final = re.compile(rb"PROXY (TCP4|TCP6) ([0-9a-fA-F.:]{2,39}) [0-9a-fA-F.:]{2,39} ([0-9]{1,5}) [0-9]{1,5}\r\n\Z")
_V1_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [ -~]*)?\r\n\Z")
_FAMILIES: Final = {0x11: 4, 0x21: 16}  # TCP over IPv4 and IPv6: octets of an address
_LOCAL, _PROXY = 0x20, 0x21

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ProxyHeaderError(Exception):
    """No header, or a broken one."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """`octets` is how long it was. `peer` is empty where the balancer speaks for itself: its own address counts."""

    octets: int
    peer: str = ""
    port: int = 0


def is_trusted(peer: str, networks: Networks) -> bool:
    """Whether a header is to be expected from this address."""
    if not networks:
        return False
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    return any(unmapped(address) in network for network in networks)


def unmapped(address: Address) -> Address:
    """A client of IPv4 is that, also where a balancer listens on `::` (RFC 4291 §2.5.5.2)."""
    return getattr(address, "ipv4_mapped", None) or address


def read_header(octets: bytes) -> ProxyHeader | None:
    """Raises ProxyHeaderError as soon as it cannot become one."""
    if octets.startswith(_SIGNATURE[: len(octets)]):
        return _read_v2(octets) if len(octets) >= 16 else None
    if not octets.startswith(b"PROXY "[: len(octets)]):
        raise ProxyHeaderError("no PROXY header came first")
    end = octets.find(b"\n", 0, LONGEST_V1)
    if end < 0:
        if len(octets) >= LONGEST_V1:
            raise ProxyHeaderError("a PROXY header without an end")
        return None
    return _read_v1(octets[: end + 1])


def _read_v1(line: bytes) -> ProxyHeader:
    if _V1_UNKNOWN.match(line):
        return ProxyHeader(len(line))
    match = _V1.match(line)
    if match is None:
        raise ProxyHeaderError("a PROXY header that is none")
    try:
        address = ipaddress.ip_address(match[2].decode("ascii"))
    except ValueError:
        raise ProxyHeaderError("a PROXY header with a bad address") from None
    if address.version != (4 if match[1] == b"TCP4" else 6) or int(match[3]) > 65_535:
        raise ProxyHeaderError("a PROXY header with a bad address")
    return ProxyHeader(len(line), str(unmapped(address)), int(match[3]))


def _read_v2(octets: bytes) -> ProxyHeader | None:
    command, family = octets[12], octets[13]
    length = int.from_bytes(octets[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError("a PROXY header of an unknown version or command")
    if length > LONGEST_V2:
        raise ProxyHeaderError("a PROXY header that is too long")
    if len(octets) < 16 + length:
        return None
    size = _FAMILIES.get(family)
    if command == _LOCAL or size is None:
        # A health check, or a client that has no address.
        return ProxyHeader(16 + length)
    if length < 2 * size + 4:
        raise ProxyHeaderError("a PROXY header with a cut address")
    address = ipaddress.ip_address(octets[16 : 16 + size])
    port = int.from_bytes(octets[16 + 2 * size : 18 + 2 * size], "big")
    return ProxyHeader(16 + length, str(unmapped(address)), port)
