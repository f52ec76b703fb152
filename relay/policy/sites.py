"""Sites: the name of the hosts that take a domain's mail, so that domains which share them share their limits.

In: MX hosts, and patterns that put hosts of many names together. Out: `mx:` and a name; the same for the same hosts.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

from relay.policy.routing import any_domain
from relay.ports import MxHost

KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "apple": ("*.mail.icloud.com",),
    "google": ("*.google.com", "*.googlemail.com"),
    "microsoft": ("*.mail.protection.outlook.com", "*.mx.microsoft", "*.olc.protection.outlook.com"),
    "yahoo": ("*.yahoodns.net",),
}
"""Where every customer's domain has hosts of its own name, or some of many."""
_LONGEST: Final = 120


def site_of(hosts: Sequence[MxHost], own: Mapping[str, Sequence[str]]) -> str:
    """By the hosts of the best preference. `own` patterns come before the known ones; `""` where there is no host."""
    if not hosts:
        return ""
    best = min(host.preference for host in hosts)
    names = sorted(host.name for host in hosts if host.preference == best)
    for known in (own, KNOWN):
        for site, patterns in known.items():
            if all(any_domain(patterns, name) for name in names):
                return f"mx:{site}"
    joined = ",".join(names)
    if len(joined) > _LONGEST:
        digest = blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
        joined = f"{joined[: _LONGEST // 2]}...{digest}"
    return f"mx:{joined}"
