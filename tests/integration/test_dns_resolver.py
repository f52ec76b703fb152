"""The resolver against a real DNS server on loopback: good, missing, broken and lying answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import dns.flags
import dns.message
import dns.rdatatype
import pytest
import uvloop
from dns_server import DnsServer

from relay.dns.mx import MxResolver
from relay.dns.resolver import DnsResolver
from relay.mail.errors import DnsTemporaryError
from relay.mail.reply import Reply
from relay.ports import DnsAnswer, MxHost, SystemClock, system_random
from relay.settings import DnsSettings

Result = TypeVar("Result")

IMPATIENT = 0.6  # where no answer comes

LONG = "x" * 200
ZONE = f"""
host.example. IN A 192.0.2.1
host.example. IN A 192.0.2.2
host.example. IN AAAA 2001:db8::1
mail.example. 300 IN MX 10 MX1.Host.example.
mail.example. 300 IN MX 20 mx2.host.example.
mx1.host.example. IN A 192.0.2.10
mx1.host.example. IN AAAA 2001:db8::10
mx2.host.example. IN A 192.0.2.20
null.example. IN MX 0 .
text.example. IN TXT "v=spf1 " "-all \\233"
long.example. IN TXT "{LONG}" "{LONG}" "{LONG}" "{LONG}" "{LONG}" "{LONG}" "{LONG}" "{LONG}" "{LONG}" "{LONG}"
_25._tcp.host.example. IN TLSA 3 1 1 {"ab" * 32}
1.2.0.192.in-addr.arpa. IN PTR Host.Example.
strange.example. IN MX 10 two\\032words\\000.example.
alias.example. 30 IN CNAME second.example.
second.example. 600 IN CNAME host.example.
dangling.example. IN CNAME nowhere.example.
aliased-mail.example. IN CNAME mail.example.
truncated.example. IN A 192.0.2.3
always-truncated.example. IN A 192.0.2.3
tcp-silent.example. IN A 192.0.2.3
wrong-id.example. IN A 192.0.2.4
other-answer.example. IN A 192.0.2.5
other-question.example. IN A 192.0.2.5
half.example. IN MX 10 servfail.example.
half.example. IN MX 20 mx2.host.example.
dead.example. IN MX 10 servfail.example.
no-address.example. IN MX 10 nowhere.example.
only-mx.example. IN TXT "no address here"
"""
DAMAGED = {
    "A": "192.0.2.1",
    "MX": "10 mx1.host.example.",
    "TXT": '"v=spf1 -all" "more"',
    "TLSA": "3 1 1 " + "ab" * 32,
    "PTR": "host.example.",
}
ZONE += "".join(f"fuzz{t}{n}.example. IN {t} {data}\n" for t, data in DAMAGED.items() for n in range(60))


@pytest.fixture(scope="module")
def server() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as one:
        yield one


def resolver_of(server: DnsServer, **settings: Any) -> DnsResolver:
    return DnsResolver(DnsSettings(**{"nameservers": (server.address,), "timeout": 60} | settings), SystemClock())


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """On the loop the relay runs on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


def ask(server: DnsServer, name: str, rdtype: Any, **settings: Any) -> DnsAnswer:
    return run(resolver_of(server, **settings).query(name, rdtype))


def mx(server: DnsServer, domain: str) -> Any:
    return run(MxResolver(resolver_of(server), system_random()).hosts(domain))


@pytest.mark.parametrize(
    ("name", "rdtype", "records"),
    [
        ("host.example", "A", {"192.0.2.1", "192.0.2.2"}),
        ("HOST.Example.", "AAAA", {"2001:db8::1"}),
        ("mail.example", "MX", {"10 mx1.host.example", "20 mx2.host.example"}),
        ("null.example", "MX", {"0 "}),
        ("text.example", "TXT", {"v=spf1 -all \xe9"}),
        ("long.example", "TXT", {LONG * 10}),
        ("_25._tcp.host.example", "TLSA", {"3 1 1 " + "ab" * 32}),
        ("1.2.0.192.in-addr.arpa", "PTR", {"host.example"}),
        ("alias.example", "CNAME", {"second.example"}),
        ("alias.example", "A", {"192.0.2.1", "192.0.2.2"}),
        ("strange.example", "MX", {r"10 two\032words\000.example"}),
    ],
)
def test_records_are_told_as_the_port_says(server: DnsServer, name: str, rdtype: str, records: set[str]) -> None:
    """Lower case, no final dot, strings joined, bytes beyond ASCII as latin-1, odd bytes in names escaped."""
    answer = ask(server, name, rdtype)
    assert set(answer.records) == records
    assert answer.exists


@pytest.mark.parametrize(
    ("name", "exists", "ttl"),
    [
        ("nothing.example", False, 120.0),
        ("dangling.example", False, 120.0),
        ("only-mx.example", True, 120.0),
        ("no-soa.example", False, 5.0),
    ],
)
def test_nothing_there(server: DnsServer, name: str, exists: bool, ttl: float) -> None:
    """NXDOMAIN and NODATA are told apart, and kept for what the SOA says (or the minimum, without one)."""
    answer = ask(server, name, "A")
    assert (answer.records, answer.exists, answer.ttl) == ((), exists, ttl)


def test_the_ttl_of_a_chain_is_its_shortest(server: DnsServer) -> None:
    assert ask(server, "alias.example", "A").ttl == 30.0


def test_a_truncated_answer_is_asked_again_over_tcp(server: DnsServer) -> None:
    server.asked.clear()
    assert ask(server, "truncated.example", "A").records == ("192.0.2.3",)
    assert [transport for transport, _, _ in server.asked] == ["udp", "tcp"]


