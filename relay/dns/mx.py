"""MX lookup: the hosts that take a domain's mail, in the order to try them. Implements ports.MxLookup.

In: a domain in A-labels, or an address literal. Out: MxHosts with addresses, or the Reply that ends the delivery.
Raises DnsTemporaryError when DNS does not say. MX hosts without any address are handed on as they are, for whoever
dials to judge: such a zone is more often broken for an hour than meant.
Sources: RFC 5321 §5.1, RFC 7505 (null MX), RFC 3463 and RFC 5321 §4.1.3 (literals).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Final

from relay.mail.address import is_ip_address
from relay.mail.errors import DnsTemporaryError
from relay.mail.reply import Reply, printable, reply
from relay.ports import Clock, DnsAnswer, MxHost, Random, RecordType, Resolver, SystemClock

MOST_HOSTS: Final = 16
MOST_ADDRESSES: Final = 8  # of one host
_ORDER_SECONDS: Final = 60.0
_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class _Known:
    hosts: Sequence[MxHost]
    until: float


@dataclass(frozen=True, slots=True)
class _Found:
    """What DNS said of one host; `trouble` where a family gave no answer."""

    host: MxHost
    ttl: float
    trouble: str = ""


class MxResolver:
    """MX hosts over a Resolver.

    Hosts of one preference are shuffled, and that order is kept for up to a minute: equal hosts take turns, and within
    a turn the same list is returned, so connections are used again and callers may compare lists by identity.
    """

    def __init__(self, resolver: Resolver, random: Random, *, ipv6: bool = True, clock: Clock | None = None) -> None:
        self._resolver = resolver
        self._random = random
        self._types: tuple[RecordType, ...] = ("A", "AAAA") if ipv6 else ("A",)
        self._clock = clock or SystemClock()
        self._known: dict[str, _Known] = {}

    async def hosts(self, domain: str) -> Sequence[MxHost] | Reply:
        """See ports.MxLookup."""
        domain = domain.lower().removesuffix(".")
        known = self._known.get(domain)
        if known is not None and self._clock.monotonic() < known.until:
            return known.hosts
        if domain.startswith("["):
            return _literal(domain)
        answer = await self._resolver.query(domain, "MX")
        if not answer.exists:
            return reply(550, "5.1.2", f"Domain {printable(domain, 255)} does not exist")
        if not answer.records:
            return await self._implicit(domain, answer)
        names = _names(answer.records)
        if not names:
            return reply(556, "5.1.10", f"Domain {printable(domain, 255)} accepts no mail (null MX)")
        found = await self._addresses(self._shuffled(names), secure=answer.secure)
        return self._remember(domain, found, answer.ttl)

    async def _implicit(self, domain: str, answer: DnsAnswer) -> Sequence[MxHost] | Reply:
        """RFC 5321 §5.1: without MX records the domain is its own host."""
        found = await self._addresses([(0, domain)], secure=answer.secure)
        if not found[0].host.addresses and not found[0].trouble:
            return reply(550, "5.1.2", f"Domain {printable(domain, 255)} has no MX and no address")
        return self._remember(domain, found, answer.ttl)

    async def _addresses(self, names: Sequence[tuple[int, str]], *, secure: bool) -> list[_Found]:
        return await asyncio.gather(*(self._host(name, preference, secure) for preference, name in names))

    async def _host(self, name: str, preference: int, secure: bool) -> _Found:
        questions = (self._resolver.query(name, rdtype) for rdtype in self._types)
        results = await asyncio.gather(*questions, return_exceptions=True)
        answers: list[DnsAnswer] = []
        trouble = ""
        for result in results:
            if isinstance(result, DnsAnswer):
                answers.append(result)
            elif isinstance(result, DnsTemporaryError):
                trouble = str(result)
            else:
                raise result
        addresses = self._ordered([answer.records for answer in answers])
        # The answers that hold an address decide: an insecure denial of AAAA takes nothing from a secure A.
        holding = [answer for answer in answers if answer.records]
        all_secure = secure and bool(holding) and all(answer.secure for answer in holding)
        ttl = min((answer.ttl for answer in answers), default=0.0)
        return _Found(MxHost(name, preference, addresses, all_secure), 0.0 if trouble else ttl, trouble)

    def _ordered(self, families: Iterable[Sequence[str]]) -> tuple[str, ...]:
        """IPv4 first, for relays whose IPv6 has no PTR record are refused for it, then in turns, so that either
        family comes up within a few tries.
        """
        shuffled = []
        for records in families:
            addresses = [record for record in dict.fromkeys(records) if is_ip_address(record)]
            self._random.shuffle(addresses)
            shuffled.append(addresses)
        turns = (address for turn in zip_longest(*shuffled) for address in turn if address)
        return tuple(turns)[:MOST_ADDRESSES]

    def _shuffled(self, names: dict[str, int]) -> list[tuple[int, str]]:
        by_preference = sorted((preference, name) for name, preference in names.items())
        order: list[tuple[int, str]] = []
        for preference, group in groupby(by_preference, key=lambda pair: pair[0]):
            equal = [name for _, name in group]
            self._random.shuffle(equal)
            order.extend((preference, name) for name in equal)
        return order[:MOST_HOSTS]

    def _remember(self, domain: str, found: Sequence[_Found], ttl: float) -> Sequence[MxHost]:
        with_address = [one.host for one in found if one.host.addresses]
        if not with_address and (trouble := next((one.trouble for one in found if one.trouble), "")):
            raise DnsTemporaryError(trouble)
        hosts = tuple(with_address or [one.host for one in found])
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        lifetime = min(_ORDER_SECONDS, ttl, *(one.ttl for one in found))
        self._known[domain] = _Known(hosts, self._clock.monotonic() + lifetime)
        return hosts


def _names(records: Sequence[str]) -> dict[str, int]:
    """Host to its best preference. A root among other hosts is not a null MX, and no host either (RFC 7505 §3)."""
    names: dict[str, int] = {}
    for record in records:
        preference, _, name = record.partition(" ")
        if name:
            names[name] = min(int(preference), names.get(name, 65535))
    return names


def _literal(domain: str) -> Sequence[MxHost] | Reply:
    text = domain[1:-1].removeprefix("ipv6:") if domain.endswith("]") else ""
    if not is_ip_address(text) or domain.startswith("[ipv6:") != (":" in text):
        return reply(550, "5.1.2", f"{printable(domain, 255)} is no address literal")
    return (MxHost(domain, 0, (text,)),)
