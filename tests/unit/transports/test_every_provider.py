"""Whatever the message and its envelope, for every provider: everybody is reached once, nobody else, never an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sendpost_setting import EVERYTHING, request
from test_sendpost_recipients import deliveries, plain

from relay.mail.parts import take_apart
from relay.ports import DeliveryRequest
from relay.settings import ProviderSettings
from relay.transports.providers import build_provider, provider_classes
from relay.transports.providers.base import HttpRequest, Refusal, Rendering
from relay.transports.providers.ses import signature
from relay.transports.providers.structured import copies_of
from relay.transports.providers.visibility import visibility

CLASSES = provider_classes()
KINDS = sorted(CLASSES)
PROVIDERS = {
    kind: build_provider(
        "any",
        ProviderSettings(
            kind=kind, api_key_file=Path("unused"), options={**CLASSES[kind].example, "accept": EVERYTHING}
        ),
    )
    for kind in KINDS
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(delivery=deliveries())
def test_everybody_is_reached_once_and_nobody_else(kind, delivery):
    """The calls cover the envelope exactly, keep the limit of recipients, and hold no header a call may not have."""
    content, envelope = delivery[0], delivery[1]
    found = PROVIDERS[kind].render(request(*envelope), content)

    if isinstance(found, Refusal):
        assert found.reply.permanent
        return
    assert isinstance(found, Rendering)
    assert sorted(address for call in found.requests for address in call.recipients) == sorted(envelope)
    for call in found.requests:
        assert len(call.recipients) <= PROVIDERS[kind].capabilities.recipients_per_call
        assert all(len(copy) >= 1 for copy in call.copies)
        assert all(text.isascii() and text.isprintable() for pair in call.headers.items() for text in pair)
        assert call.url.isascii()
        if call.headers["Content-Type"] == "application/json":
            json.loads(call.body)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(delivery=deliveries(), most=st.integers(1, 60))
def test_who_is_hidden_is_seen_by_nobody(delivery, most):
    """In a copy for a JSON API, whoever To and Cc do not name is in bcc, or alone."""
    content, envelope, shown = delivery
    copies = copies_of(visibility(envelope, take_apart(content)), most)

    assert sorted(address for copy in copies for address in copy.recipients) == sorted(envelope)
    for copy in copies:
        assert copy.to
        assert len(copy.recipients) <= most
        visible = [mailbox.address for mailbox in (*copy.to, *copy.cc)]
        hidden = [address for address in visible if plain(address) not in shown]
        assert not hidden or list(copy.recipients) == hidden


def test_the_signature_for_ses_is_the_one_awss_own_library_makes():
    """botocore 1.44.8, same request, key and second."""
    body = b'{"Destination":{"ToAddresses":["ann@example.net"]},"Content":{"Raw":{"Data":"eA=="}}}'
    url = "https://email.eu-central-1.amazonaws.com/v2/email/outbound-emails"
    call = HttpRequest("POST", url, {"Content-Type": "application/json"}, body, ())
    key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

    assert signature(call, "AKIDEXAMPLE", key, "eu-central-1", 1_795_514_400.0) == {
        "X-Amz-Date": "20261124T100000Z",
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/eu-central-1/ses/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=004d8d73ec636c83a75a792c91e630a8e10beb05f0ffaa29bc698928f76bdb26",
    }


def asked(*addresses: str) -> DeliveryRequest:
    """As the engine asks: the key of an attempt names the recipients that are left."""
    return replace(request(*addresses), idempotency_key=f"id-1-{len(addresses)}")


KNOWS_REPETITIONS = [kind for kind in KINDS if kind == "http" or CLASSES[kind].capabilities.idempotency]


def sent_twice(kind: str) -> Iterator[HttpRequest]:
    """The call for who is hidden, once beside somebody else's and once after that one is done with."""
    headers = {"Authorization": "Bearer {key}", "Idempotency-Key": "{idempotency_key}"}
    options = {"headers": headers, "idempotent": True} if kind == "http" else {}
    given = {**CLASSES[kind].example, "accept": EVERYTHING, **options}
    provider = build_provider("any", ProviderSettings(kind=kind, api_key_file=Path("unused"), options=given))
    content = b"From: app@example.org\r\nSubject: hi\r\n\r\nhello\r\n"
    for envelope in (("ann@example.net", "dot@example.net"), ("dot@example.net",)):
        found = provider.render(asked(*envelope), content)
        assert isinstance(found, Rendering)
        yield found.requests[-1]


@pytest.mark.parametrize("kind", KNOWS_REPETITIONS)
def test_a_call_is_known_again_although_others_of_its_attempt_are_done_with(kind):
    """One recipient was sent to, the other is in doubt: the vendor must recognise the repetition for that one."""
    first, again = sent_twice(kind)

    assert first.copies == again.copies == (("dot@example.net",),)
    assert (first.headers, first.body) == (again.headers, again.body)
