"""Header fields that steer one vendor reach no other: neither as a field nor inside the message, whoever carries it."""

from __future__ import annotations

import dataclasses

import pytest
from sendpost_setting import EVERYTHING, request
from test_arrives_equal import body_of
from vendor_readers import READERS

from relay.mail.dialects import has_directives, read_directives, without_directives
from relay.mail.message import header_block, header_fields
from relay.settings import ProviderSettings
from relay.transports.providers import build_provider, provider_classes
from relay.transports.providers.base import Rendering

FIELDS = (
    b"X-Relay-Tag: t", b"X-Relay-Metadata-order: 7", b'X-SMTPAPI: {"category": "t"}', b"X-Mailgun-Tag: t",
    b"X-Mailgun-Track: no", b"X-PM-Tag: t", b"X-PM-Metadata-order: 7", b"X-SES-MESSAGE-TAGS: order=7",
    b"X-SES-CONFIGURATION-SET: set", b"X-MC-Tags: t", b'X-MC-Metadata: {"order": "7"}',
    b'X-MSYS-API: {"metadata": {"order": "7"}}', b"X-MJ-CustomID: 7", b"X-Mailjet-TrackOpen: 0",
    b"X-Mailin-Tag: t", b"X-SendPost-Groups: t", b"X-SP-Groups: t", b"X-Postal-Tag: t",
    b"Resend-Idempotency-Key: k",
)  # fmt: skip
NAMES = tuple(field.partition(b":")[0].lower() for field in FIELDS)
CONTENT = b"From: app@example.org\r\nTo: ann@mx.example\r\nSubject: x\r\n" + b"\r\n".join(FIELDS) + b"\r\n\r\nhi\r\n"


def test_each_of_these_fields_is_a_directive() -> None:
    """So that the list here cannot fall behind in silence."""
    for field in FIELDS:
        assert has_directives(field + b"\r\n"), field


@pytest.mark.parametrize("kind", sorted(READERS))
def test_no_field_of_a_dialect_is_in_a_call(kind: str) -> None:
    """What they ask for goes along as values, in the vendor's own words."""
    options = {**provider_classes()[kind].example, "accept": EVERYTHING}
    if "senders" in provider_classes()[kind].Options.model_fields:
        options["senders"] = ["app@example.org"]
    adapter = build_provider("any", ProviderSettings(kind=kind, api_key_file="unused", options=options))
    asked = read_directives(header_fields(header_block(CONTENT)))
    plain = without_directives(CONTENT)
    found = adapter.render(dataclasses.replace(request("ann@mx.example"), directives=asked), plain)

    assert isinstance(found, Rendering)
    for call in found.requests:
        for seen in READERS[kind](body_of(call), call.headers["Content-Type"]):
            fields = {name.lower().encode() for name, _ in seen.headers}
            raw = (seen.raw or b"").lower()
            assert not fields.intersection(NAMES)
            assert not [name for name in NAMES if name + b":" in raw]
