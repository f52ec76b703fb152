"""SPF results, their words and their bounds, over a zone held in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.checks.spf import MOST_AT_ONCE, SpfChecker, sender_of
from relay.checks.spf_evaluation import MOST_LOOKUPS, MOST_NAMES, MOST_VOID_LOOKUPS, Evaluation, Sender
from relay.checks.spf_record import LONGEST_RECORD
from relay.mail.errors import DnsTemporaryError
from relay.ports import DnsAnswer, SpfResult

NXDOMAIN = DnsAnswer((), exists=False)


class Zone:
    """Answers by "TYPE name"; None is a time-out, what is not listed does not exist."""

    def __init__(self, answers: dict[str, list[str] | None]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def query(self, name: str, rdtype: str) -> DnsAnswer:
        self.asked.append(f"{rdtype} {name}")
        found = self.answers.get(self.asked[-1], [])
        if found is None:
            raise DnsTemporaryError(f"no answer for {name} {rdtype}")
        return DnsAnswer(tuple(found)) if found else NXDOMAIN


def check(
    record: str | None,
    *,
    ip: str = "192.0.2.1",
    helo: str = "mx.a.example",
    sender: str | None = "u@a.example",
    **zone: Any,
) -> tuple[SpfResult, Zone]:
    """Check against `record` of a.example; `zone` is keyed by "TYPE name"."""
    answers: dict[str, list[str] | None] = {"TXT a.example": None if record is None else [record]} | zone
    resolver = Zone(answers)
    return asyncio.run(SpfChecker(resolver).check(ip, helo, sender)), resolver


def result(record: str | None, **arguments: Any) -> str:
    return check(record, **arguments)[0].result


@pytest.mark.parametrize(
    ("record", "wanted", "words"),
    [
        ("v=spf1 ip4:192.0.2.1 -all", "pass", "a.example lets 192.0.2.1 send (ip4:192.0.2.1)"),
        ("v=spf1 -all", "fail", "a.example does not let 192.0.2.1 send (-all)"),
        ("v=spf1 ~all", "softfail", "a.example probably does not let 192.0.2.1 send (~all)"),
        ("v=spf1", "neutral", "a.example says nothing about 192.0.2.1"),
        ("v=spf2", "none", "a.example has no SPF record"),
        (None, "temperror", "DNS gave no answer on a.example: no answer for a.example TXT"),
        ("v=spf1 a:", "permerror", "the SPF record of a.example is in error: '' is no domain name"),
    ],
)
def test_every_result_says_why(record: str | None, wanted: str, words: str) -> None:
    """Replies, header fields and logs show this line."""
    assert check(record)[0] == SpfResult(wanted, words)


def test_the_domains_own_words_are_marked_as_such() -> None:
    """An explanation is a stranger's text: one line, printable, capped, and said to be theirs (RFC 7208 §11.5)."""
    zone = {"TXT why.a.example": ["%{i} may not send for %{d}" + "!" * 2000]}
    explanation = check("v=spf1 -all exp=why.a.example", **zone)[0].explanation
    assert explanation.startswith("a.example explains: 192.0.2.1 may not send for a.example!!!")
    assert len(explanation) == 400


@pytest.mark.parametrize("text", [["bad %{x}"], ["new\r\nline"], ["caf\xe9"], ["one", "two"], [], None])
def test_an_explanation_unfit_to_be_told_is_not_told(text: list[str] | None) -> None:
    found = check("v=spf1 -all exp=why.a.example", **{"TXT why.a.example": text})[0]
    assert found == SpfResult("fail", "a.example does not let 192.0.2.1 send (-all)")


def test_the_null_sender_is_checked_by_its_helo_name() -> None:
    zone = {"TXT mx.a.example": ["v=spf1 exists:%{l}.x.example -all"], "A postmaster.x.example": ["127.0.0.2"]}
    assert result("v=spf1 -all", sender=None, **zone) == "pass"
    assert result("v=spf1 +all", sender=None) == "none"


@pytest.mark.parametrize("helo", ["localhost", "[192.0.2.1]", "", "a b.example", "x\r\ny.example", "." * 300])
def test_a_helo_that_is_no_domain_gives_no_result(helo: str) -> None:
    """Nothing is asked (RFC 7208 §4.3)."""
    found, zone = check("v=spf1 -all", sender=None, helo=helo)
    assert (found.result, zone.asked) == ("none", [])


