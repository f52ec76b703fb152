"""The PROXY header: octet for octet as HAProxy's text has it, and nothing else."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtpd.proxy_header import LONGEST_V1, ProxyHeader, ProxyHeaderError, is_trusted, read_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int, family: int, payload: bytes) -> bytes:
    return SIGNATURE + bytes((command, family)) + struct.pack("!H", len(payload)) + payload


def inet(client: str, port: int, tlvs: bytes = b"") -> bytes:
    return socket.inet_aton(client) + socket.inet_aton("198.51.100.1") + struct.pack("!HH", port, 25) + tlvs


GOOD = {
    b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n": ("192.0.2.7", 56324),
    b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 25\r\n": ("2001:db8::7", 56324),
    b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 56324 25\r\n": ("192.0.2.7", 56324),
    b"PROXY UNKNOWN\r\n": ("", 0),
    b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n": ("", 0),
    v2(0x21, 0x11, inet("192.0.2.7", 56324)): ("192.0.2.7", 56324),
    v2(0x21, 0x11, inet("192.0.2.7", 56324, b"\x03\0\x04abcd")): ("192.0.2.7", 56324),
    v2(
        0x21,
        0x21,
        ipaddress.ip_address("2001:db8::7").packed * 2 + struct.pack("!HH", 56324, 25),
    ): ("2001:db8::7", 56324),
    v2(
        0x21,
        0x21,
        ipaddress.ip_address("::ffff:192.0.2.7").packed * 2 + struct.pack("!HH", 56324, 25),
    ): ("192.0.2.7", 56324),
    v2(0x20, 0x00, b""): ("", 0),
    v2(0x20, 0x11, inet("192.0.2.7", 1)): ("", 0),
    v2(0x21, 0x31, b"\0" * 216): ("", 0),
}
BAD = [
    b"EHLO x\r\n",
    b"\x16\x03\x01",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
    b"PROXY TCP4 2001:db8::7 2001:db8::1 1 25\r\n",
    b"PROXY TCP4 192.0.2.777 198.51.100.1 1 25\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 99999 25\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 1 25\n",
    b"PROXY " + b"x" * LONGEST_V1,
    v2(0x22, 0x11, inet("192.0.2.7", 1)),
    v2(0x11, 0x11, inet("192.0.2.7", 1)),
    v2(0x21, 0x11, b"\0" * 11),
    v2(0x21, 0x21, b"\0" * 35),
    SIGNATURE + b"\x21\x11\xff\xff",
]


@pytest.mark.parametrize("octets", GOOD)
def test_a_header_is_read_when_it_is_whole_and_leaves_what_comes_behind(octets: bytes) -> None:
    peer, port = GOOD[octets]
    wanted = ProxyHeader(len(octets), peer, port)
    assert read_header(octets) == wanted
    assert read_header(octets + b"EHLO x\r\n") == wanted
    for end in range(len(octets)):
        assert read_header(octets[:end]) is None


@pytest.mark.parametrize("octets", BAD)
def test_anything_else_is_refused(octets: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        read_header(octets)


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=60).map(lambda rest: SIGNATURE + rest)))
def test_any_octets_are_a_header_or_refused_or_incomplete(octets: bytes) -> None:
    try:
        found = read_header(octets)
    except ProxyHeaderError:
        return
    assert found is None or found.octets <= len(octets)


def test_trust_is_by_network_and_mapped_addresses_are_those_they_map() -> None:
    networks = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "2001:db8::/32")))
    assert is_trusted("10.1.2.3", networks)
    assert is_trusted("::ffff:10.1.2.3", networks)
    assert is_trusted("2001:db8::5", networks)
    assert not is_trusted("192.0.2.1", networks)
    assert not is_trusted("local", networks)
    assert not is_trusted("10.1.2.3", ())
