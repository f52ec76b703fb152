"""Direct delivery: which hosts are tried in which order, what DNS decides alone, and who is never dialled."""

from __future__ import annotations

import asyncio
import socket

import pytest
from smtp_peer import Peer
from smtp_setting import CONTENT, Hosts, delivery, letters, mx_to, request, send

from relay.mail.errors import DnsTemporaryError
from relay.mail.outcome import Deferred, Failed, Fault
from relay.mail.reply import Reply, reply
from relay.ports import DeliveryReport, MxHost, SystemClock
from relay.transports.mx import MxTransport

DEAD, ALIVE, THIRD = "127.0.0.2", "127.0.0.1", "127.0.0.3"
ANN = "ann@mx.example"


class Says:
    """Stands for DNS: an answer that is no list of hosts, or the error."""

    def __init__(self, answer: Reply | Exception) -> None:
        self._answer = answer

    async def hosts(self, domain: str) -> Reply:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


def beside(first: Peer) -> Peer:
    """A peer on the same port of another loopback address, so that one `mx_port` reaches both."""
    return Peer(listener=socket.create_server((THIRD, first.port)))


def transport(lookup: object, clock: object = None, **settings) -> MxTransport:
    return MxTransport(delivery(**settings), lookup, "client.example", clock or SystemClock())


def outcome_of(report: DeliveryReport):
    return report.outcomes[ANN]


# --- order of hosts ----------------------------------------------------------------------------------------


def test_next_host_is_tried_when_one_cannot_be_reached() -> None:
    """A refused connection to the first MX costs nothing: the second takes the mail, and is named in the report."""
    with Peer() as peer:
        hosts = (MxHost("mx1.example", 10, (DEAD,)), MxHost("mx2.example", 20, (ALIVE,)))
        report = send(mx_to(peer.port, *hosts))

        assert letters(report) == "D"
    assert report.host == f"mx2.example[{ALIVE}]:{peer.port}"


@pytest.mark.parametrize("greeting", [b"421 4.3.2 Busy\r\n", b"554 5.7.1 Go away\r\n"])
def test_next_address_is_tried_when_one_greets_with_a_refusal(greeting: bytes) -> None:
    """4xx and 5xx greetings speak for one host (RFC 5321 §5.1 goes on to the next)."""
    with Peer({"banner": greeting}) as first, beside(first) as second:
        report = send(mx_to(first.port, MxHost("mx.example", 10, (ALIVE, THIRD))))

        assert letters(report) == "D"
    assert (len(first.messages), len(second.messages)) == (0, 1)


@pytest.mark.parametrize(("stage", "wanted"), [("mail", "d"), ("rcpt", "d"), ("data", "d"), ("dot", "d")])
def test_what_a_session_said_is_final_for_the_attempt(stage: str, wanted: str) -> None:
    """A host that opened a session has spoken: the next host is not asked for another opinion."""
    with Peer({stage: "4xx"}, victim=b"ann") as first, beside(first) as second:
        report = send(mx_to(first.port, MxHost("mx.example", 10, (ALIVE, THIRD))))

        assert letters(report) == wanted
    assert second.sessions == []


def test_five_addresses_are_tried_and_no_more() -> None:
    """A domain with many dead addresses does not hold the attempt for ever."""
    with Peer() as peer:
        dead = tuple(f"127.0.1.{n}" for n in range(5))
        report = send(mx_to(peer.port, MxHost("mx.example", 10, (*dead, ALIVE))))

        assert letters(report) == "h"
    assert peer.sessions == []


def test_address_that_refused_is_avoided_for_a_minute() -> None:
    """The next message goes to the living host first; after a minute the preferred one has its chance again."""
    clock = Hands()
    with Peer({"banner": "4xx"}) as first, beside(first) as second:
        hosts = Hosts(MxHost("mx1.example", 10, (ALIVE,)), MxHost("mx2.example", 20, (THIRD,)))
        way = transport(hosts, clock, mx_port=first.port, messages_per_connection=1)

        async def three_messages() -> None:
            await way.deliver(request(), CONTENT)
            assert len(first.sessions) == 1
            await way.deliver(request(), CONTENT)
            assert len(first.sessions) == 1
            clock.seconds += 61
            await way.deliver(request(), CONTENT)
            assert len(first.sessions) == 2
            await way.close()

        asyncio.run(three_messages())
    assert len(second.messages) == 3


def test_every_host_that_takes_no_mail_ends_it() -> None:
    """521 from all hosts is permanent (RFC 7504); one other refusal among them is not."""
    with Peer({"banner": b"521 5.3.2 No mail here\r\n"}) as first, beside(first) as second:
        hosts = MxHost("mx.example", 10, (ALIVE, THIRD))
        second.faults = {"banner": b"521 No\r\n"}
        assert letters(send(mx_to(first.port, hosts))) == "F"
        second.faults = {"banner": b"554 No\r\n"}
        assert letters(send(mx_to(first.port, hosts))) == "h"


