"""What next hops and name servers answer: every octet of a hostile server, whatever it says to whatever we say.

The client, its pool and its outcomes are real; the socket is a transport that answers from the input.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Iterator
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
from harness import Octets, Readers, in_loop

from relay.dns.mx import MxResolver
from relay.dns.resolver import DnsResolver
from relay.dns.upstream import Upstream
from relay.mail.envelope import Envelope, Recipient
from relay.mail.errors import DnsTemporaryError
from relay.mail.outcome import Deferred, Failed, InDoubt
from relay.mail.reply import Reply
from relay.policy.hints import retry_after
from relay.ports import DeliveryRequest, DnsAnswer, SystemClock
from relay.settings import DnsSettings, TimeoutSettings
from relay.transports.pool import Pool
from relay.transports.smtp_client import Endpoint, SmtpConnection, Sweeper
from relay.transports.smtp_commands import Capabilities
from relay.transports.smtp_reply import REPLY_OCTETS, ReplyParser
from relay.transports.smtp_sender import SmtpSender
from relay.transports.smtp_session import Credentials, Dialer

_TIMEOUTS = TimeoutSettings()
_CONTENT = b"Subject: x\r\n\r\n.dot\r\nhello\r\n"
_LINES = (
    b"250 2.1.0 Ok\r\n", b"354 go\r\n", b"220 mx ESMTP\r\n", b"250-mx\r\n250-PIPELINING\r\n250-SIZE 99\r\n250 DSN\r\n",
    b"250-mx\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250-AUTH PLAIN LOGIN XOAUTH2\r\n250 STARTTLS\r\n",
    b"421 4.3.2 bye\r\n",
    b"450 4.2.1 later\r\n", b"451 4.7.1 try again in 5 minutes\r\n", b"452 4.5.3 too many\r\n", b"550 5.1.1 no\r\n",
    b"552 5.3.4 big\r\n", b"334 \r\n", b"334 eyJzdGF0dXMiOiI0MDEifQ==\r\n", b"235 2.7.0 in\r\n", b"535 5.7.8 no\r\n",
    b"250-mx\r\n250-LIMITS MAILMAX=1 RCPTMAX=1 RCPTDOMAINMAX=1\r\n250-SMTPUTF8\r\n250-8BITMIME\r\n250 PIPELINING\r\n",
    b"250-x\r\n", b"221 bye\r\n", b"999 what\r\n", b"\r\n", b"2", b"250", b"250\r\n", b"250 ok\n",
    b"554 5.7.1 \xff\xfe\0\r\n",
    b"250 " + b"x" * 5000 + b"\r\n",
    b"250-mx\r\n250-REQUIRETLS\r\n250-MT-PRIORITY\r\n250-DELIVERBY 60\r\n250 PIPELINING\r\n",
    b"521 no mail\r\n", b"250 5.1.1 lying\r\n", b"550 2.1.5 lying\r\n",
)  # fmt: skip

_OFFERS = tuple(line for line in _LINES if line.startswith(b"250-mx"))
_ANSWERS = {
    b"HELO": b"250 mx\r\n", b"MAIL": b"250 2.1.0 Ok\r\n", b"RCPT": b"250 2.1.5 Ok\r\n", b"RSET": b"250 2.0.0 Ok\r\n",
    b"DATA": b"354 go\r\n", b"AUTH": b"235 2.7.0 in\r\n", b"STAR": b"220 go\r\n", b"QUIT": b"221 bye\r\n",
}  # fmt: skip
_PROPER = 7


class _Server:
    """A transport whose other end answers each write from the input, and may hang up."""

    def __init__(self, chosen: Octets, protocol: SmtpConnection) -> None:
        self._chosen = chosen
        self._protocol = protocol
        self._closing = False
        self._answers = self._writes = 0
        self._last = b""
        protocol.connection_made(self)  # type: ignore[arg-type]
        self.answer()

    def answer(self) -> None:
        asyncio.get_running_loop().call_soon(self._answer)

    def _answer(self) -> None:
        if self._closing:
            return
        chosen = self._chosen
        self._answers += 1
        if not chosen or self._answers > 60:
            self._lose()
            return
        lines = chosen.number(8)
        if lines == _PROPER:
            self._protocol.data_received(self._proper())
            lines = 0
        for _ in range(lines):
            how = chosen.number()
            said = chosen.take(how & 63) if how & 0x80 else _LINES[how % len(_LINES)]
            if said and not self._closing:
                self._protocol.data_received(said)
        if chosen.number(16) == 15:
            self._lose()
        asyncio.get_running_loop().call_soon(self._time_out, self._writes, 3)

    def _time_out(self, writes: int, turns: int) -> None:
        """Who waits for more than has been said, waits until the sweeper comes."""
        if self._closing or writes != self._writes or self._protocol._waiter is None:
            return
        if turns:
            asyncio.get_running_loop().call_soon(self._time_out, writes, turns - 1)
        else:
            self._protocol.expire()

    def _proper(self) -> bytes:
        """What a server says to the last write that means no harm."""
        if not self._writes:
            return b"220 mx.example ESMTP\r\n"
        if self._last.endswith(b".\r\n"):
            return b"250 2.0.0 queued\r\n"
        said = b""
        for line in self._last.split(b"\r\n"):
            verb = line[:4].upper()
            said += self._chosen.one(_OFFERS) if verb == b"EHLO" else _ANSWERS.get(verb, b"")
        return said or b"250 2.0.0 Ok\r\n"

    def _lose(self) -> None:
        if not self._closing:
            self._closing = True
            self._protocol.connection_lost(None)

    # --- asyncio.Transport ---------------------------------------------------------------------------------

    def write(self, octets: bytes) -> None:
        self._writes += 1
        self._last = bytes(octets)
        if not self._closing:
            self.answer()

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> Any:
        return None

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close


class _Loop:
    """The running loop, but that a handshake is what the input says of it."""

    def __init__(self, chosen: Octets) -> None:
        self._chosen = chosen
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def start_tls(self, transport: _Server, *more: Any, **yet_more: Any) -> _Server:
        error = self._chosen.one(
            (None, None, None, ssl.SSLError(1, "no"), ssl.SSLCertVerificationError(1, "no"), ValueError("name"))
        )
        if error is not None:
            raise error
        return transport


class _Dialer(Dialer):
    """Connects to what the input says."""

    chosen = Octets(b"")
    dialled = 0

    async def _connect(self, endpoint: Endpoint) -> SmtpConnection:
        loop: Any = _Loop(self.chosen)
        connection = SmtpConnection(endpoint, _TIMEOUTS, self.sweeper, loop)
        self.dialled += 1
        _Server(self.chosen, connection)
        return connection


class _Tokens:
    async def token(self) -> str | Deferred:
        return "token"

    def refuse(self, word: str) -> None: ...


_CREDENTIALS = (None, Credentials("user", "password"), Credentials("us,=er", tokens=_Tokens()))
_ENDPOINTS = (Endpoint("192.0.2.1", 25, "mx.example", "off"), Endpoint("192.0.2.2", 25, "mx2.example", "opportunistic"))
_CONTEXT = ssl.create_default_context()


def _delivery(octets: bytes) -> None:
    """Messages to a hostile server: an outcome for every recipient, no exception, and no connection that stays."""
    in_loop(asyncio.wait_for(_deliver(octets), 30))


async def _deliver(octets: bytes) -> None:
    chosen = Octets(octets)
    sweeper = Sweeper(1.0)
    final_hop = bool(chosen.number(2))
    dialer = _Dialer("us.example", _TIMEOUTS, _CONTEXT, sweeper, credentials=chosen.one(_CREDENTIALS))
    how = chosen.number()
    dialer.chosen = chosen
    pool = Pool(sweeper, messages=3, idle=60.0)
    sender = SmtpSender(dialer, pool, final_hop=final_hop, recipients=2 + how % 3)
    addresses = ("a@one.example", "b@two.example", "c@one.example", "ä@one.example", "d@bücher.example")[: 1 + how % 5]
    recipients = tuple(Recipient(address) for address in addresses)
    envelope = Envelope(
        "s@us.example",
        recipients,
        smtputf8=bool(how & 8),
        binary=bool(how & 16),
        requiretls=bool(how & 32),
        priority=3 if how & 64 else None,
        envid="x",
    )
    request = DeliveryRequest(
        "id-1", "acme", "s@us.example", recipients, "one.example", envelope, text=_CONTENT if how & 128 else None
    )
    for _ in range(2):
        report, _ = await sender.send(_ENDPOINTS, request, _CONTENT)
        assert set(report.outcomes) == set(addresses)
        for outcome in report.outcomes.values():
            assert isinstance(outcome.reply, Reply)
            if isinstance(outcome, Deferred | InDoubt):
                assert not outcome.reply.positive
            elif isinstance(outcome, Failed):
                assert outcome.reply.permanent
            else:
                assert outcome.reply.positive
    assert dialer.dialled <= 40, "it dials for ever"
    await pool.close()
    await asyncio.sleep(0)
    assert not sweeper.watched, "a connection is left"


def _replies(octets: bytes) -> None:
    """Replies are the same in whatever pieces they come; nothing grows; each can be told."""
    step = 1 + octets[0] % 31 if octets else 1
    found = []
    for size in (len(octets) + 1, step):
        parser, said = ReplyParser(), []
        for at in range(1, len(octets), size):
            said += parser.feed(octets[at : at + size])
            if parser.error:
                break
        found.append((said, bool(parser.error)))
    assert found[0] == found[1]
    for one in found[0][0]:
        answer = one.to_reply()
        assert len(answer.wire) < 1000
        assert sum(map(len, one.lines)) <= REPLY_OCTETS
        seconds = retry_after(answer.text)
        assert seconds is None or 0 <= seconds < 1e6
        offer = Capabilities.parse(one)
        assert offer.size is None or offer.size >= 0
        assert 0 <= offer.mails < 1_000_000


# --- DNS ---------------------------------------------------------------------------------------------------

_TYPES = ("A", "AAAA", "MX", "TXT", "PTR", "CNAME", "NS", "TLSA")
_NAMES = (
    "a.example",
    "",
    ".",
    "x" * 64 + ".example",
    "ü.example",
    "a..b",
    "\0.example",
    "_25._tcp.mx.example",
    "192.0.2.1",
)


class _Resolver:
    """dnspython's, but for the network: the message is the input."""

    def __init__(self) -> None:
        self.wire = b""
        self.nameservers = Upstream(DnsSettings(nameservers=("192.0.2.1",)), SystemClock())._resolver.nameservers  # type: ignore[union-attr]

    async def resolve(self, name: dns.name.Name, rdtype: str, **more: Any) -> dns.resolver.Answer:
        kind = dns.rdatatype.from_text(rdtype)
        query = dns.message.make_query(name, kind)
        # As a server that is asked would: its own id, and the question.
        wire = query.to_wire()[:2] + self.wire
        response = dns.message.from_wire(wire)
        if not query.is_response(response):
            raise dns.resolver.NoNameservers(request=query, errors=[("192.0.2.1", False, 53, "no answer", response)])
        resolution = dns.resolver._Resolution(_PLAIN, name, kind, dns.rdataclass.IN, False, False, False)
        resolution.next_request()
        resolution.nameserver = resolution.nameservers[0]
        answer, done = resolution.query_result(response, None)
        if not done or answer is None:
            raise dns.resolver.NoNameservers(request=query, errors=[("192.0.2.1", False, 53, "SERVFAIL", response)])
        return answer