@pytest.mark.parametrize(
    "how", ["servfail", "refused", "formerr", "always-truncated", "loop", "other-question", "short", "tcp-silent"]
)
def test_no_answer_is_a_temporary_error(server: DnsServer, how: str) -> None:
    """Never a missing record: the mail waits. The text names the question."""
    with pytest.raises(DnsTemporaryError, match=rf"no answer for {how}\.example A"):
        ask(server, f"{how}.example", "A", timeout=IMPATIENT)


@pytest.mark.parametrize("how", ["silent", "garbage"])
def test_silence_ends_in_time(server: DnsServer, how: str) -> None:
    """A server that says nothing of use costs `timeout` and no more."""
    resolver = resolver_of(server, timeout=IMPATIENT)
    with pytest.raises(DnsTemporaryError):
        run(asyncio.wait_for(resolver.query(f"{how}.example", "A"), 60))


def test_a_lost_datagram_is_asked_again(server: DnsServer) -> None:
    """Within the timeout the question goes out more than once."""
    server.asked.clear()
    with pytest.raises(DnsTemporaryError):
        ask(server, "silent.example", "A", timeout=IMPATIENT)
    assert len(server.asked) >= 2


def test_a_forged_id_is_passed_over(server: DnsServer) -> None:
    """The wrong id is thrown away and the right answer, behind it, taken."""
    assert ask(server, "wrong-id.example", "A").records == ("192.0.2.4",)


def test_records_of_another_name_are_not_believed(server: DnsServer) -> None:
    """An answer section about elsewhere.example says nothing about the name that was asked."""
    assert ask(server, "other-answer.example", "A").records == ()


@pytest.mark.parametrize("rdtype", ["A", "MX", "TXT", "TLSA", "PTR"])
def test_damaged_answers_are_answers_or_temporary_errors(server: DnsServer, rdtype: Any) -> None:
    """Whatever octets come back, nothing else is raised and every record is a string."""

    async def many() -> list[DnsAnswer | BaseException]:
        resolver = resolver_of(server, timeout=5.0)
        questions = [resolver.query(f"fuzz{rdtype}{number}.example", rdtype) for number in range(60)]
        return await asyncio.gather(*questions, return_exceptions=True)

    for result in run(many()):
        if isinstance(result, DnsAnswer):
            assert all(isinstance(record, str) for record in result.records)
        else:
            assert isinstance(result, DnsTemporaryError)


def test_a_dead_name_server_costs_one_question_only(server: DnsServer) -> None:
    """The next one is asked in its place, and from then on first."""
    with socket.socket(type=socket.SOCK_DGRAM) as dead:
        dead.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{dead.getsockname()[1]}"

        async def two_questions() -> tuple[bytes, DnsAnswer]:
            resolver = resolver_of(server, nameservers=(address, server.address))
            await resolver.query("host.example", "A")
            asked_in_vain = dead.recv(512)
            return asked_in_vain, await resolver.query("host.example", "AAAA")

        asked_in_vain, answer = run(two_questions())
        assert answer.records == ("2001:db8::1",)
        assert dns.message.from_wire(asked_in_vain).question[0].rdtype == dns.rdatatype.A
        dead.setblocking(False)
        with pytest.raises(BlockingIOError):
            dead.recv(512)


def test_the_ad_flag_counts_only_where_trusted() -> None:
    """`trust_ad` off: never secure. On: as the resolver says, and the question asks for it."""
    with DnsServer(ZONE, ad=True) as validating:
        assert ask(validating, "host.example", "A").secure is False
        assert validating.request is not None
        assert not validating.request.flags & dns.flags.AD
        assert ask(validating, "host.example", "A", trust_ad=True).secure is True
        assert ask(validating, "nothing.example", "A", trust_ad=True).secure is True
        assert validating.request.flags & dns.flags.AD
    with DnsServer(ZONE) as plain:
        assert ask(plain, "host.example", "A", trust_ad=True).secure is False


def test_mx_hosts_with_their_addresses(server: DnsServer) -> None:
    assert list(mx(server, "mail.example")) == [
        MxHost("mx1.host.example", 10, ("192.0.2.10", "2001:db8::10")),
        MxHost("mx2.host.example", 20, ("192.0.2.20",)),
    ]


def test_a_domain_that_is_an_alias(server: DnsServer) -> None:
    assert [host.name for host in mx(server, "aliased-mail.example")] == ["mx1.host.example", "mx2.host.example"]


def test_a_domain_without_mx_is_its_own_host(server: DnsServer) -> None:
    (host,) = mx(server, "alias.example")
    assert (host.name, set(host.addresses)) == ("alias.example", {"192.0.2.1", "192.0.2.2", "2001:db8::1"})


@pytest.mark.parametrize(
    ("domain", "start"),
    [("null.example", "556 5.1.10"), ("nothing.example", "550 5.1.2"), ("only-mx.example", "550 5.1.2")],
)
def test_domains_that_take_no_mail(server: DnsServer, domain: str, start: str) -> None:
    reply = mx(server, domain)
    assert isinstance(reply, Reply)
    assert str(reply).startswith(start)


def test_one_dead_host_hides_no_other(server: DnsServer) -> None:
    assert [host.name for host in mx(server, "half.example")] == ["mx2.host.example"]


@pytest.mark.parametrize("domain", ["dead.example", "servfail.example"])
def test_all_dead_is_temporary(server: DnsServer, domain: str) -> None:
    with pytest.raises(DnsTemporaryError):
        mx(server, domain)


def test_mx_hosts_without_addresses_are_told(server: DnsServer) -> None:
    assert list(mx(server, "no-address.example")) == [MxHost("nowhere.example", 10, ())]
