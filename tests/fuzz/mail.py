"""What is read of a message: its header, its parts, what it asks for, what it reports of other mail, and the gate."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from doors import Gate
from harness import Octets, Readers
from transcript import USERS, finish

from relay.intake.author import authors
from relay.mail.dialects import has_directives, read_directives, without_directives
from relay.mail.directives import LONGEST_TAG, METADATA_OCTETS, MOST_METADATA, MOST_TAGS
from relay.mail.envelope import Envelope, Recipient
from relay.mail.errors import DirectiveError, MessageSyntaxError
from relay.mail.line_ends import fixed_line_ends, has_bare_line_ends
from relay.mail.message import (
    addresses_in,
    header_block,
    header_fields,
    signature_tags,
    split_message,
    without_fields,
)
from relay.mail.mime import decode_words, parse_mailboxes, parse_parameters, raw_text
from relay.mail.parts import take_apart
from relay.mail.priority import priority_in
from relay.mail.returned import read_report
from relay.mail.session import Login, Session
from relay.mail.text_form import text_form
from relay.signing.canonical import relaxed_body_hash, relaxed_field

_GATE = Gate()
_ACTIONS = {"failed", "delayed", "delivered", "relayed", "expanded"}
_FIELDS = (
    "X-Relay-Tag", "X-Relay-Send-At", "X-Relay-Expire", "X-Relay-Retry", "X-Relay-Track-Opens", "X-SMTPAPI",
    "X-Mailgun-Variables", "X-Mailgun-Deliver-By", "X-PM-Metadata-a", "X-SES-Message-Tags", "X-MC-Metadata",
    "X-MC-SendAt", "X-MC-Track", "X-MSYS-API", "X-MJ-CustomID", "X-MJ-EventPayload", "X-Mailin-Custom",
    "Resend-Idempotency-Key", "X-SendPost-Groups", "X-SP-IPPool", "X-Postal-Tag", "X-Mailgun-Drop-Message",
    "X-Mailjet-Campaign", "X-MC-MergeVars", "X-PM-Other",
)  # fmt: skip


def _message(octets: bytes) -> None:
    content = fixed_line_ends(octets)
    assert not has_bare_line_ends(content)
    header, body = split_message(content)
    assert header == header_block(content)
    assert len(header) + len(body) <= len(content) + 2
    fields = list(header_fields(header))
    for each in fields:
        addresses_in(each.text)
    assert len(without_directives(content)) <= len(content)
    names = {each.name for each in fields}
    assert without_fields(header, lambda name: name not in names) == header
    assert not list(header_fields(without_fields(header, lambda name: True)))
    signature_tags(header)
    priority = priority_in(fields)
    assert priority is None or -9 <= priority <= 9


def _parts(octets: bytes) -> None:
    try:
        parts = take_apart(fixed_line_ends(octets))
    except MessageSyntaxError as error:
        assert str(error).isprintable()
        return
    for name, value in parts.headers:
        assert name.isascii()
        assert not set("\r\n\0") & set(name + value)
    for one in (*parts.from_, *parts.reply_to, *parts.to, *parts.cc):
        assert not set("\r\n\0") & set(one.name + one.address)
    for item in parts.attachments:
        assert not set("\r\n\0") & set(item.filename + item.content_id)
    for text in (parts.subject, parts.text, parts.html, parts.amp):
        (text or "").encode("utf-8")


def _words(octets: bytes) -> None:
    text = raw_text(octets)[0]
    decode_words(text)
    parse_parameters(text)
    parse_mailboxes(text)


def _author(octets: bytes) -> None:
    """Whoever a reader could take for the author is among them."""
    value = octets.decode("utf-8", "replace")
    found = authors(value)
    assert all("@" in one for one in found)


def _report(octets: bytes) -> None:
    found = read_report(fixed_line_ends(octets))
    assert len(found) <= 1000
    for one in found:
        assert one.action in _ACTIONS
        assert one.words.isprintable()
        assert len(one.words) <= 300
        assert not one.status or one.status.split(".")[0] in "245"
        assert all(isinstance(address, str) and address for address in one.addresses)


def _directives(octets: bytes) -> None:
    """Fields of any dialect: what they ask for is bounded, or refused in one line; taken out, none is left."""
    chosen = Octets(octets)
    lines = []
    while chosen and len(lines) < 8:
        name = chosen.one(_FIELDS).encode()
        value = chosen.take(chosen.number() * 8).translate(None, b"\r\n")
        lines.append(name + b": " + value + b"\r\n")
    content = b"".join(lines) + b"\r\nbody"
    try:
        asked = read_directives(header_fields(header_block(content)))
    except DirectiveError as error:
        assert "\n" not in str(error)
    else:
        assert len(asked.tags) <= MOST_TAGS
        assert all(0 < len(tag) <= LONGEST_TAG for tag in asked.tags)
        assert len(asked.metadata) <= MOST_METADATA
        assert sum(len(key) + len(value) for key, value in asked.metadata) <= METADATA_OCTETS
        assert asked.expire is None or 0 < asked.expire <= 2_592_000
        assert asked.send_at is None or abs(asked.send_at) < 1e12
        json.dumps([asked.tags, asked.metadata, asked.own])
    assert not has_directives(header_block(without_directives(content)))


def _json_fields(octets: bytes) -> None:
    """The same with JSON that nests as deep as it likes, at any depth of ours."""
    chosen = Octets(octets)
    depth, kind = (
        chosen.number() * 8 + chosen.number(),
        chosen.one((b"[", b'{"a":', b'{"metadata":', b'{"filters":{"a":')),
    )
    close = kind.translate(bytes.maketrans(b"[{", b"]}"), b'":abcdefghijklmnopqrstuvwxyz')[::-1]
    name = chosen.one((b"X-SMTPAPI", b"X-MSYS-API", b"X-MC-Metadata", b"X-Mailgun-Variables"))
    key = chosen.one((b"unique_args", b"filters", b"category", b"metadata", b"options", b"x", b"send_at", b"tags"))
    nested = kind * depth + chosen.one((b"1", b"null", b'"a"')) + close * depth
    field = name + b': {"' + key + b'": ' + nested + b"}\r\n"
    with contextlib.suppress(DirectiveError):
        read_directives(header_fields(field))


def _gate(octets: bytes) -> None:
    """The whole of the gate, for any sort of login: a reply, and what is stored begins with our stamps."""
    chosen = Octets(octets)
    name = chosen.one(("", *USERS))
    login = Login("acme", name, USERS[name]) if name else None
    binary, fix = bool(chosen.number(2)), bool(chosen.number(2))
    session = Session("192.0.2.1", 4000, "client.example", "ESMTP", "test", login=login)
    recipients = tuple(Recipient(f"r{number}@b.example") for number in range(1 + chosen.number(3)))
    envelope = Envelope("app@acme.example", recipients, binary=binary)
    answer: Any = finish(_GATE.accept(session, envelope, chosen.rest(), fix_line_ends=fix))
    stored = _GATE.spool.stored
    assert answer.positive == bool(stored)
    if stored:
        message = stored[0]
        assert message.content.startswith(b"Received: from ")
        fields = list(header_fields(header_block(message.content)))
        names = [field.name for field in fields]
        assert {"date", "message-id", "from"} <= set(names)
        assert not login or "bcc" not in names
    stored.clear()


def _signed(octets: bytes) -> None:
    """What DKIM signs is the same for the same text, and never raises."""
    for each in header_fields(octets):
        once = relaxed_field(each.raw)
        assert relaxed_field(once) == once
    spaced = octets.replace(b" ", b"  ").replace(b"\t", b"\t ")
    assert relaxed_body_hash(octets) == relaxed_body_hash(spaced) == relaxed_body_hash(octets + b"\r\n\r\n")


def _text_form(octets: bytes) -> None:
    """A binary message as lines, or not at all."""
    found = text_form(octets)
    assert found is None or not has_bare_line_ends(found)


def target() -> Readers:
    pure = (_message, _parts, _words, _author, _report, _directives, _text_form)
    found = Readers(
        (
            _message,
            _parts,
            _parts,
            _words,
            _author,
            _report,
            _report,
            _directives,
            _json_fields,
            _gate,
            _signed,
            _text_form,
        ),
        pure=pure,
    )
    golden = Path(__file__).resolve().parents[1] / "golden"
    for path in sorted((golden / "messages").glob("*.eml")):
        content = path.read_bytes().replace(b"\n", b"\r\n")
        found.more += [found.seed(each, content) for each in (_message, _parts, _report, _text_form)]
        found.more.append(found.seed(_gate, b"\1\0\1\0" + content))
    report = (
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nhi\r\n--b\r\n"
        b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; a@b\r\n"
        b"Action: failed\r\nStatus: 5.1.1 (no)\r\nDiagnostic-Code: smtp; 550 no\r\n--b--\r\n"
    )
    qmail = (
        b"\r\nHi. This is the qmail-send program at x.\r\n\r\n<a@b.example>:\r\nSorry. (#5.1.1)\r\n\r\n--- Below\r\n"
    )
    found.more += [found.seed(_report, each) for each in (report, qmail, b"X-Failed-Recipients: a@b, c@d\r\n\r\nx")]
    found.more += [
        found.seed(_author, b'"a, b" <a@b.example> (c@d), grp: e@f;'),
        found.seed(_words, b'=?utf-8?b?w7w=?= <a@b>; a*0*=utf-8\'\'%C3%BC; b="x\\""'),
        found.seed(_signed, b"A: b  c\r\n\r\nx \t\r\n\r\n\r\n"),
        found.seed(_json_fields, b"\x78\0\1\0\0\0"),
    ]
    for number, value in enumerate((
        b"a, b", b"Mon, 2 Feb 2026 10:00:00 +0100", b"600", b"otp", b"yes",
        b'{"category":["a"],"unique_args":{"a":1},"filters":{"opentrack":{"settings":{"enable":0}}},"send_at":1}',
        b'{"a":[1,2.5,null]}', b"2026-02-02T10:00:00Z", b"x", b"a=1, b=2", b'{"a":"b"}', b"2026-02-02 10:00:00",
        b"opens,clicks_all", b'{"options":{"open_tracking":false,"start_time":"2026-02-02T10:00:00Z"},"tags":["x"]}',
    )):  # fmt: skip
        found.more.append(found.seed(_directives, bytes((number, (len(value) + 7) // 8)) + value))
    return found
