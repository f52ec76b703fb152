"""What may be said of questions about lost answers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from relay.settings import DeliverySettings, ProviderSettings


def test_nobody_is_asked_unless_the_operator_says_so() -> None:
    delivery = DeliverySettings()
    assert (delivery.in_doubt, delivery.query_after, delivery.query_trust, delivery.query_times) == (
        "retry", 60.0, 1800.0, 10,
    )  # fmt: skip


def test_a_provider_is_trusted_as_all_are_unless_it_says_otherwise() -> None:
    given: dict[str, Any] = {"kind": "mailjet", "api_key_file": "key"}
    assert ProviderSettings.model_validate(given).query_trust == 0.0
    assert ProviderSettings.model_validate(given | {"query_trust": 300}).query_trust == 300.0


@pytest.mark.parametrize("wrong", [{"in_doubt": "ask"}, {"query_after": 0}, {"query_trust": 0}, {"query_times": 1}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """One question alone could never be believed: an absence takes two."""
    with pytest.raises(ValidationError):
        DeliverySettings.model_validate(wrong)
