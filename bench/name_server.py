"""NameServer: a DNS server on loopback for SPF: every name has one TXT record, everything else is empty (RFC 1035).

Over UDP only, in a thread of the bench. Comes in: the text of the record. Goes out: `address`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Final

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset

from bench.process import HOST

_TTL: Final = 3600
_LONGEST: Final = 4096


@contextlib.contextmanager
def name_server(text: str) -> Iterator[str]:
    """`address:port` of a server that answers until the end of the block."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((HOST, 0))
        port = server.getsockname()[1]
        thread = threading.Thread(target=_serve, args=(server, text), daemon=True)
        thread.start()
        try:
            yield f"{HOST}:{port}"
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", (HOST, port))
            thread.join()


def _serve(server: socket.socket, text: str) -> None:
    """Until an empty datagram comes."""
    while True:
        octets, client = server.recvfrom(_LONGEST)
        if not octets:
            return
        with contextlib.suppress(Exception):
            server.sendto(_answer(dns.message.from_wire(octets), text), client)


def _answer(question: dns.message.Message, text: str) -> bytes:
    answer = dns.message.make_response(question)
    answer.flags |= dns.flags.RA
    [asked] = question.question
    if asked.rdtype == dns.rdatatype.TXT:
        answer.answer.append(dns.rrset.from_text(asked.name, _TTL, "IN", "TXT", f'"{text}"'))
    return answer.to_wire()
