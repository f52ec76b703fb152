"""SPF records: text in, terms out.

In: one TXT record that begins with `v=spf1`. Out: a Record, with every term checked before any is evaluated.
Raises SpfSyntaxError (a permerror) for the first thing the grammar does not allow.
Source: RFC 7208 §4.6.1, §5, §6 and §12.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from relay.checks.spf_macro import Parts, SpfSyntaxError, parse_domain_spec, parse_macro_string

Name = Literal["all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"]
Qualifier = Literal["+", "-", "~", "?"]

VERSION: Final = "v=spf1"
LONGEST_RECORD: Final = 8192  # RFC 7208 §3.4 asks for 512; reading what a stranger sends must cost little
_REMEMBERED_OCTETS: Final = 2048  # bounds the memory too
_MODIFIER: Final = re.compile(r"([a-z][a-z0-9._-]*)=(.*)\Z", re.IGNORECASE | re.ASCII | re.DOTALL)
_DIRECTIVE: Final = re.compile(
    r"([-+~?]?)(all|include|a|mx|ptr|ip4|ip6|exists)(?![a-z0-9._-])(.*)\Z", re.IGNORECASE | re.ASCII | re.DOTALL
)
_CIDR: Final = re.compile(r"(.*?)(?:/(0|[1-9]\d{0,2}))?(?://(0|[1-9]\d{0,2}))?\Z", re.ASCII | re.DOTALL)
_NETWORK: Final = re.compile(r":([0-9a-f:.]+)(?:/(0|[1-9]\d{0,2}))?\Z", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Network:
    """The addresses of one version whose bits above `shift` are `bits`. (The standard library's type costs 20 times
    as much to make, and a stranger's record makes hundreds.)
    """

    version: int
    bits: int
    shift: int

    def holds(self, version: int, address: int) -> bool:
        return version == self.version and address >> self.shift == self.bits


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One directive. `domain` is empty where the current domain is meant; `text` is what the record says."""

    qualifier: Qualifier
    name: Name
    text: str
    domain: Parts = ()
    network: Network | None = None
    prefix4: int = 32
    prefix6: int = 128


@dataclass(frozen=True, slots=True)
class Record:
    """A whole record; `redirect` and `explanation` are empty where it has none."""

    mechanisms: tuple[Mechanism, ...]
    redirect: Parts = ()
    explanation: Parts = ()


def is_spf(text: str) -> bool:
    """RFC 7208 §4.5: the version stands first, whole, in any case."""
    return text[: len(VERSION)].lower() == VERSION and text[len(VERSION) : len(VERSION) + 1] in ("", " ")


def parse_record(text: str) -> Record:
    """Raises SpfSyntaxError. Records of common length are remembered: everybody includes the same few."""
    return _remembered(text) if len(text) <= _REMEMBERED_OCTETS else _parse(text)


def _parse(text: str) -> Record:
    if not is_spf(text):
        raise SpfSyntaxError("the record does not begin with v=spf1")
    if len(text) > LONGEST_RECORD:
        raise SpfSyntaxError(f"the record is longer than {LONGEST_RECORD} octets")
    mechanisms: list[Mechanism] = []
    modifiers: dict[str, Parts] = {}
    for term in _terms(text[len(VERSION) :]):
        match = _MODIFIER.match(term)
        if match is None:
            mechanisms.append(_mechanism(term))
            continue
        name = match.group(1).lower()
        if name not in ("redirect", "exp"):
            parse_macro_string(match.group(2))
        elif name in modifiers:
            raise SpfSyntaxError(f"{name}= stands twice")
        else:
            modifiers[name] = parse_domain_spec(match.group(2))
    return Record(tuple(mechanisms), modifiers.get("redirect", ()), modifiers.get("exp", ()))


_remembered = lru_cache(maxsize=256)(_parse)


def _terms(text: str) -> Iterable[str]:
    return (term for term in text.split(" ") if term)


def _mechanism(term: str) -> Mechanism:
    match = _DIRECTIVE.match(term)
    if match is None:
        raise SpfSyntaxError(f"{term!r} is no mechanism")
    qualifier: Qualifier = match.group(1) or "+"  # type: ignore[assignment]  # the pattern lets no other through
    name: Name = match.group(2).lower()  # type: ignore[assignment]
    rest = match.group(3)
    if name in ("ip4", "ip6"):
        return Mechanism(qualifier, name, term, network=_network(term, name, rest))
    if name in ("a", "mx"):
        rest, prefix4, prefix6 = _dual_cidr(term, rest)
        return Mechanism(qualifier, name, term, _domain(term, rest, needed=False), None, prefix4, prefix6)
    if name == "all":
        if rest:
            raise SpfSyntaxError(f"{term!r}: all takes nothing")
        return Mechanism(qualifier, name, term)
    return Mechanism(qualifier, name, term, _domain(term, rest, needed=name != "ptr"))


def _domain(term: str, rest: str, *, needed: bool) -> Parts:
    if not rest and not needed:
        return ()
    if not rest.startswith(":"):
        raise SpfSyntaxError(f"{term!r} lacks its :domain")
    return parse_domain_spec(rest[1:])


def _dual_cidr(term: str, rest: str) -> tuple[str, int, int]:
    match = _CIDR.match(rest)
    assert match is not None, "every part of the pattern may be empty"
    prefix4, prefix6 = int(match.group(2) or 32), int(match.group(3) or 128)
    if prefix4 > 32 or prefix6 > 128:
        raise SpfSyntaxError(f"{term!r}: prefix is too long")
    return match.group(1), prefix4, prefix6


def _network(term: str, name: Name, rest: str) -> Network:
    match = _NETWORK.match(rest)
    version, longest = (4, 32) if name == "ip4" else (6, 128)
    try:
        if match is None:
            raise ValueError
        packed = socket.inet_pton(socket.AF_INET if version == 4 else socket.AF_INET6, match.group(1))
        shift = longest - int(match.group(2) or longest)
        return Network(version, int.from_bytes(packed, "big") >> shift, shift)  # a shift below 0 is a ValueError
    except (OSError, ValueError):
        raise SpfSyntaxError(f"{term!r} is no {name} network") from None