@pytest.mark.parametrize("ip", ["", "unix:/run/x", "192.0.2.256"])
def test_a_client_without_an_address_gives_no_result(ip: str) -> None:
    assert result("v=spf1 -all", ip=ip) == "none"


@pytest.mark.parametrize(
    ("ip", "wanted"),
    [("::ffff:192.0.2.1", "pass"), ("2001:db8::1", "pass"), ("fe80::1%eth0", "fail"), ("::ffff:192.0.2.2", "fail")],
)
def test_ipv6_clients(ip: str, wanted: str) -> None:
    """A mapped address is the IPv4 one (RFC 7208 §5), and a zone index is not part of it."""
    assert result("v=spf1 ip4:192.0.2.1 ip6:2001:db8::/32 -all", ip=ip) == wanted


def test_a_zone_index_is_shown_to_nobody() -> None:
    found = check("v=spf1 -all exp=why.a.example", ip="fe80::1%eth0", **{"TXT why.a.example": ["%{c} is refused"]})[0]
    assert found.explanation == "a.example explains: fe80::1 is refused"


def test_an_internationalized_domain_is_asked_in_a_labels() -> None:
    zone = {"TXT xn--bcher-kva.example": ["v=spf1 -all"]}
    assert result(None, sender="u@bücher.example", **zone) == "fail"


@pytest.mark.parametrize("term", ["exists:%{l}.a.example", "include:%{s}.a.example", "a:%{l1r-}.a.example"])
def test_a_term_with_a_local_part_beyond_ascii_does_not_match(term: str) -> None:
    """RFC 8616 §4; nothing is asked for it."""
    found, zone = check(f"v=spf1 {term} -all", sender="jürgen@a.example")
    assert (found.result, zone.asked) == ("fail", ["TXT a.example"])


def test_ten_terms_that_ask_dns_are_the_limit() -> None:
    """The eleventh is an error, wherever in the tree it stands (RFC 7208 §4.6.4)."""
    zone = {f"A h{n}.example": ["203.0.113.1"] for n in range(20)}
    terms = " ".join(f"a:h{n}.example" for n in range(MOST_LOOKUPS))
    assert result(f"v=spf1 {terms} ?all", **zone) == "neutral"
    found, asked = check(f"v=spf1 {terms} a:h19.example ?all", **zone)
    assert found.result == "permerror"
    assert "A h19.example" not in asked.asked
    nested = zone | {"TXT b.example": [f"v=spf1 {terms} ?all"]}
    assert result("v=spf1 include:b.example ?all", **nested) == "permerror"


def test_a_record_that_includes_itself_ends() -> None:
    found, zone = check("v=spf1 include:a.example -all")
    assert found.result == "permerror"
    assert len(zone.asked) == MOST_LOOKUPS + 1


def test_two_void_lookups_are_the_limit() -> None:
    terms = [f"a:none{n}.example" for n in range(MOST_VOID_LOOKUPS + 1)]
    assert result(f"v=spf1 {' '.join(terms[:-1])} ~all") == "softfail"
    assert result(f"v=spf1 {' '.join(terms)} ~all") == "permerror"


def test_ten_mx_hosts_are_the_limit() -> None:
    hosts = [f"10 h{n}.example" for n in range(MOST_NAMES + 1)]
    zone = {f"A h{n}.example": ["203.0.113.1"] for n in range(MOST_NAMES + 1)}
    assert result("v=spf1 mx ?all", **zone, **{"MX a.example": hosts[:-1]}) == "neutral"
    assert result("v=spf1 mx ?all", **zone, **{"MX a.example": hosts}) == "permerror"


@pytest.mark.parametrize("turned", [False, True])
def test_a_name_server_that_turns_records_round_changes_no_result(turned: bool) -> None:
    """MX hosts are looked at by preference, so the limits fall the same way each time."""
    hosts = ["5 good.example", "10 none1.example", "20 none2.example", "30 none3.example"]
    zone = {"MX a.example": hosts[::-1] if turned else hosts, "A good.example": ["192.0.2.1"]}
    assert result("v=spf1 mx -all", **zone) == "pass"


def test_names_beyond_the_tenth_of_a_client_are_not_looked_at() -> None:
    """And names without an address do not count as void: a client must not be able to break a domain's record."""
    names = [f"h{n}.other.example" for n in range(MOST_NAMES)] + ["real.a.example"]
    zone = {"PTR 1.2.0.192.in-addr.arpa": names, "A real.a.example": ["192.0.2.1"]}
    found, asked = check("v=spf1 ptr -all", **zone)
    assert found.result == "fail"
    assert len(asked.asked) == 2 + MOST_NAMES
    first = zone | {"PTR 1.2.0.192.in-addr.arpa": names[::-1]}
    assert result("v=spf1 ptr -all", **first) == "pass"


