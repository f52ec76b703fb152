"""The front door's readers without a session around them: commands, parameters, framing, PROXY headers, records."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Any

from doors import LIMITS, Gate
from harness import Octets, Readers

from relay.mail.address import ascii_form, comparable, parse_address, to_ascii_domain
from relay.mail.errors import AddressSyntaxError
from relay.mail.priority import priority_of
from relay.mail.reply import Reply, printable, reply
from relay.mail.return_path import ReturnPaths
from relay.mail.session import Session
from relay.mail.xtext import decoded, is_xtext
from relay.settings import ListenerSettings, SessionSettings
from relay.smtpd.chunks import Chunks, parse_bdat
from relay.smtpd.commands import POSTMASTER, CommandError, parse_mail, parse_rcpt
from relay.smtpd.failed_sessions import FailedSessions
from relay.smtpd.framing import Framing
from relay.smtpd.proxy_header import LONGEST_V2, ProxyHeaderError, is_trusted, read_header
from relay.smtpd.session_record import command_shown, without_credentials
from relay.smtpd.symptom import Case
from relay.smtpd.tolerance import host_name, mended
from relay.smtpd.xclient import as_client, parse_xclient

_HERE = Session("192.0.2.1", 4000, "", "SMTP", "test")
_NETWORKS = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("::1/128"))
_PATHS = ReturnPaths("back.example", bytes(32))
_LISTENERS = tuple(
    ListenerSettings(name="test", address="127.0.0.1", port=0, tls=tls) for tls in ("starttls", "implicit", "none")
)
_WIRE = re.compile(rb"[2345]\d\d [\x20-\x7e]*\r\n\Z")
_GATE = Gate()


def _refused(error: CommandError) -> None:
    assert _WIRE.match(error.reply.wire)
    assert error.reply.code >= 400


def _mail(octets: bytes) -> None:
    try:
        found = parse_mail(octets)
    except CommandError as error:
        return _refused(error)
    if found.address is not None:
        assert str(parse_address(found.address)) == found.address
    assert found.size >= 0
    return None


def _rcpt(octets: bytes) -> None:
    try:
        found = parse_rcpt(octets[1:], smtputf8=bool(octets[:1] > b"m"))
    except CommandError as error:
        return _refused(error)
    assert found.address == POSTMASTER or str(parse_address(found.address)) == found.address
    return None


def _mended(octets: bytes) -> None:
    """What is put right is a command like one that was right; what was right is not touched."""
    parse = parse_mail if octets[:1] < b"m" else (lambda argument: parse_rcpt(argument, smtputf8=True))
    found = mended(octets[1:], lambda what: True)
    if found is not None:
        assert found[1]
        assert mended(found[0], lambda what: True) is None
        with contextlib.suppress(CommandError):
            parse(found[0])


def _address(octets: bytes) -> None:
    text = octets.decode("utf-8", "replace")
    try:
        address = parse_address(text)
    except AddressSyntaxError as error:
        assert str(error).isprintable()
        return
    assert parse_address(str(address)) == address
    assert comparable(text) == comparable(str(address))
    assert ascii_form(str(address)).rpartition("@")[2].isascii()
    with contextlib.suppress(AddressSyntaxError):
        to_ascii_domain(text)


def _words(octets: bytes) -> None:
    """xtext, priorities, names, return paths."""
    text = octets.decode("utf-8", "replace")
    if is_xtext(text, utf8=True):
        decoded(text)
    priority = priority_of(text)
    assert priority is None or -9 <= priority <= 9
    name, good = host_name(octets)
    assert name.isprintable()
    assert name.isascii()
    assert not good or name
    assert _PATHS.read(text) is None
    message_id = f"{octets[:8].hex():0>16}"
    index = len(octets) if len(octets) % 2 else None
    if message_id[0] in "01234567":
        about = _PATHS.read(_PATHS.of(message_id, index).upper())
        assert about is not None
        assert (about.message_id, about.index) == (message_id, index)


def _xclient(octets: bytes) -> None:
    try:
        given = parse_xclient(octets[1:], login=bool(octets[:1] > b"m"))
    except CommandError as error:
        return _refused(error)
    client = as_client(_HERE, _HERE, given, None)
    ipaddress.ip_address(client.peer)
    assert 0 <= client.peer_port <= 65_535
    assert client.helo.isprintable()
    return None


def _proxy(octets: bytes) -> None:
    """A header is the same in whatever pieces it comes, and what is no header is that at once or later."""
    try:
        whole = read_header(octets)
    except ProxyHeaderError as error:
        assert str(error).isprintable()
        whole = None
    else:
        assert whole is not None or len(octets) < LONGEST_V2 + 16
    if whole is None:
        return
    assert whole.octets <= len(octets)
    if whole.peer:
        ipaddress.ip_address(whole.peer)
        is_trusted(whole.peer, _NETWORKS)
        assert 0 <= whole.port <= 65_535
    assert read_header(octets[: whole.octets]) == whole
    for cut in range(0, whole.octets, 1 + whole.octets // 8):
        assert read_header(octets[:cut]) is None


def _kept(kind: Any) -> Any:
    return kind(LIMITS.message_size, _GATE.hold, _GATE.incoming, fix_bare_lf=False, longest_header=LIMITS.header_size)


def _data(octets: bytes) -> None:
    """A message of DATA is the same in whatever pieces it comes, and so is what follows it."""
    step = 1 + octets[0] % 61 if octets else 1
    found = []
    for size in (len(octets) + 1, step):
        framing: Framing = _kept(Framing)
        framing.begin_data()
        result = framing.data()
        for at in range(1, len(octets), size):
            framing.add(octets[at : at + size])
            result = framing.data() if result is None else result
        found.append((result, framing.take(1 << 20) if result is not None else b""))
        framing.clear()
    assert found[0] == found[1]
    assert _GATE.held == 0


def _lines(octets: bytes) -> None:
    """So are command lines."""
    step, fix = (1 + octets[0] % 7, bool(octets[0] & 8)) if octets else (1, False)
    found = []
    for size in (len(octets) + 1, step):
        framing: Framing = _kept(Framing)
        if fix:
            framing.fix_bare_lf(lambda: None)
        said: list[bytes | Reply] = []
        for at in range(1, len(octets), size):
            framing.add(octets[at : at + size])
            while (line := framing.line(256)) is not None:
                said.append(line)
        found.append(said)
    assert found[0] == found[1]


def _chunks(octets: bytes) -> None:
    """BDAT: every octet of a message that is taken, in whatever pieces it comes, and a CRLF at its end."""
    chosen = Octets(octets)
    chunks: Chunks = _kept(Chunks)
    chunks.binary = bool(chosen.number(2))
    sent = b""
    while chosen:
        piece = chosen.take(chosen.number())
        announced = len(piece) + chosen.one((0, 0, 0, 7))
        if not chunks.begin(announced, last=False, refusal=None):
            break
        step = 1 + chosen.number(64)
        for at in range(0, len(piece), step):
            chunks.add(piece[at : at + step])
        sent += piece
        assert chunks.due == announced - len(piece)
    content = chunks.content()
    if isinstance(content, bytes):
        assert content[: len(sent)] == sent
        assert content[len(sent) :] in (b"", b"\r\n", b"\n")
    chunks.drop()
    assert _GATE.held == 0


def _bdat(octets: bytes) -> None:
    found = parse_bdat(octets)
    if found is not None:
        assert 0 <= found[0] < 10**20


def _record(octets: bytes) -> None:
    """What is shown of a session is printable, and no password is among it."""
    shown = command_shown(octets)
    assert shown.isprintable()
    assert len(shown) <= 300
    noted = without_credentials(octets)
    mechanism = octets.partition(b" ")[0]
    assert noted in (b"AUTH ...", b"AUTH " + mechanism.upper() + b" ...", b"AUTH " + mechanism.upper())
    assert printable(octets.decode("latin-1")).isprintable()


def _symptoms(octets: bytes) -> None:
    """Any session that ended is explained, or is none to explain."""
    chosen = Octets(octets)
    entries: list[Any] = []
    while chosen and len(entries) < 12:
        kind = chosen.number(4)
        words = chosen.take(chosen.number(80))
        if kind == 0:
            entries.append(words)
        elif kind == 1:
            code = chosen.one((250, 421, 450, 451, 454, 500, 501, 502, 503, 504, 530, 535, 538, 550, 552, 553, 554))
            entries.append(
                reply(code, f"{code // 100}.{chosen.number(8)}.{chosen.number(70)}", printable(words.decode("latin-1")))
            )
        elif kind == 2:
            entries.append(words.decode("latin-1"))
        else:
            entries.append(b"250 " + words.translate(None, b"\r\n") + b"\r\n")
    failure: OSError | None = chosen.one((None, TimeoutError(), ConnectionResetError("reset")))
    failed = FailedSessions(SessionSettings(kept=4), 0, _Clock())
    case = Case(chosen.one(_LISTENERS), _HERE, tuple(entries), failure, bool(chosen.number(2)), bool(chosen.number(2)))
    failed.ended(case, 1.0)
    for one in failed.all():
        assert one.findings
        assert all(line.isprintable() for line in one.transcript)


class _Clock:
    def now(self) -> float:
        return 1.8e9

    def monotonic(self) -> float:
        return 1000.0


def target() -> Readers:
    found = Readers(
        (
            _mail, _mail, _mail, _rcpt, _rcpt, _rcpt, _mended, _mended, _address, _address, _words, _words, _xclient,
            _xclient, _proxy, _proxy, _proxy, _data, _lines, _chunks, _bdat, _record, _symptoms,
        ),
        pure=(_mail, _rcpt, _mended, _address, _words, _xclient, _proxy, _data, _lines, _bdat, _record),
    )  # fmt: skip
    v2 = b"\r\n\r\n\0\r\nQUIT\n"
    found.more = [
        found.seed(_mail, b"FROM:<a@b.example> SIZE=1 RET=FULL HOLDFOR=60 BODY=BINARYMIME SMTPUTF8 ENVID=a+2Bb"),
        found.seed(_mail, b"FROM:<> MT-PRIORITY=4 BY=120;RT REQUIRETLS AUTH=a+40b.example"),
        found.seed(_mail, b"FROM:<a@b.example> HOLDUNTIL=2027-01-15T09:00:00.5+01:00"),
        found.seed(_rcpt, b"nTO:<a@b.example> NOTIFY=SUCCESS,DELAY ORCPT=utf-8;\\x{FC}"),
        found.seed(_rcpt, "aTO:<@x.example:ä@bücher.example> NOTIFY=NEVER".encode()),
        found.seed(_mended, b"aFROM: a@b.example SIZE=1"),
        found.seed(_mended, b"nTO : <a@b.example>"),
        found.seed(_address, b'"a\\"b"@[IPv6:2001:db8::1]'),
        found.seed(_address, "jürgen@straße.example".encode()),
        found.seed(_words, b"r-0123456789abcdef-0-abcdefghijklmnop@back.example"),
        found.seed(_xclient, b"nADDR=IPV6:2001:db8::1 PORT=25 NAME=a+2Eb HELO=x PROTO=ESMTP LOGIN=alice"),
        found.seed(_proxy, b"PROXY TCP4 192.0.2.7 198.51.100.1 1 25\r\nEHLO"),
        found.seed(_proxy, b"PROXY TCP6 2001:db8::1 ::1 1 25\r\n"),
        found.seed(_proxy, b"PROXY UNKNOWN x y\r\n"),
        found.seed(_proxy, v2 + b"\x21\x11\0\x0c" + b"\1" * 12 + b"EHLO"),
        found.seed(_proxy, v2 + b"\x21\x21\0\x27" + b"\2" * 39),
        found.seed(_proxy, v2 + b"\x20\0\0\0"),
        found.seed(_data, b"\5Subject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n"),
        found.seed(_lines, b"\x0bEHLO a\r\nMAIL\nx\r\r\n"),
        found.seed(_chunks, b"\0\5hello\0\1\5wor\r\n\0\2"),
        found.seed(_bdat, b"86  LAST"),
        found.seed(_record, b"MAIL FROM:<a@b.example> SIZE=1 SECRET=x"),
        found.seed(_record, b"PLAIN AGFsaWNlAHNlY3JldA=="),
        found.seed(_symptoms, b"\0\4AUTH\1\5wrong\x0b\7\x08\0\4MAIL\1\3xyz\x0a\7\0\2"),
    ]  # fmt: skip
    return found