_PLAIN = dns.asyncresolver.Resolver(configure=False)
_PLAIN.nameservers = ["192.0.2.1"]
_PLAIN.cache = None
_FAKE = _Resolver()
_UPSTREAM = Upstream(DnsSettings(nameservers=("192.0.2.1",)), SystemClock())
_UPSTREAM._resolver = _FAKE  # type: ignore[assignment]


def _answers(octets: bytes) -> None:
    """A DNS message of any octets: an answer, or a temporary error in one line."""
    chosen = Octets(octets)
    name, kind = chosen.one(_NAMES), chosen.one(_TYPES)
    if chosen.number(2):
        _FAKE.wire = chosen.rest()
    else:
        query = dns.message.make_query("a.example", kind)
        _FAKE.wire = chosen.take(2).ljust(2, b"\x80") + query.to_wire()[4:6] + chosen.take(6).ljust(6, b"\0")
        _FAKE.wire += query.question[0].name.to_wire() + query.to_wire()[-4:] + chosen.rest()  # type: ignore[operator]
    try:
        answer = in_loop(_UPSTREAM.ask(name, kind))  # type: ignore[arg-type]
    except DnsTemporaryError as error:
        assert "\n" not in str(error)
        return
    assert answer.ttl >= 0
    assert all(isinstance(record, str) for record in answer.records)


