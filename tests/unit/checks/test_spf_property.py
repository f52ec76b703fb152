"""Hostile records and answers: never an exception, never more questions than the limits allow; and pyspf agrees."""

from __future__ import annotations

import asyncio
import ipaddress
import warnings
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.checks.spf import SpfChecker
from relay.checks.spf_evaluation import MOST_LOOKUPS, MOST_NAMES, Result
from relay.mail.errors import DnsTemporaryError
from relay.ports import DnsAnswer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    spf = pytest.importorskip("spf", reason="pyspf is not installed")

NAMES = ["a.example", "b.a.example", "c.example", "1.2.0.192.in-addr.arpa"]
IPS = ["192.0.2.1", "192.0.2.77", "2001:db8::1"]

domains = st.sampled_from(
    [*NAMES, "%{d}", "%{d2}", "b.%{d1r}.example", "%{l}.%{o}", "%{p}", "%{ir}.%{v}.arpa", "x", ""]
)
prefixes = st.sampled_from(["", "", "/24", "//64", "/24//64", "/33", "/0", "/x"])
terms = st.one_of(
    st.builds(
        "{}{}:{}{}".format, st.sampled_from(["", "-", "~", "?", "+"]), st.sampled_from(["a", "mx"]), domains, prefixes
    ),
    st.builds("{}{}".format, st.sampled_from(["a", "mx", "ptr", "-all", "?all", "all", "~mx", "include"]), prefixes),
    st.builds("{}:{}".format, st.sampled_from(["include", "exists", "ptr", "-include", "~exists"]), domains),
    st.builds("{}={}".format, st.sampled_from(["redirect", "exp", "moo"]), domains),
    st.builds("ip4:{}{}".format, st.sampled_from(["192.0.2.0", "192.0.2.1", "192.0.2", "::1"]), prefixes),
    st.builds("ip6:{}{}".format, st.sampled_from(["2001:db8::", "::1", "x"]), st.sampled_from(["", "/32", "/129"])),
)
plausible = st.lists(terms, max_size=14).map(lambda found: " ".join(["v=spf1", *found]))
rubbish = st.text(st.characters(max_codepoint=255), max_size=40).map(lambda text: "v=spf1 " + text)
zones = st.fixed_dictionaries(
    {
        "TXT": st.dictionaries(st.sampled_from(NAMES), st.lists(plausible | rubbish, min_size=1, max_size=2)),
        "A": st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from([*IPS, "junk"]), max_size=3)),
        "AAAA": st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(IPS), max_size=3)),
        "MX": st.dictionaries(
            st.sampled_from(NAMES), st.lists(st.sampled_from(["10 b.a.example", "0 ", "x", "5 c.example"]), max_size=12)
        ),
        "PTR": st.dictionaries(
            st.sampled_from(NAMES), st.lists(st.sampled_from([*NAMES, "", ".", "x" * 99]), max_size=12)
        ),
    }
)


class Zone:
    """Answers from `records`; the n-th questions of `silent` get none."""

    def __init__(self, records: dict[str, dict[str, list[str]]], silent: frozenset[int] = frozenset()) -> None:
        self.records = records
        self.silent = silent
        self.asked = 0

    async def query(self, name: str, rdtype: str) -> DnsAnswer:
        self.asked += 1
        if self.asked in self.silent:
            raise DnsTemporaryError("time-out")
        return DnsAnswer(tuple(self.records[rdtype].get(name.lower(), ())))


@given(
    records=zones,
    silent=st.frozensets(st.integers(1, 30), max_size=2),
    ip=st.sampled_from(IPS) | st.text(max_size=8),
    helo=st.sampled_from(NAMES) | st.text(max_size=30),
    sender=st.none() | st.sampled_from(["u@a.example", "@c.example", "ü.v@b.a.example"]) | st.text(max_size=30),
)
def test_hostile_zones_never_raise_and_never_ask_without_end(
    records: dict[str, Any], silent: frozenset[int], ip: str, helo: str, sender: str | None
) -> None:
    """One of the seven results, in one printable line, for a bounded number of questions."""
    zone = Zone(records, silent)
    found = asyncio.run(SpfChecker(zone).check(ip, helo, sender))
    assert found.result in get_args(Result)
    assert found.explanation.isprintable()
    assert found.explanation.isascii()
    assert len(found.explanation) <= 400
    # The record, ten terms with a host each for every MX name, the client's names once, and an explanation.
    assert zone.asked <= 1 + MOST_LOOKUPS * (1 + MOST_NAMES) + 1 + MOST_NAMES + 1


