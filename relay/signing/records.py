"""The DNS records a domain needs so that mail from this relay counts as its own.

In: a domain, its keys, the relay's host name and the return-path label. Out: DnsRecord values, and the same as a
zone-file snippet. Pure: asks no DNS. Raises nothing.
Source: RFC 6376 §3.6.1, RFC 8463 §4 (DKIM), RFC 7208 (SPF), RFC 9989 (DMARC), RFC 1035 §3.3.14 and §5.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from relay.signing.key import SigningKey

Purpose = Literal["dkim", "spf", "dmarc", "return-path"]

_STRING_LENGTH: Final = 255


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """`value` as a resolver gives it: TXT strings joined, MX as `preference host`; names without a final dot."""

    name: str
    type: Literal["TXT", "MX"]
    value: str
    purpose: Purpose


def records_for(
    domain: str, keys: Iterable[SigningKey], hostname: str, return_path_prefix: str
) -> tuple[DnsRecord, ...]:
    """What has to stand in DNS: a key each, SPF, DMARC, and the host that bounces come back to."""
    spf = f"v=spf1 a:{hostname} ~all"
    return_path = f"{return_path_prefix}.{domain}"
    return (
        *(DnsRecord(key.dns_name, "TXT", dkim_value(key), "dkim") for key in keys),
        DnsRecord(domain, "TXT", spf, "spf"),
        DnsRecord(f"_dmarc.{domain}", "TXT", f"v=DMARC1; p=none; rua=mailto:postmaster@{domain}", "dmarc"),
        DnsRecord(return_path, "MX", f"10 {hostname}", "return-path"),
        DnsRecord(return_path, "TXT", spf, "spf"),
    )


def dkim_value(key: SigningKey) -> str:
    """The key record's text."""
    return f"v=DKIM1; k={key.algorithm}; p={key.public_base64}"


def zone_snippet(records: Sequence[DnsRecord]) -> str:
    """Lines for a BIND zone file: absolute names, TXT in strings of at most 255 octets."""
    return "".join(f"{record.name}. IN {record.type} {_zone_value(record)}\n" for record in records)


def _zone_value(record: DnsRecord) -> str:
    if record.type == "MX":
        return f"{record.value}."
    text = record.value
    strings = [_quoted(text[at : at + _STRING_LENGTH]) for at in range(0, len(text), _STRING_LENGTH)]
    if len(strings) == 1:
        return strings[0]
    return "(\n" + "".join(f"    {string}\n" for string in strings) + "  )"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
