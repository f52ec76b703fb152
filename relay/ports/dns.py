"""DNS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from relay.mail.reply import Reply


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """Records of one type. `exists` is False for NXDOMAIN; an empty `records` with `exists` is NODATA.

    `records` by type: A/AAAA/PTR/CNAME a name or address, TXT the joined strings (latin-1),
    MX `"preference host"`, TLSA `"usage selector mtype hex"`. Names are lower case without the final dot.
    `secure` is the AD flag, believed only from a resolver configured as validating.
    """

    records: tuple[str, ...]
    exists: bool = True
    ttl: float = 0.0
    secure: bool = False


RecordType = Literal["A", "AAAA", "MX", "TXT", "PTR", "CNAME", "TLSA", "NS"]


class Resolver(Protocol):
    async def query(self, name: str, rdtype: RecordType) -> DnsAnswer:
        """Ask once (cached, single-flight). Raises DnsTemporaryError for time-out, SERVFAIL or bogus."""
        ...


@dataclass(frozen=True, slots=True)
class MxHost:
    """One host to try, with the addresses to connect to, in the order to try them."""

    name: str
    preference: int
    addresses: tuple[str, ...]
    secure: bool = False


class MxLookup(Protocol):
    async def hosts(self, domain: str) -> Sequence[MxHost] | Reply:
        """MX hosts in trial order, or the permanent Reply that ends it (null MX 556 5.1.10, NXDOMAIN 550 5.1.2).

        Raises DnsTemporaryError when DNS does not answer.
        """
        ...
