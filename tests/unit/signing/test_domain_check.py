"""What `relay domain check` says of good, missing, wrong and hostile DNS."""

from __future__ import annotations

import asyncio

import pytest

from relay.mail.errors import DnsTemporaryError
from relay.ports import DnsAnswer, SpfResult
from relay.signing.check import DomainChecker, RecordCheck
from relay.signing.records import DnsRecord, records_for

HOST = "relay.example.net"
KEY = "relay1._domainkey.example.com"


class Zone:
    """A resolver that knows what it was given; a name mapped to None gives no answer."""

    def __init__(self, records: dict[tuple[str, str], list[str] | None]) -> None:
        self.records = records

    async def query(self, name: str, rdtype: str) -> DnsAnswer:
        found = self.records.get((name, rdtype), [])
        if found is None:
            raise DnsTemporaryError("SERVFAIL\x1b[2J")
        return DnsAnswer(tuple(found), exists=bool(found))


class Verdicts:
    """SPF results by address; what is not listed passes."""

    def __init__(self, **results: SpfResult) -> None:
        self.results = {name.replace("_", "."): result for name, result in results.items()}
        self.asked: list[tuple[str, str, str | None]] = []

    async def check(self, ip: str, helo: str, reverse_path: str | None) -> SpfResult:
        self.asked.append((ip, helo, reverse_path))
        return self.results.get("v4" if "." in ip else "v6", SpfResult("pass"))


@pytest.fixture
def records(store) -> dict[str, DnsRecord]:
    found = records_for("example.com", store.keys("example.com"), HOST, "rp")
    return {f"{record.type} {record.name}": record for record in found}


@pytest.fixture
def good(records) -> dict[tuple[str, str], list[str] | None]:
    published: dict[tuple[str, str], list[str] | None] = {(r.name, r.type): [r.value] for r in records.values()}
    return published | {(HOST, "A"): ["192.0.2.1"], (HOST, "AAAA"): ["2001:db8::1"]}


def run(zone: dict, records: dict[str, DnsRecord], spf: Verdicts | None = None) -> dict[str, RecordCheck]:
    checker = DomainChecker(Zone(zone), spf or Verdicts(), HOST.upper() + ".")
    results = asyncio.run(checker.check(list(records.values())))
    return dict(zip(records, results, strict=True))


def test_what_is_printed_is_what_is_found(good, records) -> None:
    """An operator who publishes the records as printed has nothing left to do."""
    results = run(good, records)
    assert {result.status for result in results.values()} == {"found"}
    assert {result.advice for result in results.values()} == {""}


def test_nothing_published(records) -> None:
    """Every record is missing, and the advice is to publish it."""
    results = run({(HOST, "A"): ["192.0.2.1"]}, records)
    assert {(result.status, result.advice) for result in results.values()} == {("missing", "publish this record")}


def test_no_answer_is_not_missing(good, records) -> None:
    """A name server that is down makes a record unknown, never missing."""
    results = run(dict.fromkeys(good), records)
    assert {result.status for result in results.values()} == {"unknown"}
    assert all("\x1b" not in result.advice for result in results.values())


P = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


@pytest.mark.parametrize(
    ("texts", "status", "advice"),
    [
        (["v=DKIM1; k=rsa; p={p}"], "found", ""),
        (["p={p}"], "found", ""),
        (["v = DKIM1 ; p = {p} ; "], "found", ""),
        (["v=DKIM1; h=sha1:sha256; s=email; t=s; p={p}"], "found", ""),
        (["v=DKIM1; t=y; p={p}"], "found", "t=y"),
        ([f"v=DKIM1; k=rsa; p={P}"], "wrong", "another key"),
        (["v=DKIM1; k=ed25519; p={p}"], "wrong", "k=rsa"),
        (["v=DKIM1; p="], "wrong", "revoked"),
        (["v=DKIM2; p={p}"], "wrong", "not a DKIM key record"),
        (["v=spf1 -all"], "wrong", "not a DKIM key record"),
        (["v=DKIM1; h=sha1; p={p}"], "wrong", "h="),
        (["v=DKIM1; s=tlsrpt; p={p}"], "wrong", "s="),
        (["v=DKIM1; p={p}", "v=DKIM1; p={p}"], "wrong", "several"),
        (["\x1b]0;x\x07" + "é" * 5000], "wrong", "not a DKIM key record"),
    ],
)
def test_key_records(store, good, records, texts: list[str], status: str, advice: str) -> None:
    """The key in DNS is the key we sign with, usable for mail and SHA-256, and alone."""
    public = store.keys("example.com")[0].public_base64
    result = run(good | {(KEY, "TXT"): [text.replace("{p}", public) for text in texts]}, records)[f"TXT {KEY}"]
    assert result.status == status
    assert advice in result.advice
    assert all(text.isprintable() and len(text) < 700 for text in result.present)


