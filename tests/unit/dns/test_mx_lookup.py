"""MX lookup over a resolver that says what it is told."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.dns.mx import MOST_ADDRESSES, MOST_HOSTS, MxResolver
from relay.mail.errors import DnsTemporaryError
from relay.mail.reply import Reply
from relay.ports import DnsAnswer, MxHost

NXDOMAIN = DnsAnswer((), exists=False, ttl=300.0)
NODATA = DnsAnswer((), ttl=300.0)


def records(*texts: str, ttl: float = 300.0, secure: bool = False) -> DnsAnswer:
    return DnsAnswer(texts, ttl=ttl, secure=secure)


class Clock:
    """Time that moves when told to."""

    seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


class Zone:
    """Answers by (name, type); None is a time-out, what is not listed does not exist."""

    def __init__(self, answers: dict[tuple[str, str], DnsAnswer | None]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str]] = []

    async def query(self, name: str, rdtype: str) -> DnsAnswer:
        self.asked.append((name, rdtype))
        found = self.answers.get((name, rdtype), NXDOMAIN)
        if found is None:
            raise DnsTemporaryError(f"time-out for {name}")
        return found


class Setting:
    """A lookup with its zone and clock."""

    def __init__(self, answers: dict[tuple[str, str], DnsAnswer | None], *, seed: int = 1, ipv6: bool = True) -> None:
        self.clock = Clock()
        self.zone = Zone(answers)
        self.lookup = MxResolver(self.zone, random.Random(seed), ipv6=ipv6, clock=self.clock)

    def hosts(self, domain: str = "a.example") -> Any:
        return asyncio.run(self.lookup.hosts(domain))


def names(hosts: Any) -> list[str]:
    return [host.name for host in hosts]


def with_hosts(*mx: str, **settings: Any) -> Setting:
    answers: dict[tuple[str, str], DnsAnswer | None] = {("a.example", "MX"): records(*mx)}
    for number, record in enumerate(mx):
        answers[record.partition(" ")[2], "A"] = records(f"192.0.2.{number + 1}")
    return Setting(answers, **settings)


def test_hosts_come_by_preference() -> None:
    """As numbers, not as text, whatever order DNS has them in; the case and final dot of the domain do not matter."""
    setting = with_hosts("100 last.example", "9 first.example", "20 second.example")
    assert names(setting.hosts("A.Example.")) == ["first.example", "second.example", "last.example"]


def test_equal_preference_is_shuffled() -> None:
    """Over many lookups each of the equal hosts comes first, and never before a better one (RFC 5321 §5.1)."""
    mx = ("10 a.mx.example", "10 b.mx.example", "10 c.mx.example", "5 best.mx.example")
    orders = [names(with_hosts(*mx, seed=seed).hosts()) for seed in range(40)]
    assert {order[0] for order in orders} == {"best.mx.example"}
    assert {order[1] for order in orders} == {"a.mx.example", "b.mx.example", "c.mx.example"}


def test_an_order_is_kept_for_a_minute_as_the_same_list() -> None:
    """Callers that compare lists find the very same one, and DNS is not asked; then equal hosts take turns."""
    setting = with_hosts(*(f"10 {letter}.mx.example" for letter in "abcdefgh"))
    first = setting.hosts()
    asked = len(setting.zone.asked)
    setting.clock.seconds = 59.0
    assert setting.hosts() is first
    assert len(setting.zone.asked) == asked
    setting.clock.seconds = 61.0
    assert names(setting.hosts()) != names(first)


def test_an_order_ends_with_the_shortest_ttl_in_it() -> None:
    setting = with_hosts("10 mx.example")
    setting.zone.answers["mx.example", "A"] = records("192.0.2.1", ttl=7.0)
    setting.zone.answers["mx.example", "AAAA"] = records(ttl=300.0)
    setting.hosts()
    setting.zone.answers["mx.example", "A"] = records("192.0.2.99", ttl=7.0)
    setting.clock.seconds = 6.9
    assert setting.hosts()[0].addresses == ("192.0.2.1",)
    setting.clock.seconds = 7.1
    assert setting.hosts()[0].addresses == ("192.0.2.99",)


def test_both_families_come_up_within_two_tries() -> None:
    """IPv4 first, then in turns; without IPv6 nobody asks for AAAA."""
    answers = {
        ("a.example", "MX"): records("10 mx.example"),
        ("mx.example", "A"): records("192.0.2.1", "192.0.2.2", "192.0.2.3"),
        ("mx.example", "AAAA"): records("2001:db8::1"),
    }
    addresses = Setting(dict(answers)).hosts()[0].addresses
    assert [":" in address for address in addresses] == [False, True, False, False]
    plain = Setting(dict(answers), ipv6=False)
    assert set(plain.hosts()[0].addresses) == {"192.0.2.1", "192.0.2.2", "192.0.2.3"}
    assert "AAAA" not in [rdtype for _, rdtype in plain.zone.asked]


@pytest.mark.parametrize(
    ("answers", "reply"),
    [
        ({}, "550 5.1.2 Domain a.example does not exist"),
        ({("a.example", "MX"): NODATA}, "550 5.1.2 Domain a.example has no MX and no address"),
        ({("a.example", "MX"): records("0 ")}, "556 5.1.10 Domain a.example accepts no mail (null MX)"),
    ],
)
def test_replies_that_end_it(answers: dict[tuple[str, str], DnsAnswer | None], reply: str) -> None:
    found = Setting(answers).hosts()
    assert isinstance(found, Reply)
    assert str(found) == reply


def test_a_root_among_hosts_is_no_null_mx() -> None:
    """RFC 7505 §3: only alone does it mean that no mail is taken."""
    setting = with_hosts("0 ", "10 mx.example")
    assert names(setting.hosts()) == ["mx.example"]


def test_a_host_named_twice_is_tried_once_at_its_best() -> None:
    setting = with_hosts("10 mx.example", "20 other.example", "30 mx.example")
    assert [(host.name, host.preference) for host in setting.hosts()] == [("mx.example", 10), ("other.example", 20)]


@pytest.mark.parametrize(
    ("domain", "addresses"),
    [("[192.0.2.1]", ("192.0.2.1",)), ("[IPv6:2001:db8::1]", ("2001:db8::1",)), ("[ipv6:::1]", ("::1",))],
)
def test_an_address_literal_is_its_own_host(domain: str, addresses: tuple[str, ...]) -> None:
    """DNS is not asked (RFC 5321 §4.1.3)."""
    setting = Setting({})
    (host,) = setting.hosts(domain)
    assert host.addresses == addresses
    assert setting.zone.asked == []


@pytest.mark.parametrize("domain", ["[192.0.2.1", "[2001:db8::1]", "[IPv6:192.0.2.1]", "[]", "[x]", "[IPv6:fe80::1%1]"])
def test_what_is_no_literal_is_refused(domain: str) -> None:
    assert str(Setting({}).hosts(domain)).startswith("550 5.1.2 ")


def test_trouble_with_one_family_hides_no_address() -> None:
    setting = with_hosts("10 mx.example")
    setting.zone.answers["mx.example", "AAAA"] = None
    assert setting.hosts()[0].addresses == ("192.0.2.1",)


def test_trouble_is_forgotten_at_once() -> None:
    """A list that lacks a host for a moment's trouble is not kept."""
    setting = with_hosts("10 mx.example", "20 other.example")
    setting.zone.answers["mx.example", "A"] = None
    assert names(setting.hosts()) == ["other.example"]
    setting.zone.answers["mx.example", "A"] = records("192.0.2.1")
    assert names(setting.hosts()) == ["mx.example", "other.example"]