def test_the_names_of_a_client_are_asked_for_once() -> None:
    zone = {
        "PTR 1.2.0.192.in-addr.arpa": ["h.a.example"],
        "A h.a.example": ["192.0.2.1"],
        "A h.a.example.x.example": [],
    }
    asked = check("v=spf1 exists:%{p}.x.example exists:%{p}.%{p}.x.example ptr:b.example ?all", **zone)[1].asked
    assert asked.count("PTR 1.2.0.192.in-addr.arpa") == 1


def test_a_longer_record_than_anybody_needs_is_not_read() -> None:
    terms = " ip4:192.0.2.1" * ((LONGEST_RECORD - 6) // 14)
    assert result("v=spf1" + terms) == "pass"
    assert result("v=spf1" + terms + " ip4:192.0.2.1") == "permerror"


def test_dns_trouble_below_is_temporary() -> None:
    zone = {"TXT b.example": None}
    assert result("v=spf1 include:b.example -all", **zone) == "temperror"
    assert result("v=spf1 a:b.example -all", **{"A b.example": None}) == "temperror"


def test_silence_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow DNS is, the client gets its answer (RFC 7208 §4.6.4)."""

    class Silent:
        async def query(self, name: str, rdtype: str) -> DnsAnswer:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr("relay.checks.spf.DEADLINE_SECONDS", 0.01)
    found = asyncio.run(SpfChecker(Silent()).check("192.0.2.1", "mx.a.example", "u@a.example"))
    assert found.result == "temperror"


def test_macros_of_explanations() -> None:
    """r and t come from the receiver's name and clock."""

    class Clock:
        def now(self) -> float:
            return 1_700_000_000.9

        def monotonic(self) -> float:
            return 0.0

    zone = Zone({"TXT a.example": ["v=spf1 -all exp=why.%{d}"], "TXT why.a.example": ["%{r} %{t} %{c} %{S}"]})
    checker = SpfChecker(zone, hostname="us.example", clock=Clock())
    found = asyncio.run(checker.check("192.0.2.1", "mx.a.example", "u+x@a.example"))
    assert found.explanation == "a.example explains: us.example 1700000000 192.0.2.1 u%2Bx%40a.example"


def test_an_explanation_does_not_grow_out_of_bounds() -> None:
    """A TXT record of 64 KB that repeats a macro is cut while it is expanded."""
    record = {"TXT a.example": ["v=spf1 -all exp=why.a.example"], "TXT why.a.example": ["%{s}" * 16_000]}
    sender = sender_of("192.0.2.1", "mx.a.example", "u" * 64 + "@a.example")
    assert isinstance(sender, Sender)
    evaluation = Evaluation(Zone(record), sender, "us.example", 0)

    async def counted() -> tuple[str, int]:
        verdict = await evaluation.check_host("a.example")
        values: list[str] = []
        original = evaluation._value

        async def value(letter: str, domain: str) -> str:
            values.append(letter)
            return await original(letter, domain)

        evaluation._value = value
        return await evaluation.explanation(verdict), len(values)

    text, expanded = asyncio.run(counted())
    assert len(text) == 2048
    assert expanded < 100


def test_checks_beyond_what_may_be_under_way_give_no_verdict_and_ask_nothing() -> None:
    """DNS that is slow for strangers leaves questions for the deliveries."""

    class Slow(Zone):
        async def query(self, name: str, rdtype: str) -> DnsAnswer:
            self.asked.append(name)
            await asked.wait()
            return NXDOMAIN

    async def scene() -> list[SpfResult]:
        checks = [checker.check("192.0.2.1", "h.example", "a@b.example") for _ in range(MOST_AT_ONCE + 1)]
        running = [asyncio.create_task(one) for one in checks]
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        asked.set()
        return [*await asyncio.gather(*running), await checker.check("192.0.2.1", "h.example", "a@b.example")]

    asked, zone = asyncio.Event(), Slow({})
    checker = SpfChecker(zone)
    results = [one.result for one in asyncio.run(scene())]
    assert results == ["none"] * MOST_AT_ONCE + ["temperror", "none"]
    assert len(zone.asked) == MOST_AT_ONCE + 1