@pytest.mark.parametrize(
    ("texts", "status", "advice"),
    [
        (["google-site-verification=x", "v=spf1 include:_spf.example.org -all"], "found", ""),
        (["V=SPF1 +all"], "found", ""),
        (["v=spf1"], "found", ""),
        (["google-site-verification=x"], "missing", "publish"),
        (["v=spf10 a:relay.example.net"], "missing", "publish"),
        (["v=spf1 -all", "v=spf1 a:relay.example.net -all"], "wrong", "join them"),
    ],
)
def test_spf_records(good, records, texts: list[str], status: str, advice: str) -> None:
    """One SPF record among any other texts; what it means is for the SPF check to say."""
    result = run(good | {("example.com", "TXT"): texts}, records)["TXT example.com"]
    assert result.status == status
    assert advice in result.advice


def test_spf_has_to_pass_for_every_address(good, records) -> None:
    """Each address of the relay is tried as sender of the domain; the one that fails is named."""
    spf = Verdicts(v6=SpfResult("softfail"))
    result = run(good, records, spf)["TXT example.com"]
    assert (result.status, result.advice) == (
        "wrong",
        "does not let 2001:db8::1 send; insert a:relay.example.net right after v=spf1",
    )
    assert ("192.0.2.1", HOST, "postmaster@example.com") in spf.asked
    assert ("2001:db8::1", HOST, "postmaster@rp.example.com") in spf.asked


def test_spf_errors(good, records) -> None:
    """A broken record is wrong, an unanswered include unknown, a relay without address wrong."""
    broken = run(good, records, Verdicts(v4=SpfResult("permerror", "more than 10 lookups")))["TXT example.com"]
    assert (broken.status, broken.advice) == ("wrong", "the record is in error: more than 10 lookups")
    down = run(good, records, Verdicts(v4=SpfResult("temperror", "time-out")))["TXT example.com"]
    assert down.status == "unknown"
    nowhere = run(good | {(HOST, "A"): [], (HOST, "AAAA"): []}, records)["TXT example.com"]
    assert (nowhere.status, nowhere.advice) == ("wrong", f"{HOST} has no address in DNS; publish its A record")


@pytest.mark.parametrize(
    ("texts", "status"),
    [
        (["v=DMARC1; p=reject"], "found"),
        (["v = DMARC1;rua=mailto:x@example.com"], "found"),
        (["v=DMARC1; p=monitor"], "wrong"),
        (["v=DMARC1; p=none", "v=DMARC1; p=none"], "wrong"),
        (["v=DMARC2; p=none"], "missing"),
        (["p=none; v=DMARC1"], "missing"),
    ],
)
def test_dmarc_records(good, records, texts: list[str], status: str) -> None:
    """Any valid policy will do; it is the owner's choice."""
    assert run(good | {("_dmarc.example.com", "TXT"): texts}, records)["TXT _dmarc.example.com"].status == status


def test_a_parent_domain_may_hold_the_policy() -> None:
    """RFC 9989 §4.10: a subdomain is covered by its organisation's record, however deep it lies; a TLD's is none."""
    deep = ".".join("abcdefghijkl") + ".example.com"
    for domain in ("news.example.com", deep):
        record = records_for(domain, [], HOST, "rp")[1]
        assert run({("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject"]}, {"x": record})["x"].status == "found"
        assert run({("_dmarc.com", "TXT"): ["v=DMARC1; p=reject"]}, {"x": record})["x"].status == "missing"


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({"MX": ["20 other.example", f"10 {HOST}"]}, "found"),
        ({"MX": [], "CNAME": [HOST]}, "found"),
        ({"MX": ["10 other.example"]}, "wrong"),
        ({"MX": [], "CNAME": ["other.example"]}, "missing"),
    ],
)
def test_return_path_hosts(good, records, found: dict[str, list[str]], status: str) -> None:
    """Bounces have to come back to this relay, by MX or by alias."""
    zone = good | {("rp.example.com", rdtype): values for rdtype, values in found.items()}
    assert run(zone, records)["MX rp.example.com"].status == status
