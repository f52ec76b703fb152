"""Attacks by names: what DNS says, and addresses that lead inwards; by their number in SECURITY.md."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from attacks import at_door, says
from dns_server import DnsServer
from smtp_peer import Peer
from smtp_setting import letters, mx_to, request, send

from relay.checks.spf import MOST_AT_ONCE, SpfChecker
from relay.dns.mx import MxResolver
from relay.dns.resolver import DnsResolver
from relay.mail.errors import DnsTemporaryError, SettingsError
from relay.ports import DnsAnswer, MxHost, SystemClock, system_random
from relay.settings import DnsSettings
from relay.transports.fetch import GuardedFetcher
from relay.transports.guard import AddressGuard
from relay.transports.http_settings import checked_host
from relay.transports.providers.base import CallbackError
from relay.transports.providers.sns import certificate_url, confirmation_url

# --- 2.9 SPF that asks without an end ----------------------------------------------------------------------


class Wide:
    """A zone in which every record leads to ten others."""

    def __init__(self, txt: str) -> None:
        self.txt = txt
        self.asked = 0

    async def query(self, name: str, rdtype: str) -> DnsAnswer:
        self.asked += 1
        if rdtype == "TXT":
            return DnsAnswer((self.txt.replace("NAME", name),))
        if rdtype == "MX":
            return DnsAnswer(tuple(f"10 m{number}.{name}" for number in range(10)))
        if rdtype == "PTR":
            return DnsAnswer(tuple(f"p{number}.evil.example" for number in range(500)))
        return DnsAnswer(("198.51.100.9",))


@pytest.mark.parametrize(
    "record",
    [
        "v=spf1 " + " ".join(f"include:i{number}.NAME" for number in range(10)) + " -all",
        "v=spf1 " + " ".join(f"mx:m{number}.NAME" for number in range(11)) + " -all",
        "v=spf1 mx:%{p}.a.example include:x.NAME",
        "v=spf1 ptr mx:%{p}.b.example redirect=NAME",
    ],
)
def test_2_9_a_sender_costs_ten_terms_and_a_hundred_and_some_questions_at_most(record: str) -> None:
    zone = Wide(record)
    result = asyncio.run(SpfChecker(zone).check("192.0.2.1", "h.example", "a@evil.example"))
    assert result.result == "permerror"
    assert zone.asked <= 1 + 10 * 11 + 11


def test_2_9_words_of_a_zone_are_one_printable_line_of_the_reply(tmp_path: Path) -> None:
    class Zone:
        async def query(self, name: str, rdtype: str) -> DnsAnswer:
            if name == "why.b.example":
                return DnsAnswer(("550 no\x1b[2J %{s} " + "x" * 2000,))
            return DnsAnswer(("v=spf1 exp=why.b.example -all",))

    said: list[bytes] = []
    words = b'EHLO c.example\r\nMAIL FROM:<"a\\\x1b[31m"@b.example>\r\nMAIL FROM:<"a %{l}"@b.example>\r\nQUIT\r\n'
    at_door(tmp_path, says(words, said), spf=SpfChecker(Zone()))
    assert said[-2].startswith(b"550 5.7.23 SPF validation failed: ")
    assert all(line.isascii() and line.decode().isprintable() and len(line) <= 512 for line in said[-3:])


def test_2_9_checks_that_hang_leave_questions_for_deliveries() -> None:
    """A thousand strangers whose name servers are silent; mail that goes out asks all the same."""

    class Silent:
        async def ask(self, name: str, rdtype: str) -> DnsAnswer:
            if name.endswith("evil.example"):
                await asyncio.Event().wait()
            return DnsAnswer(("10 mx.good.example",))

    async def scene() -> DnsAnswer:
        resolver = DnsResolver(DnsSettings(), SystemClock(), upstream=Silent())
        checker = SpfChecker(resolver)
        strangers = [
            asyncio.create_task(checker.check("192.0.2.1", "h.example", f"a@n{number}.evil.example"))
            for number in range(1100)
        ]
        async with asyncio.timeout(60):
            while sum(one.done() for one in strangers) < len(strangers) - MOST_AT_ONCE:
                await asyncio.sleep(0.01)
        done, pending = await asyncio.wait(strangers, timeout=0.2)
        assert ({one.result().result for one in done}, len(pending)) == ({"temperror"}, MOST_AT_ONCE)
        answer = await resolver.query("good.example", "MX")
        for one in (*pending, *resolver._asked.values()):
            one.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return answer

    assert asyncio.run(scene()).records == ("10 mx.good.example",)


# --- 2.10 DNS ----------------------------------------------------------------------------------------------


def test_2_10_noise_before_the_answer_is_passed_over() -> None:
    """CVE-2023-29483: garbage, a forged id and another question first, from who guesses the port; then the answer."""
    with DnsServer("noise.example. IN A 192.0.2.7\n") as server:
        settings = DnsSettings(nameservers=(server.address,), timeout=2)
        answer = asyncio.run(DnsResolver(settings, SystemClock()).query("noise.example", "A"))
        assert answer.records == ("192.0.2.7",)
        assert len(server.asked) == 1


def test_2_10_what_a_resolver_says_of_dnssec_is_believed_on_demand_alone() -> None:
    with DnsServer("host.example. IN A 192.0.2.7\n", ad=True) as server:
        for trusted in (False, True):
            settings = DnsSettings(nameservers=(server.address,), timeout=2, trust_ad=trusted)
            answer = asyncio.run(DnsResolver(settings, SystemClock()).query("host.example", "A"))
            assert answer.secure is trusted


def test_2_10_a_domain_of_many_hosts_costs_few_connections() -> None:
    """Fifty hosts of fifty addresses each: few are kept, and five tried."""

    class Many:
        def __init__(self) -> None:
            self.asked = 0

        async def query(self, name: str, rdtype: str) -> DnsAnswer:
            self.asked += 1
            if rdtype == "MX":
                return DnsAnswer(tuple(f"{number} mx{number}.example" for number in range(50)))
            return DnsAnswer(tuple(f"127.0.{self.asked}.{number}" for number in range(1, 51)) if rdtype == "A" else ())

    zone = Many()
    hosts = asyncio.run(MxResolver(zone, system_random()).hosts("many.example"))
    assert isinstance(hosts, Sequence)
    assert (zone.asked, sum(len(host.addresses) for host in hosts)) == (1 + 2 * 16, 16 * 8)
    with Peer({"banner": b"421 4.3.2 No\r\n"}, listener=socket.create_server(("0.0.0.0", 0))) as peer:
        assert letters(send(mx_to(peer.port, *hosts))) == "h"
        assert len(peer.sessions) == 5


# --- 2.16 addresses that lead inwards ----------------------------------------------------------------------

INWARD = [
    "127.0.0.1", "127.0.0.2", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:0:7f00:1", "::127.0.0.1", "fe80::1",
    "fc00::1", "fec0::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::1", "2001:db8::1",
    "1::1", "4000::1",
]  # fmt: skip


@pytest.mark.parametrize("address", INWARD)
def test_2_16_no_mx_leads_inwards(address: str) -> None:
    """Also beside one that does not, and written as the domain of a recipient."""
    with Peer() as peer:
        report = send(mx_to(peer.port, MxHost("mx.example", 10, (address,)), allow_private_mx=False))
        [outcome] = report.outcomes.values()
        assert str(outcome.reply).startswith("550 5.4.4")
        literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
        host = asyncio.run(MxResolver(_Nothing(), system_random()).hosts(literal.lower()))
        assert isinstance(host, tuple)
        way = mx_to(peer.port, *host, allow_private_mx=False)
        assert letters(send(way, request(f"a@{literal}"))) == "F"
    assert peer.sessions == []


class _Nothing:
    async def query(self, name: str, rdtype: str) -> DnsAnswer:
        raise DnsTemporaryError("nothing is asked")


URL_HOSTS = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "[::1]", "0.0.0.0",
    "[::ffff:7f00:1]", "[::ffff:0:7f00:1]", "[64:ff9b::7f00:1]", "[fe80::1]", "169.254.169.254", "100.64.0.1",
    "localhost", "LOCALHOST.", "a.localhost", "127。0。0。1", "１２７.0.0.1", "①②⑦.0.0.1", "private.example",
    "mixed.example", "turning.example", "user@127.0.0.1", "127.0.0.1.", "metadata.google.internal",
]  # fmt: skip


class Turning:
    """`turning` answers another address each time; what is not here does not exist."""

    def __init__(self) -> None:
        self.turns = 0

    async def query(self, name: str, rdtype: str) -> DnsAnswer:
        if rdtype != "A":
            return DnsAnswer(())
        self.turns += name == "turning.example"
        turned = "127.0.0.1" if self.turns % 2 else "192.0.2.1"
        known = {"private.example": ("10.0.0.1",), "mixed.example": ("1.1.1.1", "127.0.0.1"),
                 "turning.example": (turned,)}  # fmt: skip
        return DnsAnswer(known.get(name, ()), ttl=0.0)


@pytest.mark.parametrize("host", URL_HOSTS)
def test_2_16_no_url_leads_inwards(host: str) -> None:
    """However the address is written, and whatever a name turns into between the check and the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        fetcher = GuardedFetcher("x", None, Turning(), allow_private=False)
        for _ in range(2):
            with pytest.raises((OSError, ValueError)):
                asyncio.run(asyncio.wait_for(fetcher.get(f"https://{host}:{server.getsockname()[1]}/"), 60))
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    "url",
    ["http://api.example/", "file:///etc/passwd", "gopher://api.example/", "https://", "https://u:p@api.example/",
     "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:0:7f00:1]/", "https://api.example/?a=b",
     "https://api.example/#x", "//api.example/", "https://[fe80::1%25lo]/"],
)  # fmt: skip
def test_2_16_an_address_of_the_configuration_is_https_and_public(url: str) -> None:
    with pytest.raises(SettingsError):
        checked_host("provider.x.base_url", url, False, AddressGuard())


