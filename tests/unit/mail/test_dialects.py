"""Dialects: the vendors' header fields, read into one shape and taken out of what is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.dialects import has_directives, read_directives, without_directives
from relay.mail.directives import Directives
from relay.mail.errors import DirectiveError
from relay.mail.message import header_fields


def read(*lines: str) -> Directives:
    return read_directives(header_fields("".join(f"{line}\r\n" for line in lines).encode()))


@pytest.mark.parametrize(
    "lines",
    [
        ("X-Relay-Tag: welcome, paid",),
        ('X-SMTPAPI: {"category": ["welcome", "paid"]}',),
        ("X-Mailgun-Tag: welcome", "X-Mailgun-Tag: paid"),
        ("X-PM-Tag: welcome", "X-PM-Tag: paid"),
        ("X-MC-Tags: welcome,paid",),
        ('X-MSYS-API: {"tags": ["welcome", "paid"]}',),
        ("X-Mailin-Tag: welcome", "X-Mailin-Tag: paid"),
        ("X-SendPost-Groups: welcome, paid",),
        ("X-SP-Groups: welcome, paid",),
        ("X-Postal-Tag: welcome", "X-Postal-Tag: paid", "X-Postal-Tag: paid"),
    ],
    ids=lambda lines: lines[0].partition(":")[0],
)
def test_tags_of_every_dialect_are_tags(lines: tuple[str, ...]) -> None:
    assert read(*lines) == Directives(tags=("welcome", "paid"))


@pytest.mark.parametrize(
    "lines",
    [
        ("X-Relay-Metadata-order: 42", "X-Relay-Metadata-user: ann"),
        ('X-SMTPAPI: {"unique_args": {"order": 42, "user": "ann"}}',),
        ('X-Mailgun-Variables: {"order": 42, "user": "ann"}',),
        ("X-PM-Metadata-order: 42", "X-PM-Metadata-user: ann"),
        ("X-SES-MESSAGE-TAGS: order=42, user=ann",),
        ('X-MC-Metadata: {"order": "42", "user": "ann"}',),
        ('X-MSYS-API: {"metadata": {"order": 42, "user": "ann"}}',),
        ("X-SendPost-Metadata-order: 42", "X-SP-Metadata-user: ann"),
    ],
    ids=lambda lines: lines[0].partition(":")[0],
)
def test_metadata_of_every_dialect_is_metadata(lines: tuple[str, ...]) -> None:
    assert read(*lines) == Directives(metadata=(("order", "42"), ("user", "ann")))


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        (("X-Relay-Tag: =?utf-8?q?M=C3=A4rz=2C_neu?=",), Directives(tags=("März", "neu"))),
        (("X-PM-Metadata-user: =?utf-8?b?SsO2cmc=?=",), Directives(metadata=(("user", "Jörg"),))),
        (("X-PM-Metadata-user: =?utf-8?q?J=C3=B6rg=0D=0AX-A:_b?=",), Directives(metadata=(("user", "Jörg  X-A: b"),))),
        (
            ("X-SMTPAPI: =?utf-8?b?eyJ1bmlxdWVfYXJncyI6IHsidXNlciI6ICI=?= =?utf-8?q?J=C3=B6rg=22=7D=7D?=",),
            Directives(metadata=(("user", "Jörg"),)),
        ),
    ],
    ids=["list", "value", "line break", "json in two words"],
)
def test_encoded_words_of_a_mail_library_are_read(lines: tuple[str, ...], asked: Directives) -> None:
    """It encodes what is beyond ASCII in any field it does not know."""
    assert read(*lines) == asked


@pytest.mark.parametrize(
    ("line", "opens", "clicks"),
    [
        ("X-Relay-Track-Opens: yes", True, None),
        ('X-SMTPAPI: {"filters": {"opentrack": {"settings": {"enable": 0}}}}', False, None),
        ('X-SMTPAPI: {"filters": {"clicktrack": {"settings": {"enable": 1}}}}', None, True),
        ('X-SMTPAPI: {"filters": {"opentrack": {"settings": []}}}', True, None),
        ("X-Mailgun-Track: no", False, False),
        ("X-Mailgun-Track-Clicks: htmlonly", None, True),
        ("X-PM-TrackOpens: true", True, None),
        ("X-PM-TrackLinks: None", None, False),
        ("X-MC-Track: opens", True, False),
        ("X-MC-Track: opens,clicks_htmlonly", True, True),
        ('X-MSYS-API: {"options": {"open_tracking": false, "click_tracking": true}}', False, True),
        ("X-Mailjet-TrackOpen: 1", True, None),
        ("X-SP-Track-Clicks: off", None, False),
    ],
)
def test_tracking_of_every_dialect(line: str, opens: bool | None, clicks: bool | None) -> None:
    found = read(line)
    assert (found.track_opens, found.track_clicks) == (opens, clicks)


@pytest.mark.parametrize(
    "line",
    [
        "X-Relay-Send-At: 2026-11-25T12:00:00+00:00",
        'X-SMTPAPI: {"send_at": 1795608000}',
        "X-Mailgun-Deliver-By: Wed, 25 Nov 2026 13:00:00 +0100",
        "X-MC-SendAt: 2026-11-25 12:00:00",
        'X-MSYS-API: {"options": {"start_time": "2026-11-25T12:00:00Z"}}',
    ],
)
def test_the_time_to_send_of_every_dialect(line: str) -> None:
    assert read(line).send_at == 1795608000.0


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("X-PM-Message-Stream: broadcast", "stream", "broadcast"),
        ("X-SES-CONFIGURATION-SET: bulk", "stream", "bulk"),
        ('X-MSYS-API: {"campaign_id": "autumn"}', "stream", "autumn"),
        ("X-Mailjet-Campaign: autumn", "stream", "autumn"),
        ("X-MC-IpPool: main", "pool", "main"),
        ('X-SMTPAPI: {"ip_pool": "main"}', "pool", "main"),
        ("X-SendPost-IPPool: main", "pool", "main"),
        ("Resend-Idempotency-Key: order-42", "idempotency_key", "order-42"),
    ],
)
def test_streams_pools_and_keys(line: str, name: str, value: str) -> None:
    assert getattr(read(line), name) == value


def test_what_only_one_vendor_understands_is_kept_for_it() -> None:
    found = read('X-SMTPAPI: {"asm_group_id": 7}', "X-Mailgun-Require-TLS: yes", "X-MC-Important: true")
    assert found.own == (
        ("sendgrid", "x-smtpapi asm_group_id", "7"),
        ("mailgun", "x-mailgun-require-tls", "yes"),
        ("mandrill", "x-mc-important", "true"),
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('X-SMTPAPI: {"to": ["a@b.example"]}', "recipients come from RCPT TO alone"),
        ('X-SMTPAPI: {"sub": {"-name-": ["Ann"]}}', "send each recipient the finished message"),
        ('X-SMTPAPI: {"filters": {"bcc": {"settings": {"enable": 1, "email": "x@y.example"}}}}', "RCPT TO alone"),
        ('X-SMTPAPI: {"filters": {"footer": {"settings": {"enable": 1}}}}', "would change the text"),
        ("X-SMTPAPI: {category", "not a JSON object"),
        ("X-SMTPAPI: " + "[" * 5000, "not a JSON object"),
        ('X-SMTPAPI: {"unique_args": {"a": NaN}}', "not a JSON object"),
        ('X-SMTPAPI: {"unique_args": {"a": 1e999}}', "not a JSON object"),
        ('X-MSYS-API: {"bcc": [{"email": "a@b.example"}]}', "RCPT TO alone"),
        ('X-MSYS-API: {"options": {"sandbox": true}}', "asks for a test that is not sent"),
        ("X-Mailgun-Drop-Message: yes", "asks for a test that is not sent"),
        ("X-Sib-Sandbox: drop", "asks for a test that is not sent"),
        ("X-MC-BccAddress: boss@x.example", "RCPT TO alone"),
        ('X-MC-MergeVars: {"name": "Ann"}', "templates and variables are not filled in here"),
        ("X-Mailgun-Template-Name: welcome", "templates and variables are not filled in here"),
        ("X-Mailgun-Track: perhaps", "neither yes nor no"),
        ("X-Mailgun-Deliver-By: soon", "is no date"),
        ("X-MC-SendAt: Mon, 1 Jan 2027 00:00:00 +99999999999999999999", "is no date"),
        ("X-Mailgun-Deliver-By: 1 Jan 99999999999999999999 00:00:00", "is no date"),
        ("X-Relay-Expire: 0000000000019999999", "write the age in seconds"),
        ("X-Relay-Expire: 000000000001" + "9" * 400, "write the age in seconds"),
        ("Resend-Idempotency-Key: " + "k" * 257, "1 to 256 characters"),
        ("X-Mailgun-Variables: " + '{"k": "' + "v" * 17000 + '"}', "send less"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_field_and_the_fix(line: str, words: str) -> None:
    with pytest.raises(DirectiveError, match=words) as caught:
        read(line)
    assert str(caught.value).lower().startswith(line.partition(":")[0].lower()) or "metadata" in str(caught.value)


def test_switched_off_parts_of_a_dialect_are_no_reason_to_refuse() -> None:
    line = 'X-SMTPAPI: {"filters": {"footer": {"settings": {"enable": 0}}, "bcc": {"settings": {"enable": 0}}}}'
    assert read(line, 'X-MSYS-API: {"cc": [], "options": {"sandbox": false}}').tags == ()


MESSAGE = (
    b'Received: x\r\nX-SMTPAPI: {"category":\r\n "a"}\r\nSubject: hi\r\nX-Mailgun-Tag: b\r\n'
    b"no field at all\r\nX-PM-Tag: c\r\nTo: x@y.example\r\n\r\nX-PM-Tag: body\r\n"
)


def test_the_fields_are_taken_out_and_nothing_else_is_touched() -> None:
    assert without_directives(MESSAGE) == (
        b"Received: x\r\nSubject: hi\r\nno field at all\r\nTo: x@y.example\r\n\r\nX-PM-Tag: body\r\n"
    )


def test_a_field_whose_name_ends_like_a_directive_stays_whole() -> None:
    """The octets of one field may stand inside another."""
    content = b"Old-X-PM-Tag: a\r\nX-PM-Tag: a\r\nSubject: x\r\n\r\nX-PM-Tag: a\r\n"

    assert without_directives(content) == b"Old-X-PM-Tag: a\r\nSubject: x\r\n\r\nX-PM-Tag: a\r\n"


def test_the_dialect_of_the_next_hop_stays() -> None:
    assert without_directives(MESSAGE, keep="mailgun") == (
        b"Received: x\r\nSubject: hi\r\nX-Mailgun-Tag: b\r\nno field at all\r\n"
        b"To: x@y.example\r\n\r\nX-PM-Tag: body\r\n"
    )


def test_a_message_without_any_is_the_same_object() -> None:
    message = b"Subject: X-PM-Tag: no\r\nX-Spam: 1\r\nX-Speed: fast\r\n\r\nX-PM-Tag: body\r\n"
    assert without_directives(message) is message


@given(st.binary(max_size=300), st.sampled_from([b"X-SMTPAPI", b"X-MSYS-API", b"X-MC-SendAt", b"X-Mailgun-Variables"]))
def test_any_octets_give_directives_or_a_directive_error(value: bytes, name: bytes) -> None:
    header = name + b": " + value.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n"
    assert has_directives(header)
    try:
        read_directives(header_fields(header))
    except DirectiveError:
        pass
    assert not has_directives(without_directives(header + b"\r\nbody"))