class _Asked:
    """An upstream that gives the records of the input, whatever is asked."""

    def __init__(self, chosen: Octets) -> None:
        self._chosen = chosen

    async def ask(self, name: str, rdtype: str) -> Any:
        chosen = self._chosen
        how = chosen.number(8)
        if how == 7:
            raise DnsTemporaryError("SERVFAIL")
        pool = {
            "MX": (
                "0 ",
                "10 a.example",
                "65535 " + "x" * 300,
                "5 192.0.2.1",
                "5 a..b",
                "5 \0",
                "10 mx.a.example",
                "1 localhost",
            ),
            "A": ("192.0.2.1", "127.0.0.1", "0.0.0.0", "10.0.0.1", "255.255.255.255"),
            "AAAA": ("::1", "2001:db8::1", "fe80::1", "::ffff:127.0.0.1"),
            "CNAME": ("b.example", "a.example"),
        }.get(rdtype, ("x",))
        return DnsAnswer(
            tuple(chosen.one(pool) for _ in range(how)), exists=bool(chosen.number(8)), ttl=chosen.number()
        )


def _mx(octets: bytes) -> None:
    """Where a domain's mail goes, from records of any sort."""
    chosen = Octets(octets)
    domain = chosen.one(
        ("a.example", "[192.0.2.1]", "[ipv6:::1]", "[x]", "x" * 64 + ".example", "localhost", "b.example")
    )

    async def look() -> None:
        resolver = DnsResolver(DnsSettings(nameservers=("192.0.2.1",)), SystemClock(), upstream=_Asked(chosen))
        with contextlib.suppress(DnsTemporaryError):
            found = await MxResolver(resolver, random.Random(1)).hosts(domain)
            assert isinstance(found, Reply) or len(found) <= 50

    in_loop(look())