# --- DNS decides -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (reply(556, "5.1.10", "Domain takes no mail"), Failed, "556 5.1.10"),
        (reply(550, "5.1.2", "Domain does not exist"), Failed, "550 5.1.2"),
        (reply(451, "4.4.3", "Later"), Deferred, "451 4.4.3"),
        (DnsTemporaryError("SERVFAIL"), Deferred, "451 4.4.3"),
    ],
    ids=["null MX", "NXDOMAIN", "temporary", "no answer"],
)
def test_what_dns_says_without_a_host(answer, kind, code: str) -> None:
    """Null MX (RFC 7505) and NXDOMAIN are final, trouble with DNS is the host's and passes; nobody is connected to."""
    found = outcome_of(send(transport(Says(answer))))

    assert isinstance(found, kind)
    assert str(found.reply).startswith(code)
    assert getattr(found, "fault", Fault.HOST) is Fault.HOST
    assert not getattr(found, "elsewhere", False)


def test_hosts_without_addresses_defer() -> None:
    """An MX whose name has no address may be a passing fault of its zone."""
    found = outcome_of(send(mx_to(25, MxHost("mx.example", 10, ()))))

    assert isinstance(found, Deferred)
    assert str(found.reply).startswith("451 4.4.4")


def test_destination_that_is_no_domain_fails() -> None:
    """What IDNA refuses cannot be asked for."""
    found = send(mx_to(25), request("ann@" + "ü" * 70 + ".example"))

    assert letters(found) == "F"


# --- who is not dialled ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1",
     "64:ff9b::7f00:1", "2002:7f00:1::1", "::127.0.0.1", "fec0::1", "224.0.0.1", "0.0.0.0", "no-address"],
)  # fmt: skip
def test_private_address_is_never_dialled(address: str) -> None:
    """An MX that points into the relay's own network gets no connection, however the address is wrapped."""
    with Peer() as peer:
        report = send(mx_to(peer.port, MxHost("mx.example", 10, (address,)), allow_private_mx=False))

        assert str(outcome_of(report).reply).startswith("550 5.4.4")
    assert peer.sessions == []


def test_public_address_beside_a_private_one_is_still_used() -> None:
    """One bad record does not cost the domain its mail."""
    way = transport(Hosts(), allow_private_mx=False)
    hosts = (MxHost("mx.example", 10, ("10.0.0.1", "192.0.32.7")), MxHost("mx2.example", 20, ("2620:0:2d0::7",)))

    assert [endpoint.address for endpoint in way._dialable(hosts)] == ["192.0.32.7", "2620:0:2d0::7"]


def test_ipv6_can_be_switched_off() -> None:
    """`ipv6 = false` leaves AAAA addresses out, and so does an IPv4 source address."""
    hosts = (MxHost("mx.example", 10, ("2620:0:2d0::7", "192.0.32.7")),)

    for settings in ({"ipv6": False}, {"source_address": "127.0.0.1"}):
        endpoints = transport(Hosts(), **settings)._dialable(hosts)
        assert [endpoint.address for endpoint in endpoints] == ["192.0.32.7"]


def test_mail_goes_over_ipv6() -> None:
    """An AAAA address is dialled like any other."""
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with Peer(listener=listener) as peer:
        report = send(mx_to(peer.port, MxHost("mx.example", 10, ("::1",))))

        assert letters(report) == "D"
    assert report.host == f"mx.example[::1]:{peer.port}"


# --- mx_override -------------------------------------------------------------------------------------------


def test_override_takes_every_domain() -> None:
    """`mx_override` asks no DNS and is no private address to refuse."""
    with Peer() as peer:
        settings = {"mx_override": f"127.0.0.1:{peer.port}", "allow_private_mx": False}
        report = send(transport(Says(DnsTemporaryError("not to be asked")), **settings))

        assert letters(report) == "D"


# --- sites -------------------------------------------------------------------------------------------------


def site(lookup: object, domain: str = "mx.example", **settings) -> str:
    return asyncio.run(transport(lookup, **settings).site(domain))


def test_the_site_of_a_domain_is_that_of_its_best_hosts() -> None:
    hosts = Hosts(MxHost("in.hoster.example", 10, (ALIVE,)), MxHost("backup.example", 20, (ALIVE,)))

    assert site(hosts) == "mx:in.hoster.example"
    assert site(hosts, share_hosts=False) == ""
    assert site(hosts, mx_override="127.0.0.1:25") == ""


@pytest.mark.parametrize("answer", [DnsTemporaryError("no answer"), reply(556, "5.1.10", "Null MX")])
def test_where_dns_names_no_hosts_there_is_no_site(answer: Reply | Exception) -> None:
    assert site(Says(answer)) == ""
    assert site(Says(answer), "\u2024.example") == ""