@given(text=st.text(st.characters(max_codepoint=255), max_size=300))
def test_any_text_is_a_record_or_an_error(text: str) -> None:
    zone = Zone({"TXT": {"a.example": ["v=spf1 " + text], "%": [text]}, "A": {}, "AAAA": {}, "MX": {}, "PTR": {}})
    found = asyncio.run(SpfChecker(zone).check("192.0.2.1", "a.example", "u@a.example"))
    assert found.result in get_args(Result)


# Mostly well formed, so that most runs reach a mechanism. Without ptr and %{p}: pyspf counts what the client publishes
# among the void lookups of the domain, we do not. Without unknown modifiers: it refuses to see one twice. Without a
# record that names itself: it calls that an error before it gets there.
good_terms = st.one_of(
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["", "-", "~", "?", "+"]),
        st.sampled_from(["a", "mx"]),
        st.sampled_from(["", ":b.a.example", ":c.example", ":b.%{o}", ":%{h}", ":nowhere.example"]),
        st.sampled_from(["", "", "/24", "//64", "/24//64", "/0"]),
    ),
    st.sampled_from(["include:c.example", "-include:b.a.example", "?exists:b.%{d}", "exists:%{l}.%{o}", "all", "-all"]),
    st.sampled_from(["ip4:192.0.2.0/25", "-ip4:192.0.2.77", "ip6:2001:db8::/32", "redirect=c.example"]),
)


def good_records(name: str) -> st.SearchStrategy[list[str]]:
    terms = st.lists(good_terms.filter(lambda term: not term.endswith((f"include:{name}", f"={name}"))), max_size=6)
    return terms.map(lambda found: [" ".join(["v=spf1", *found])])


good_zones = st.fixed_dictionaries(
    {
        "TXT": st.fixed_dictionaries({name: good_records(name) for name in NAMES[:3]}),
        # Every MX host has its addresses: pyspf asks for all before it compares, and counts what is void on the way.
        "A": st.fixed_dictionaries({name: st.lists(st.sampled_from(IPS[:2]), min_size=1) for name in NAMES[1:3]}),
        "AAAA": st.just(dict.fromkeys(NAMES[1:3], IPS[2:])),
        "MX": st.dictionaries(
            st.sampled_from(NAMES[:3]), st.lists(st.sampled_from(["10 b.a.example", "5 c.example"]), max_size=12)
        ),
    }
)


@given(records=good_zones, ip=st.sampled_from(IPS), helo=st.sampled_from(NAMES[:3]))
def test_pyspf_says_the_same(records: dict[str, Any], ip: str, helo: str) -> None:
    """Another implementation, the same zone, the same result."""
    ours = asyncio.run(SpfChecker(Zone(records)).check(ip, helo, "u@a.example")).result
    assert ours == pyspf(records, ip, helo)


def pyspf(records: dict[str, Any], ip: str, helo: str) -> str:
    def look_up(name: str, rdtype: str, *_: object) -> list[tuple[tuple[str, str], Any]]:
        values = records.get(rdtype, {}).get(name.lower().removesuffix("."), ())
        return [((name, rdtype), _as_pyspf(value, rdtype)) for value in values]

    original, spf.DNSLookup = spf.DNSLookup, look_up
    try:
        query = spf.query(i=ip, s="u@a.example", h=helo, strict=True)
        return str(query.check()[0]).lower()
    finally:
        spf.DNSLookup = original


def _as_pyspf(value: str, rdtype: str) -> Any:
    if rdtype == "TXT":
        return (value.encode("latin-1"),)
    if rdtype == "MX":
        preference, _, host = value.partition(" ")
        return (int(preference), host)
    if rdtype == "AAAA":
        return ipaddress.ip_address(value).packed if ":" in value else value
    return value
