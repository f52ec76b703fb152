"""SPF: may this address send for this domain? Implements ports.SpfCheck.

In: the client's address, its HELO name and the reverse-path. Out: an SpfResult whose explanation is one line of
printable ASCII, fit for a reply, a header field or a log. Never raises. What a record can cost is bounded: 10 terms
that ask DNS, 2 answers without records, 10 MX and PTR names, 20 seconds; and so are the checks at a time.
Sources: RFC 7208, RFC 8616 §4 (internationalized addresses).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from typing import Final

from relay.checks.spf_evaluation import Evaluation, Sender, Verdict, is_domain
from relay.checks.spf_macro import SpfSyntaxError
from relay.mail.address import to_ascii_domain
from relay.mail.errors import AddressSyntaxError, DnsTemporaryError
from relay.mail.reply import printable
from relay.ports import Clock, Resolver, SpfResult, SystemClock

DEADLINE_SECONDS: Final = 20.0  # RFC 7208 §4.6.4
# A check has one question to DNS at a time, of those that a worker may have; the others are for its deliveries.
MOST_AT_ONCE: Final = 512
_LONGEST_EXPLANATION: Final = 400
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+\Z")


class SpfChecker:
    """RFC 7208 check_host over a Resolver; holds nothing of a check but that it is under way."""

    def __init__(self, resolver: Resolver, *, hostname: str = "unknown", clock: Clock | None = None) -> None:
        """`hostname` and `clock` are what the macros r and t of explanations stand for."""
        self._resolver = resolver
        self._hostname = hostname
        self._clock = clock or SystemClock()
        self._under_way = 0

    async def check(self, ip: str, helo: str, reverse_path: str | None) -> SpfResult:
        """See ports.SpfCheck. The null sender is checked as postmaster of the HELO name (RFC 7208 §2.4)."""
        sender = sender_of(ip, helo, reverse_path)
        if isinstance(sender, SpfResult):
            return sender
        if self._under_way >= MOST_AT_ONCE:
            return SpfResult("temperror", "too many checks at once")
        self._under_way += 1
        try:
            verdict, explanation = await self.evaluate(sender)
        finally:
            self._under_way -= 1
        return SpfResult(verdict.result, _line(verdict, sender, explanation))

    async def evaluate(self, sender: Sender) -> tuple[Verdict, str]:
        """The verdict, and what the domain itself says of a fail (RFC 7208 §6.2): its text as it stands, or ""."""
        evaluation = Evaluation(self._resolver, sender, self._hostname, int(self._clock.now()))
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                verdict = await evaluation.check_host(sender.domain)
                explanation = await evaluation.explanation(verdict) if verdict.result == "fail" else ""
                return verdict, explanation
        except SpfSyntaxError as error:
            return Verdict("permerror", sender.domain, str(error)), ""
        except DnsTemporaryError as error:
            return Verdict("temperror", sender.domain, str(error)), ""
        except TimeoutError:
            return Verdict("temperror", sender.domain, f"no result within {DEADLINE_SECONDS:g} s"), ""


def sender_of(ip: str, helo: str, reverse_path: str | None) -> Sender | SpfResult:
    """The facts check_host needs, or the result `none` where there is nothing to check (RFC 7208 §4.3)."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return SpfResult("none", "the client has no IP address")
    mapped = getattr(address, "ipv4_mapped", None)
    helo = helo.removesuffix(".")
    local, _, domain = (reverse_path or f"postmaster@{helo}").rpartition("@")
    try:
        domain = to_ascii_domain(domain.removesuffix("."))
    except AddressSyntaxError:
        domain = ""
    if not is_domain(domain) or not _HOST_NAME.match(domain):
        return SpfResult("none", "no domain to check")
    return Sender(mapped or address, helo, local or "postmaster", domain)


def _line(verdict: Verdict, sender: Sender, explanation: str) -> str:
    """One line for people; the domain's own words are marked as such (RFC 7208 §11.5)."""
    domain, ip = sender.domain, sender.ip
    texts = {
        "pass": f"{domain} lets {ip} send ({verdict.detail})",
        "fail": f"{domain} does not let {ip} send ({verdict.detail})",
        "softfail": f"{domain} probably does not let {ip} send ({verdict.detail})",
        "neutral": f"{domain} says nothing about {ip}",
        "none": f"{domain} has no SPF record",
        "temperror": f"DNS gave no answer on {domain}: {verdict.detail}",
        "permerror": f"the SPF record of {domain} is in error: {verdict.detail}",
    }
    text = f"{domain} explains: {explanation}" if explanation else texts[verdict.result]
    return printable(text, _LONGEST_EXPLANATION)