@pytest.mark.parametrize(
    "url",
    ["http://sns.eu-west-1.amazonaws.com/a.pem", "https://sns.eu-west-1.amazonaws.com.evil.example/a.pem",
     "https://evil.example/https://sns.eu-west-1.amazonaws.com/a.pem", "https://sns.eu@evil.example/a.pem",
     "https://sns.eu-west-1.amazonaws.com:8080/a.pem", "https://sns.eu-west-1.amazonaws.com/../a.pem",
     "https://sns.a.b.amazonaws.com/a.pem", "https://sns.eu-west-1.amazonaws.com/a.pem\n", "https://127.0.0.1/a.pem",
     "https://s3.amazonaws.com/a.pem", "https://sns.EU.amazonaws.com/a.pem?x"],
)  # fmt: skip
def test_2_16_no_callback_makes_us_ask_a_host_of_its_choice(url: str) -> None:
    message = {"TopicArn": "arn:t", "SigningCertURL": url, "SubscribeURL": url, "Type": "SubscriptionConfirmation"}
    with pytest.raises(CallbackError):
        certificate_url(message, {"arn:t"})
    with pytest.raises(CallbackError):
        confirmation_url(message)


def test_2_16_a_redirect_is_not_followed(tmp_path: Path) -> None:
    from test_fetch import fetch

    with contextlib.suppress(OSError):
        _, seen = fetch(
            tmp_path, b"HTTP/1.1 302 Found\r\nLocation: https://login.example/2\r\nContent-Length: 0\r\n\r\n"
        )
        raise AssertionError(f"followed: {seen}")