@pytest.mark.parametrize("silent", [("a.example", "MX"), ("mx.example", "A"), ("mx.example", "AAAA")])
def test_silence_where_an_address_might_be_is_temporary(silent: tuple[str, str]) -> None:
    """No address and one family silent: nothing is known, so the mail waits."""
    answers = {
        ("a.example", "MX"): records("10 mx.example"),
        ("mx.example", "A"): NODATA,
        ("mx.example", "AAAA"): NODATA,
    }
    with pytest.raises(DnsTemporaryError):
        Setting(answers | {silent: None}).hosts()


def test_a_silent_implicit_host_is_temporary() -> None:
    with pytest.raises(DnsTemporaryError):
        Setting({("a.example", "MX"): NODATA, ("a.example", "A"): None}).hosts()


def test_hosts_and_addresses_are_bounded() -> None:
    """A zone with hundreds of either costs no more than the bounds; the best preferences are kept."""
    setting = with_hosts(*(f"{number} mx{number}.example" for number in range(1, 200)))
    setting.zone.answers["mx1.example", "A"] = records(*(f"198.51.100.{n}" for n in range(1, 100)))
    hosts = setting.hosts()
    assert names(hosts) == [f"mx{number}.example" for number in range(1, MOST_HOSTS + 1)]
    assert len(hosts[0].addresses) == MOST_ADDRESSES
    assert len(setting.zone.asked) == 1 + 2 * MOST_HOSTS


@pytest.mark.parametrize(
    ("mx_secure", "a_secure", "secure"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_host_is_secure_when_all_that_led_to_it_is(mx_secure: bool, a_secure: bool, secure: bool) -> None:
    answers = {
        ("a.example", "MX"): records("10 mx.example", secure=mx_secure),
        ("mx.example", "A"): records("192.0.2.1", secure=a_secure),
    }
    assert list(Setting(answers).hosts()) == [MxHost("mx.example", 10, ("192.0.2.1",), secure)]


@given(
    mx=st.lists(st.tuples(st.integers(0, 65535), st.text(max_size=20)), max_size=40),
    addresses=st.lists(st.text(max_size=20) | st.ip_addresses().map(str), max_size=20),
    trouble=st.booleans(),
)
def test_hostile_zones_give_hosts_a_reply_or_a_temporary_error(
    mx: list[tuple[int, str]], addresses: list[str], trouble: bool
) -> None:
    """Nothing else is raised, and every address handed on is one."""
    answers: dict[tuple[str, str], DnsAnswer | None] = {("a.example", "MX"): records(*(f"{p} {n}" for p, n in mx))}
    for _, name in mx:
        answers[name, "A"] = None if trouble else records(*addresses)
    try:
        found = Setting(answers).hosts()
    except DnsTemporaryError:
        return
    if not isinstance(found, Reply):
        assert len(found) <= MOST_HOSTS
        for host in found:
            for address in host.addresses:
                assert set(address.lower()) <= set("0123456789abcdef:.")
