"""Upstream: one question to the recursive resolvers, without any memory.

In: a name and a type. Out: a DnsAnswer as relay.ports describes it, its TTL not yet clamped. Raises DnsTemporaryError
for whatever is no answer: time-out, SERVFAIL, REFUSED, bytes that cannot be read, no resolver configured; SettingsError
at start for a malformed `dns.nameservers`. A name that DNS cannot hold does not exist, and is not asked for.
Sources: RFC 1035, RFC 2308 §5 (negative TTL), RFC 6840 §5.7 (AD in a query), RFC 7766 (TCP after truncation).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from relay.mail.errors import DnsTemporaryError, SettingsError
from relay.mail.reply import printable
from relay.ports import Clock, DnsAnswer, RecordType
from relay.settings import DnsSettings

RESOLV_CONF: Final = Path("/etc/resolv.conf")
_REREAD_SECONDS: Final = 30.0
_TRY_SECONDS: Final = 2.0
_UDP_SIZE: Final = 1232  # DNS Flag Day 2020: fits every path unfragmented


class Upstream:
    """The resolvers of the settings, else those of resolv.conf, followed when the file changes."""

    def __init__(self, settings: DnsSettings, clock: Clock, resolv_conf: Path = RESOLV_CONF) -> None:
        """Raises SettingsError; a missing or empty resolv.conf is no error until there is a question."""
        self._settings = settings
        self._clock = clock
        self._resolv_conf = resolv_conf
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._modified = 0
        self._looked_at = float("-inf")
        servers = [_nameserver(text) for text in settings.nameservers]
        if servers:
            self._resolver = dns.asyncresolver.Resolver(configure=False)
            self._resolver.nameservers = servers
            self._tune(self._resolver)

    async def ask(self, name: str, rdtype: RecordType) -> DnsAnswer:
        """Raises DnsTemporaryError."""
        wire_name = _wire_name(name)
        if wire_name is None:
            return DnsAnswer((), exists=False)
        resolver = self._configured()
        patience = self._settings.timeout
        try:
            async with asyncio.timeout(patience + 1.0):  # dnspython keeps its own deadline; this one is the backstop
                answer = await resolver.resolve(
                    wire_name, rdtype, raise_on_no_answer=False, search=False, lifetime=patience
                )
        except dns.resolver.NXDOMAIN as error:
            response = _response_of(error, wire_name)
            return DnsAnswer((), exists=False, ttl=_negative_ttl(response), secure=self._secure(response))
        except (dns.exception.Timeout, TimeoutError):
            raise DnsTemporaryError(f"no answer for {_shown(name)} {rdtype} within {patience:g} s") from None
        except (dns.exception.DNSException, OSError, EOFError) as error:
            raise DnsTemporaryError(f"no answer for {_shown(name)} {rdtype}: {_reason(error)}") from error
        if answer.response.flags & dns.flags.TC:  # even over TCP: the set is not whole
            raise DnsTemporaryError(f"no answer for {_shown(name)} {rdtype}: it is truncated")
        _prefer(resolver, answer)
        secure = self._secure(answer.response)
        if answer.rrset is None:
            return DnsAnswer((), ttl=_negative_ttl(answer.response), secure=secure)
        as_text = _AS_TEXT[rdtype]
        records = tuple(as_text(rdata) for rdata in answer.rrset)
        return DnsAnswer(records, ttl=float(answer.chaining_result.minimum_ttl), secure=secure)

    def _secure(self, response: dns.message.QueryMessage) -> bool:
        return self._settings.trust_ad and bool(response.flags & dns.flags.AD)

    def _configured(self) -> dns.asyncresolver.Resolver:
        if not self._settings.nameservers:
            self._follow_file()
        if self._resolver is None:
            raise DnsTemporaryError(f"no name server in {self._resolv_conf}; set dns.nameservers or mend the file")
        return self._resolver

    def _follow_file(self) -> None:
        """Read resolv.conf where it is new. What cannot be read changes nothing."""
        now = self._clock.monotonic()
        if self._resolver is not None and now - self._looked_at < _REREAD_SECONDS:
            return
        self._looked_at = now
        try:
            modified = self._resolv_conf.stat().st_mtime_ns
            if self._resolver is not None and modified == self._modified:
                return
            resolver = dns.asyncresolver.Resolver(str(self._resolv_conf))
            resolver.nameservers = [_nameserver(str(server)) for server in resolver.nameservers]
        except (OSError, ValueError, SettingsError, dns.exception.DNSException):
            return
        self._tune(resolver)
        self._resolver, self._modified = resolver, modified

    def _tune(self, resolver: dns.asyncresolver.Resolver) -> None:
        # Two tries at least, so that one lost datagram is no time-out.
        resolver.timeout = min(_TRY_SECONDS, self._settings.timeout / 2)
        resolver.cache = None
        trusted = self._settings.trust_ad
        resolver.use_edns(0, dns.flags.DO if trusted else 0, _UDP_SIZE)
        resolver.flags = dns.flags.RD | dns.flags.AD if trusted else dns.flags.RD


def _nameserver(text: str) -> dns.nameserver.Do53Nameserver:
    """`192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:53`."""
    host, port = text, "53"
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else "53"
        well_formed = bool(bracket) and rest[:1] in ("", ":") and ":" in host
    else:
        if text.count(":") == 1:
            host, _, port = text.partition(":")
        well_formed = True
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        well_formed = False
    if not well_formed or not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise SettingsError(
            f"dns.nameservers: {text!r} is no address of a name server; write '192.0.2.1', '192.0.2.1:53' or '[::1]:53'"
        )
    return dns.nameserver.Do53Nameserver(address, int(port))


def _prefer(resolver: dns.asyncresolver.Resolver, answer: dns.resolver.Answer) -> None:
    """Who answered is asked first from now on, so that a dead name server costs one question its patience, not all."""

    def others(server: Any) -> bool:
        return (server.address, server.port) != (answer.nameserver, answer.port)

    if others(resolver.nameservers[0]):
        resolver.nameservers = sorted(resolver.nameservers, key=others)


def _wire_name(name: str) -> dns.name.Name | None:
    """The labels as they stand: no escapes, no search list, no IDNA. None for what is no name."""
    labels = name.removesuffix(".").split(".") if name not in ("", ".") else []
    try:
        return dns.name.Name([*(label.encode("utf-8") for label in labels), b""])
    except (dns.exception.DNSException, UnicodeError):
        return None


def _name_text(name: Any) -> str:
    return str(name.to_text(omit_final_dot=True)).lower().removesuffix(".")


_AS_TEXT: Final[Mapping[RecordType, Callable[[Any], str]]] = {
    "A": lambda rdata: str(rdata.address),
    "AAAA": lambda rdata: str(rdata.address),
    "MX": lambda rdata: f"{rdata.preference} {_name_text(rdata.exchange)}",
    "TXT": lambda rdata: b"".join(rdata.strings).decode("latin-1"),
    "PTR": lambda rdata: _name_text(rdata.target),
    "CNAME": lambda rdata: _name_text(rdata.target),
    "NS": lambda rdata: _name_text(rdata.target),
    "TLSA": lambda rdata: f"{rdata.usage} {rdata.selector} {rdata.mtype} {rdata.cert.hex()}",
}


def _negative_ttl(response: dns.message.QueryMessage) -> float:
    """RFC 2308 §5: the lesser of the SOA's TTL and its minimum; 0 where the answer has no SOA."""
    for rrset in response.authority:
        if rrset.rdtype == dns.rdatatype.SOA:
            return float(min(rrset.ttl, *(rdata.minimum for rdata in rrset)))
    return 0.0


def _response_of(error: Any, name: dns.name.Name) -> dns.message.QueryMessage:
    response: dns.message.QueryMessage = error.response(name)
    return response


def _reason(error: Exception) -> str:
    """The last thing that went wrong, in few words."""
    if isinstance(error, dns.resolver.NoNameservers):
        problems = error.kwargs.get("errors") or [("", False, 0, "no name server left", None)]
        return printable(str(problems[-1][3]) or type(problems[-1][3]).__name__, 120)
    return printable(str(error) or type(error).__name__, 120)


def _shown(name: str) -> str:
    return printable(name, 255)
