"""Does DNS show what `records_for` asks for, and if not, what is to be changed?

In: the records, a Resolver and an SpfCheck. Out: one RecordCheck a record. Answers come from anybody's name
server: they are compared and shown with control characters replaced, never believed to be well formed.
Raises nothing for what DNS says; no answer is the status `unknown`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from relay.mail.errors import DnsTemporaryError
from relay.ports import RecordType, Resolver, SpfCheck
from relay.signing.records import DnsRecord

Status = Literal["found", "missing", "wrong", "unknown"]

_SHOWN_LENGTH: Final = 600
_WALK: Final = 7


@dataclass(frozen=True, slots=True)
class RecordCheck:
    """`present` is what DNS shows at the place; `advice` is one line, empty where all is well."""

    record: DnsRecord
    status: Status
    present: tuple[str, ...] = ()
    advice: str = ""


class DomainChecker:
    """Compares records with DNS on behalf of one relay."""

    def __init__(self, resolver: Resolver, spf: SpfCheck, hostname: str) -> None:
        self._resolver = resolver
        self._spf = spf
        self._hostname = hostname.lower().rstrip(".")

    async def check(self, records: Sequence[DnsRecord]) -> list[RecordCheck]:
        """Ask for all records at once; the results are in their order."""
        return list(await asyncio.gather(*(self._check(record) for record in records)))

    async def _check(self, record: DnsRecord) -> RecordCheck:
        question = {
            "dkim": self._check_dkim,
            "spf": self._check_spf,
            "dmarc": self._check_dmarc,
            "return-path": self._check_return_path,
        }[record.purpose]
        try:
            return await question(record)
        except DnsTemporaryError as error:
            return RecordCheck(record, "unknown", (), f"DNS gave no answer ({_shown(str(error))}); try again later")

    async def _ask(self, name: str, rdtype: RecordType) -> tuple[str, ...]:
        return (await self._resolver.query(name, rdtype)).records

    async def _check_dkim(self, record: DnsRecord) -> RecordCheck:
        texts = await self._ask(record.name, "TXT")
        present = _all_shown(texts)
        if not texts:
            return RecordCheck(record, "missing", (), "publish this record")
        if len(texts) > 1:
            return RecordCheck(record, "wrong", present, "several TXT records at this name; keep only this one")
        return _judge_key(record, texts[0], present)

    async def _check_spf(self, record: DnsRecord) -> RecordCheck:
        texts = [text for text in await self._ask(record.name, "TXT") if _is_spf(text)]
        present = _all_shown(texts)
        if not texts:
            return RecordCheck(record, "missing", (), "publish this record")
        if len(texts) > 1:
            return RecordCheck(record, "wrong", present, "several SPF records count as an error; join them into one")
        advice = await self._spf_advice(record.name)
        return RecordCheck(record, "wrong" if advice else "found", present, advice)

    async def _spf_advice(self, domain: str) -> str:
        """What keeps the record from letting every address of this relay send; empty when nothing does."""
        addresses = [*await self._ask(self._hostname, "A"), *await self._ask(self._hostname, "AAAA")]
        if not addresses:
            return f"{self._hostname} has no address in DNS; publish its A record"
        for address in addresses:
            verdict = await self._spf.check(address, self._hostname, f"postmaster@{domain}")
            if verdict.result == "temperror":
                raise DnsTemporaryError(verdict.explanation)
            if verdict.result == "permerror":
                return f"the record is in error: {_shown(verdict.explanation) or 'check its syntax and its lookups'}"
            if verdict.result != "pass":
                return f"does not let {address} send; insert a:{self._hostname} right after v=spf1"
        return ""

    async def _check_dmarc(self, record: DnsRecord) -> RecordCheck:
        """The domain's own record, or that of a parent up to the organisation's (RFC 9989 §4.10)."""
        labels = record.name.removeprefix("_dmarc.").split(".")
        for start in (0, *range(max(1, len(labels) - _WALK), len(labels) - 1)):
            name = "_dmarc." + ".".join(labels[start:])
            texts = [text for text in await self._ask(name, "TXT") if _is_dmarc(text)]
            present = _all_shown(texts)
            if len(texts) > 1:
                return RecordCheck(record, "wrong", present, f"several DMARC records at {name}; keep one")
            if texts:
                return _judge_policy(record, texts[0], present)
        return RecordCheck(record, "missing", (), "publish this record")

    async def _check_return_path(self, record: DnsRecord) -> RecordCheck:
        hosts = await self._ask(record.name, "MX")
        if not hosts:
            # A CNAME to the relay itself will do: a host without MX takes its own mail (RFC 5321 §5.1).
            alias = await self._ask(record.name, "CNAME")
            if self._hostname in alias:
                return RecordCheck(record, "found", _all_shown(alias))
            return RecordCheck(record, "missing", (), "publish this record")
        if self._hostname in (host.partition(" ")[2] for host in hosts):
            return RecordCheck(record, "found", _all_shown(hosts))
        return RecordCheck(
            record, "wrong", _all_shown(hosts), f"bounces would go elsewhere; name {self._hostname} as MX"
        )


def _judge_key(record: DnsRecord, text: str, present: tuple[str, ...]) -> RecordCheck:
    wanted, tags = _tags(record.value), _tags(text)
    advice = ""
    if tags.get("v", "DKIM1") != "DKIM1" or "p" not in tags:
        advice = "not a DKIM key record; replace it with this one"
    elif not tags["p"]:
        advice = "the key is revoked (empty p=); publish this record"
    elif tags.get("k", "rsa").lower() != wanted["k"]:
        advice = f"wrong key type; it has to say k={wanted['k']}"
    elif tags["p"] != wanted["p"]:
        advice = "another key than the one this relay signs with; replace it with this record"
    elif "sha256" not in _listed(tags.get("h", "sha256")):
        advice = "h= forbids sha256; remove h="
    elif not {"*", "email"} & _listed(tags.get("s", "*")):
        advice = "s= forbids e-mail; remove s="
    return RecordCheck(record, "wrong" if advice else "found", present, advice or _testing_note(tags))


def _testing_note(tags: dict[str, str]) -> str:
    return "t=y says that signing is only tested; remove it" if "y" in _listed(tags.get("t", "")) else ""


def _judge_policy(record: DnsRecord, text: str, present: tuple[str, ...]) -> RecordCheck:
    policy = _tags(text).get("p", "none").lower()
    if policy in ("none", "quarantine", "reject"):
        return RecordCheck(record, "found", present)
    return RecordCheck(record, "wrong", present, f"p={_shown(policy)} is no policy; use none, quarantine or reject")


def _tags(text: str) -> dict[str, str]:
    """A tag list (RFC 6376 §3.2): names in lower case, blanks inside values dropped, the first of a name counts."""
    tags: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if equals:
            tags.setdefault(name.strip().lower(), "".join(value.split()))
    return tags


def _listed(value: str) -> set[str]:
    return {part.lower() for part in value.split(":") if part}


def _is_spf(text: str) -> bool:
    """RFC 7208 §4.5: the version stands first, whole, in any case."""
    return text[:6].lower() == "v=spf1" and text[6:7] in ("", " ")


def _is_dmarc(text: str) -> bool:
    return "".join(text.partition(";")[0].split()) == "v=DMARC1"


def _all_shown(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(_shown(text) for text in texts)


def _shown(text: str) -> str:
    """Fit for a terminal: what a name server says may hold escape sequences."""
    safe = "".join(char if char.isprintable() else "?" for char in text[: _SHOWN_LENGTH + 1])
    return safe if len(safe) <= _SHOWN_LENGTH else safe[:_SHOWN_LENGTH] + "..."