def target() -> Readers:
    found = Readers((_delivery, _delivery, _replies, _answers, _mx), pure=(_replies,))
    found.more = list(_seeds(found))
    return found


def _seeds(found: Readers) -> Iterator[bytes]:
    for credentials in range(3):
        for how in (0, 4, 8, 16, 64, 144):
            for offer in range(len(_OFFERS)):
                # All of it taken, and then the message refused.
                start = bytes((offer % 2, credentials, how, 7, 0, 7, offer, 0))
                yield found.seed(_delivery, start + bytes((7, 0)) * 12)
                yield found.seed(_delivery, start + bytes((7, 0, 7, 0, 1, 6, 0)) + bytes((7, 0)) * 6)
    yield found.seed(_replies, b"\3250-a\r\n250 2.1.0 Ok try again in 5 minutes\r\n550 no\n421")
    yield found.seed(_replies, b"\7250-mx\r\n250-SIZE 10\r\n250-LIMITS MAILMAX=1\r\n250 AUTH=LOGIN\r\n")
    for number, kind in enumerate(_TYPES):
        reply = dns.message.make_response(dns.message.make_query("a.example", kind))
        values = {
            "A": "192.0.2.1", "AAAA": "2001:db8::1", "MX": "10 mx.example.", "TXT": '"a" "b"', "PTR": "x.example.",
            "CNAME": "b.example.", "NS": "ns.example.", "TLSA": "3 1 1 " + "ab" * 32,
        }  # fmt: skip
        reply.answer.append(dns.rrset.from_text("a.example.", 300, "IN", kind, values[kind]))  # type: ignore[attr-defined]
        yield found.seed(_answers, bytes((0, number, 1)) + reply.to_wire()[2:])
    for how in (b"\0\2\0\1\1", b"\0\7", b"\0\1\0\1", b"\1", b"\3"):
        yield found.seed(_mx, how + b"\1\0\1\1\0\2\1")
