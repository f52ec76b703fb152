"""APIs that read the recipients from the header: whatever stood there, a mail program finds the envelope in it."""

from __future__ import annotations

import base64
import email
import email.policy
import email.utils
import json
from collections import Counter
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from sendpost_setting import EVERYTHING, request
from test_sendpost_recipients import deliveries, plain

from relay.mail.mime import Mailbox
from relay.settings import ProviderSettings
from relay.transports.providers import build_provider, mailbox
from relay.transports.providers.base import HttpRequest, Provider, Refusal, Rendering
from relay.transports.providers.gmail import SMALL
from relay.transports.providers.structured import Copy

NEEDED: dict[str, dict[str, Any]] = {
    "graph": {"tenant": "example.org", "mailbox": "app@example.org"},
    "gmail": {"senders": ["app@example.org"]},
}
KINDS = sorted(NEEDED)


def built(kind: str, **options: Any) -> Provider:
    config = ProviderSettings(kind=kind, api_key_file=Path("unused"), options={**NEEDED[kind], **options})
    return build_provider("any", config)


def octets_of(call: HttpRequest) -> bytes:
    if call.headers["Content-Type"] == "text/plain":
        return base64.b64decode(call.body, validate=True)
    if call.headers["Content-Type"] == "application/json":
        return base64.urlsafe_b64decode(json.loads(call.body)["raw"])
    return call.body


