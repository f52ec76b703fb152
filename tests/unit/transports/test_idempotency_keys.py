"""Two calls that are not one have two idempotency keys: a vendor carries out the second of one key never."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sendpost_setting import request
from test_every_provider import PROVIDERS

from relay.mail.directives import Directives
from relay.transports.providers.base import Rendering

WITH_KEYS = sorted(kind for kind, one in PROVIDERS.items() if one.capabilities.idempotency)
CONTENT = b"From: app@example.org\r\nTo: ann@mx.example\r\nSubject: x\r\n\r\nx\r\n"


def key(kind: str, given: str, account: str = "acme", message_id: str = "id-1") -> str:
    asked = replace(
        request("ann@mx.example"), message_id=message_id, account=account, directives=Directives(idempotency_key=given)
    )
    found = PROVIDERS[kind].render(asked, CONTENT)
    assert isinstance(found, Rendering), found
    [call] = found.requests
    headers: dict[str, Any] = {name.lower(): value for name, value in call.headers.items()}
    return str(headers.get("idempotency-key") or call.body)


@pytest.mark.parametrize("kind", WITH_KEYS)
def test_the_same_word_of_two_accounts_is_two_keys(kind: str) -> None:
    """They may share the vendor's account, and `order-1` is anybody's."""
    assert key(kind, "order-1", "acme") != key(kind, "order-1", "shop")


@pytest.mark.parametrize("kind", WITH_KEYS)
@pytest.mark.parametrize(("one", "other"), [("a b", "a_b"), ("x" * 255 + "1", "x" * 255 + "2"), ("ä", "ö")])
def test_words_a_vendor_cannot_take_as_they_are_stay_apart(kind: str, one: str, other: str) -> None:
    assert key(kind, one) != key(kind, other)


@pytest.mark.parametrize("kind", WITH_KEYS)
def test_the_same_word_of_one_account_is_one_key_whatever_message_bears_it(kind: str) -> None:
    assert key(kind, "order-1") == key(kind, "order-1", message_id="id-2")
