"""Every kind of provider, built as a test wants it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from relay.settings import ProviderSettings
from relay.transports.providers import build_provider, provider_classes
from relay.transports.providers.base import HttpRequest, HttpResponse, Provider

KINDS = sorted(provider_classes())
# What calls that prepare others are answered, in order.
PREPARED: dict[str, list[Any]] = {"sendlio": [{"id": 16, "results_count": 1}]}
NOW = 1_795_600_000.0


def chain(kind: str, call: HttpRequest) -> list[HttpRequest]:
    """The call and those its answers lead to."""
    found = [call]
    for answer in PREPARED.get(kind, ()):
        assert found[-1].prepares
        assert found[-1].follow is not None
        following = found[-1].follow(HttpResponse(200, {}, json.dumps(answer).encode()), NOW)
        assert following is not None
        assert following.copies == call.copies
        found.append(following)
    assert not found[-1].prepares
    return found


def built(kind: str, **options: Any) -> Provider:
    """With what the kind cannot do without, and what a case adds."""
    more = {**provider_classes()[kind].example, **options}
    return build_provider("any", ProviderSettings(kind=kind, api_key_file=Path("unused"), options=more))