def found_in(octets: bytes, *names: str) -> list[str]:
    """As Python's own parser reads it."""
    parsed = email.message_from_bytes(octets, policy=email.policy.compat32)
    values = [str(value) for name in names for value in parsed.get_all(name, [])]
    return [address for _, address in email.utils.getaddresses(values)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(delivery=deliveries())
def test_to_cc_and_bcc_are_the_envelope_and_the_hidden_stand_in_bcc_alone(kind, delivery):
    content, envelope, shown = delivery
    found = built(kind, accept=EVERYTHING).render(request(*envelope), content)
    assert isinstance(found, Rendering)
    reached = []
    for call in found.requests:
        octets = octets_of(call)
        everybody = found_in(octets, "To", "Cc", "Bcc")
        assert [plain(one) for one in everybody] == [plain(one) for one in call.recipients]
        visible = found_in(octets, "To", "Cc", "Resent-To", "Resent-Cc", "Resent-Bcc", "Apparently-To")
        assert {plain(one) for one in visible} <= shown
        reached += everybody
    assert Counter(map(plain, reached)) == Counter(map(plain, envelope))


HOSTILE = [
    b"To: =?utf-8?q?evil=40x.example=2C?= <ann@mx.example>",
    b'To: "a, evil@x.example" <ann@mx.example>',
    b"To: (evil@x.example) ann@mx.example",
    b"To: team: ann@mx.example, evil@x.example;",
    b"To: <@evil.example:ann@mx.example>",
    b"To: ann@mx.example\r\nTo: evil@x.example",
    b"to : ann@mx.example\r\nno field at all\r\nBCC: evil@x.example",
    b"To: ann@mx.example\r\n\t, evil@x.example",
    b'To: "Ann \\" \\\\ <evil@x.example>" <ann@mx.example>',
    b"To: =?utf-8?q?Ann=0D=0ABcc=3A_evil=40x=2Eexample?= <ann@mx.example>",
    b"Apparently-To: evil@x.example\r\nTo: ann@mx.example",
    b"Resent-To: evil@x.example\r\nTo: ann@mx.example",
    "To: Änn Größe, evil@x.example <ann@mx.example>".encode(),
    b"To: " + b"Ann" * 400 + b" <ann@mx.example>",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", HOSTILE)
def test_no_way_to_write_a_field_reaches_somebody_else(kind, field):
    content = b"From: app@example.org\r\n" + field + b"\r\nSubject: x\r\n\r\nTo: body@x.example\r\n"
    found = built(kind, accept=EVERYTHING).render(request("ann@mx.example", "bob@mx.example"), content)
    assert isinstance(found, Rendering)
    [call] = found.requests
    octets = octets_of(call)
    assert sorted(found_in(octets, "To", "Cc", "Bcc")) == ["ann@mx.example", "bob@mx.example"]
    assert found_in(octets, "Bcc")[-1] == "bob@mx.example"
    assert b"bob@mx.example" not in octets.partition(b"\r\n\r\n")[2]
    assert not found_in(octets, "Apparently-To", "Resent-To")
    assert octets.endswith(b"\r\nSubject: x\r\n\r\nTo: body@x.example\r\n") or b"no field" in octets


@pytest.mark.parametrize("kind", KINDS)
def test_every_other_octet_stays(kind):
    body = bytes(range(32, 256)) * 3 + b"\r\n.\r\n\r\nBcc: x\r\n"
    head = b"Received: from x\r\nFrom: app@example.org\r\nX-Odd:\tfold\r\n  ed \r\n"
    content = head + b"To: ann@mx.example\r\nSubject: \xff\r\n\r\n" + body
    [call] = built(kind).render(request("ann@mx.example"), content).requests
    assert octets_of(call) == b"To: ann@mx.example\r\n" + head + b"Subject: \xff\r\n\r\n" + body


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("head", "accept", "words"),
    [
        (b"From: app@example.org\r\nTo: ann@mx.example, gone@x.example", [], "visible-recipients"),
        (b"From: app@example.org\r\nTo: ann@mx.example\r\nResent-To: bob@mx.example", None, "reserved-header"),
        (b"From: app@example.org\r\nTo: \xff <ann@mx.example>", None, "header-value"),
        (b"Subject: x\r\nTo: ann@mx.example", None, "needs one From address"),
        (b"From: app@example.org, b@example.org\r\nTo: ann@mx.example", None, "needs one From address"),
        (b"From: app@example.org\r\nFrom: b@example.org\r\nTo: ann@mx.example", None, "needs one From address"),
    ],
)
def test_what_differs_is_refused_unless_it_is_accepted(kind, head, accept, words):
    options = {} if accept is None else {"accept": accept}
    told = built(kind, **options).render(request("ann@mx.example"), head + b"\r\n\r\nhi\r\n")
    assert isinstance(told, Refusal)
    assert words in told.reply.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_from_that_is_none_of_senders_is_refused(kind):
    content = b"From: CEO <ceo@example.org>\r\nTo: ann@mx.example\r\n\r\nhi\r\n"
    told = built(kind, senders=["APP@example.org"]).render(request("ann@mx.example"), content)
    assert isinstance(told, Refusal)
    assert "550 5.7.1" in str(told.reply)
    sent = built(kind, senders=["CEO@example.org"]).render(request("ann@mx.example"), content)
    assert isinstance(sent, Rendering)


@pytest.mark.parametrize(
    ("sends", "path"),
    [
        ("", "/v1.0/users/app@example.org/sendMail"),
        ("me", "/v1.0/me/sendMail"),
        ("a/b?c#d'e@example.org", "/v1.0/users/a%2Fb%3Fc%23d%27e@example.org/sendMail"),
    ],
)
def test_graph_sends_from_the_mailbox_the_operator_names_or_the_authors(sends, path):
    content = b"From: app@example.org\r\nTo: ann@mx.example\r\n\r\nhi\r\n"
    [call] = built("graph", mailbox=sends).render(request("ann@mx.example"), content).requests
    assert call.url == f"https://graph.microsoft.com{path}"


def test_a_large_message_goes_to_gmail_as_an_upload():
    content = b"From: app@example.org\r\nTo: ann@mx.example\r\n\r\n" + b"x" * SMALL + b"\r\n"
    [call] = built("gmail").render(request("ann@mx.example"), content).requests
    assert call.url == "https://gmail.googleapis.com/upload/gmail/v1/users/me/messages/send?uploadType=media"
    assert call.headers["Content-Type"] == "message/rfc822"
    assert octets_of(call).endswith(b"x\r\n")


def test_a_message_that_grows_beyond_the_limit_is_refused():
    """The vendor counts what we add."""
    most = built("graph").capabilities.message_octets
    head = b"From: app@example.org\r\n\r\n"
    for size, carried in ((most - 30, True), (most, False), (most + 1, False)):
        found = built("graph").render(request("ann@mx.example"), head + b"x" * (size - len(head)))
        assert isinstance(found, Rendering) == carried


def test_mailboxes_are_written_as_every_parser_reads_them():
    names = ["", "Ann", 'A "q" \\', "Jürgen Groß " * 20, "a" * 300, "x, y", "\U0001f600" * 40]
    to = tuple(Mailbox(f"r{n}@bücher.example", name) for n, name in enumerate(names))
    octets = mailbox._fields(Copy(to, (Mailbox("c@x.example"),), ("h@x.example",))) + b"\r\n"
    assert all(len(line) <= 330 for line in octets.split(b"\r\n"))
    parsed = email.message_from_bytes(octets)
    found = email.utils.getaddresses([str(parsed["To"])])
    assert [str(make_header(decode_header(name))).strip() for name, _ in found] == [name.strip() for name in names]
    assert [address for _, address in found] == [f"r{n}@xn--bcher-kva.example" for n in range(len(names))]
    assert parsed["Bcc"] == "h@x.example"
