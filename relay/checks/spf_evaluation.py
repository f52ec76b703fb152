"""SPF evaluation: one check_host run, with its counters.

In: a Resolver and the facts of one MAIL command. Out: a Verdict. Raises SpfSyntaxError for a permerror and
DnsTemporaryError for a temperror, wherever in the tree of includes they arise.
Source: RFC 7208 §4, §5 and §6.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from relay.checks.spf_macro import Parts, SpfSyntaxError, expand, fitted_name, letters, parse_explanation
from relay.checks.spf_record import Mechanism, Qualifier, Record, is_spf, parse_record
from relay.mail.errors import DnsTemporaryError
from relay.ports import DnsAnswer, RecordType, Resolver

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Result = Literal["pass", "fail", "softfail", "neutral", "none", "temperror", "permerror"]

MOST_LOOKUPS: Final = 10  # RFC 7208 §4.6.4
MOST_VOID_LOOKUPS: Final = 2
MOST_NAMES: Final = 10
_RESULTS: Final[dict[Qualifier, Result]] = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_DOMAIN: Final = re.compile(r"(?=.{1,253}\Z)(?:[^.]{1,63}\.)+[^.]{1,63}\Z", re.DOTALL)
_NO_SUCH_NAME: Final = DnsAnswer((), exists=False)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who asks to send: `local`@`domain` (A-labels) from `ip`."""

    ip: Ip
    helo: str
    local: str
    domain: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`domain` is the one whose record decided, `detail` the mechanism that matched or what is wrong."""

    result: Result
    domain: str
    detail: str = ""
    explanation: Parts = ()


def is_domain(name: str) -> bool:
    """RFC 7208 §4.3: two labels at least, none empty or longer than 63 octets."""
    return _DOMAIN.match(name) is not None


class Evaluation:
    """The state of one check; used once."""

    def __init__(self, resolver: Resolver, sender: Sender, hostname: str, now: int) -> None:
        self._resolver = resolver
        self._sender = sender
        self._hostname = hostname
        self._now = now
        self._lookups = 0
        self._voids = 0
        self._validated: list[str] | None = None
        self._address_type: RecordType = "A" if sender.ip.version == 4 else "AAAA"

    async def check_host(self, domain: str) -> Verdict:
        """RFC 7208 §4. Depth is bounded by the lookups it costs."""
        record = await self._record(domain)
        if record is None:
            return Verdict("none", domain)
        for mechanism in record.mechanisms:
            if await self._matches(mechanism, domain):
                return Verdict(_RESULTS[mechanism.qualifier], domain, mechanism.text, record.explanation)
        if not record.redirect or self._unusable(record.redirect):
            return Verdict("neutral", domain)
        return await self._other_record("redirect", record.redirect, domain)

    async def explanation(self, verdict: Verdict) -> str:
        """What the domain says of its fail, or "" where there is nothing fit to be said (RFC 7208 §6.2)."""
        if not verdict.explanation or self._unusable(verdict.explanation):
            return ""
        try:
            name = await self._name(verdict.explanation, verdict.domain)
            texts = (await self._resolver.query(name, "TXT")).records if is_domain(name) else ()
            if len(texts) != 1:
                return ""
            return await self._expanded(parse_explanation(texts[0]), verdict.domain)
        except (SpfSyntaxError, DnsTemporaryError):
            return ""

    async def _record(self, domain: str) -> Record | None:
        if not is_domain(domain):
            return None
        answer = await self._resolver.query(domain, "TXT")
        texts = [text for text in answer.records if is_spf(text)]
        if len(texts) > 1:
            raise SpfSyntaxError(f"{domain} has several SPF records")
        return parse_record(texts[0]) if texts else None

    async def _other_record(self, term: str, parts: Parts, domain: str) -> Verdict:
        """The verdict of the record that include or redirect names; a missing one is an error (§5.2, §6.1)."""
        self._count_lookup()
        target = await self._name(parts, domain)
        verdict = await self.check_host(target)
        if verdict.result == "none":
            raise SpfSyntaxError(f"{term}: {target} has no SPF record")
        return verdict

    # --- mechanisms ----------------------------------------------------------------------------------------

    async def _matches(self, mechanism: Mechanism, domain: str) -> bool:
        name = mechanism.name
        if name == "all":
            return True
        if mechanism.network is not None:
            return mechanism.network.holds(self._sender.ip.version, int(self._sender.ip))
        if self._unusable(mechanism.domain):
            return False
        if name == "include":
            return (await self._other_record("include", mechanism.domain, domain)).result == "pass"
        self._count_lookup()
        target = await self._name(mechanism.domain, domain) if mechanism.domain else domain
        if name == "a":
            return self._has_sender(await self._counted(target, self._address_type), mechanism)
        if name == "mx":
            return await self._mx_matches(target, mechanism)
        if name == "exists":
            return bool(await self._counted(target, "A"))
        return any(_is_within(one, target) for one in await self._validated_names())

    async def _mx_matches(self, target: str, mechanism: Mechanism) -> bool:
        records = await self._counted(target, "MX")
        if len(records) > MOST_NAMES:
            raise SpfSyntaxError(f"{target} has more than {MOST_NAMES} MX hosts")
        # Name servers turn the records round; in one order the limits fall the same way every time.
        for host in [name for name in map(_mx_host, sorted(records, key=_mx_order)) if name]:
            if self._has_sender(await self._counted(host, self._address_type), mechanism):
                return True
        return False

    def _has_sender(self, addresses: Sequence[str], mechanism: Mechanism) -> bool:
        ip = self._sender.ip
        prefix = mechanism.prefix4 if ip.version == 4 else mechanism.prefix6
        shift = ip.max_prefixlen - prefix
        wanted = (ip.version, int(ip) >> shift)
        return any((one.version, int(one) >> shift) == wanted for one in map(_address, addresses) if one)

    async def _validated_names(self) -> list[str]:
        """Names of the client that lead back to it (RFC 7208 §5.5); DNS trouble only shortens the list."""
        if self._validated is None:
            self._validated = []
            for name in await self._trouble_free(self._sender.ip.reverse_pointer, "PTR"):
                addresses = map(_address, await self._trouble_free(name, self._address_type))
                if self._sender.ip in addresses:
                    self._validated.append(name)
        return self._validated

    # --- DNS -----------------------------------------------------------------------------------------------

    def _count_lookup(self) -> None:
        self._lookups += 1
        if self._lookups > MOST_LOOKUPS:
            raise SpfSyntaxError(f"more than {MOST_LOOKUPS} terms that ask DNS")

    async def _counted(self, name: str, rdtype: RecordType) -> Sequence[str]:
        """Records, where an answer without any counts (RFC 7208 §4.6.4)."""
        answer = await self._resolver.query(name, rdtype) if is_domain(name) else _NO_SUCH_NAME
        if not answer.records:
            self._voids += 1
            if self._voids > MOST_VOID_LOOKUPS:
                raise SpfSyntaxError(f"more than {MOST_VOID_LOOKUPS} names without records")
        return answer.records

    async def _trouble_free(self, name: str, rdtype: RecordType) -> Sequence[str]:
        """At most ten records. Not counted as void: what a client publishes must not break a domain's record."""
        try:
            answer = await self._resolver.query(name, rdtype) if is_domain(name) else _NO_SUCH_NAME
        except DnsTemporaryError:
            return ()
        return answer.records[:MOST_NAMES]

    # --- macros --------------------------------------------------------------------------------------------

    def _unusable(self, parts: Parts) -> bool:
        """RFC 8616 §4: a term that expands a local part beyond ASCII does not match."""
        return not self._sender.local.isascii() and bool(letters(parts) & {"s", "l"})

    async def _name(self, parts: Parts, domain: str) -> str:
        return fitted_name(await self._expanded(parts, domain))

    async def _expanded(self, parts: Parts, domain: str) -> str:
        async def value(letter: str) -> str:
            return await self._value(letter, domain)

        return await expand(parts, value)

    async def _value(self, letter: str, domain: str) -> str:
        sender = self._sender
        if letter == "p":
            return await self._validated_name(domain)
        return {
            "s": f"{sender.local}@{sender.domain}",
            "l": sender.local,
            "o": sender.domain,
            "d": domain,
            "i": _dotted(sender.ip),
            "v": "in-addr" if sender.ip.version == 4 else "ip6",
            "h": sender.helo,
            "c": str(sender.ip),
            "r": self._hostname,
            "t": str(self._now),
        }[letter]

    async def _validated_name(self, domain: str) -> str:
        """The domain itself, else a name below it, else any, else `unknown` (RFC 7208 §7.3)."""
        names = await self._validated_names()
        ranked = sorted(names, key=lambda name: (name != domain, not _is_within(name, domain)))
        return ranked[0] if ranked else "unknown"


def _mx_host(record: str) -> str:
    return record.partition(" ")[2]


def _mx_order(record: str) -> tuple[int, str]:
    preference = record.partition(" ")[0]
    return (int(preference) if preference.isdecimal() else 0, record)


def _is_within(name: str, domain: str) -> bool:
    name, domain = name.lower(), domain.lower()
    return name == domain or name.endswith(f".{domain}")


def _address(text: str) -> Ip | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _dotted(ip: Ip) -> str:
    return str(ip) if ip.version == 4 else ".".join(f"{int(ip):032X}")
