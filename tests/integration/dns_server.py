"""A DNS server on loopback, UDP and TCP, for tests: answers from a zone file, and misbehaves by the first label.

`with DnsServer(zone) as server:` gives `server.address` ("127.0.0.1:port") and `server.asked`, one
(transport, name, type) for each question. The zone is zone-file lines; CNAME chains are followed as a recursive
resolver follows them. First labels that misbehave: see `_spoilt`.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from typing import Any, Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone

SOA = "ns.example. hostmaster.example. 1 7200 900 1209600 120"


def _pair() -> tuple[socket.socket, socket.socket]:
    """UDP and TCP on one port that is free for both, which the system finds for one of them alone."""
    for _ in range(50):
        udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_STREAM)
        udp.bind(("127.0.0.1", 0))
        try:
            tcp.bind(udp.getsockname())
            tcp.listen()
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp
    raise RuntimeError("no port that is free for UDP and TCP")


class DnsServer:
    """One server; threads end with the `with` block."""

    def __init__(self, zone: str, *, ad: bool = False) -> None:
        self.zone = dns.zone.from_text(f"$TTL 60\n{zone}", ".", relativize=False, check_origin=False)
        self.ad = ad
        self.asked: list[tuple[str, str, str]] = []
        self.request: dns.message.Message | None = None
        self._udp, self._tcp = _pair()
        self.port = self._udp.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._serve_udp), threading.Thread(target=self._serve_tcp)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._tcp.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while True:
            wire, client = self._udp.recvfrom(4096)
            if not wire:
                return
            for answer in self._answers(wire, "udp"):
                self._udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, struct.error):
                connection.settimeout(2.0)
                (length,) = struct.unpack("!H", connection.recv(2))
                for answer in self._answers(connection.recv(length), "tcp"):
                    connection.sendall(struct.pack("!H", len(answer)) + answer)

    def _answers(self, wire: bytes, transport: str) -> list[bytes]:
        query = self.request = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        self.asked.append((transport, name, dns.rdatatype.to_text(question.rdtype)))
        answer = self._answer(query)
        spoilt = _spoilt(name.partition(".")[0], transport, answer)
        return [answer.to_wire(max_size=65535)] if spoilt is None else spoilt

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA | (dns.flags.AD if self.ad else 0)
        question = query.question[0]
        name = question.name
        for _ in range(8):
            node = self.zone.get_node(name)
            if node is None:
                answer.set_rcode(dns.rcode.NXDOMAIN)
                break
            found = node.get_rdataset(dns.rdataclass.IN, question.rdtype)
            if found is not None:
                answer.answer.append(_named(name, found))
                return answer
            alias = node.get_rdataset(dns.rdataclass.IN, dns.rdatatype.CNAME)
            if alias is None:
                break
            answer.answer.append(_named(name, alias))
            name = alias[0].target
        answer.authority.append(dns.rrset.from_text("example.", 900, "IN", "SOA", SOA))
        return answer


def _named(name: dns.name.Name, rdataset: Any) -> dns.rrset.RRset:
    rrset = dns.rrset.RRset(name, rdataset.rdclass, rdataset.rdtype)
    rrset.update(rdataset)
    return rrset


def _spoilt(how: str, transport: str, answer: dns.message.Message) -> list[bytes] | None:
    """What goes out in place of the answer; None for the answer itself."""
    good = answer.to_wire(max_size=65535)
    header, body = good[:2], good[2:]
    if how == "silent" or (how == "tcp-silent" and transport == "tcp"):
        return []
    if how in ("truncated", "tcp-silent") and transport == "udp":
        answer.flags |= dns.flags.TC
        answer.answer.clear()
    elif how == "always-truncated":
        answer.flags |= dns.flags.TC
    elif how in ("servfail", "refused", "formerr"):
        answer.set_rcode(dns.rcode.from_text(how))
        answer.answer.clear()
    elif how.startswith("fuzz"):
        if transport == "tcp":
            return [header + _damaged(body, random.Random(how))]
        answer.flags |= dns.flags.TC
    elif how == "garbage":
        return [header + b"\xff" * 40]
    elif how == "short":
        return [good[:7]]
    elif how == "wrong-id":
        # A forger's guess comes first; the answer itself is still taken.
        return [bytes([header[0] ^ 1, header[1]]) + body, good]
    elif how == "noise" and transport == "udp":
        other = dns.message.make_query("elsewhere.example.", "A", id=answer.id)
        return [b"\xff" * 3, header + b"\xff" * 40, bytes([header[0] ^ 1, header[1]]) + body, other.to_wire(), good]
    elif how == "other-question":
        answer.question[0].name = dns.name.from_text("elsewhere.example.")
    elif how == "other-answer":
        forged = dns.rrset.from_text("elsewhere.example.", 60, "IN", "A", "203.0.113.66")
        answer.answer[:] = [forged]
    elif how == "loop":
        pair = [("loop.example.", "pool.example."), ("pool.example.", "loop.example.")]
        answer.answer[:] = [dns.rrset.from_text(a, 60, "IN", "CNAME", b) for a, b in pair]
        answer.set_rcode(dns.rcode.NOERROR)
    elif how == "no-soa":
        answer.authority.clear()
    else:
        return None
    return [answer.to_wire(max_size=65535)]


def _damaged(body: bytes, dice: random.Random) -> bytes:
    """An octet or two changed, and in one case of three lost or added; the flags and counts among them."""
    octets = bytearray(body)
    for _ in range(dice.randint(1, 2)):
        at = dice.randrange(len(octets))
        octets[at : at + 1] = dice.randbytes(dice.choice([1, 1, 1, 1, 0, 2]))
    return bytes(octets)
