"""What the tests of the SendPost adapter share: a provider, a request, a call and an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from relay.mail.envelope import Envelope, Recipient
from relay.mail.outcome import Outcome
from relay.mail.parts import Loss
from relay.ports import DeliveryRequest
from relay.settings import ProviderSettings
from relay.transports.providers import build_provider
from relay.transports.providers.base import HttpRequest, HttpResponse, Provider, Refusal, Rendering

EVERYTHING = tuple(str(loss) for loss in Loss)


def provider(**options: Any) -> Provider:
    return build_provider("sp", ProviderSettings(kind="sendpost", api_key_file=Path("unused"), options=options))


def request(*addresses: str) -> DeliveryRequest:
    recipients = tuple(Recipient(address) for address in addresses)
    return DeliveryRequest("id-1", "acme", "app@example.org", recipients, "", Envelope("app@example.org", recipients))


def rendered(content: bytes, *addresses: str, **options: Any) -> Rendering | Refusal:
    return provider(**options).render(request(*addresses), content)


def calls(content: bytes, *addresses: str, **options: Any) -> list[dict[str, Any]]:
    """The JSON of every call; fails where the message is refused."""
    found = rendered(content, *addresses, **options)
    assert isinstance(found, Rendering), found
    return [json.loads(call.body) for call in found.requests]


def call(*copies: tuple[str, ...]) -> HttpRequest:
    """A call that covers these copies, addressee first."""
    return HttpRequest("POST", "https://api.example/", {}, b"{}", copies)


def read(
    answer: object, *copies: tuple[str, ...], status: int = 200, retry_after: float | None = None
) -> dict[str, Outcome]:
    """What an answer (JSON, or bytes as they are) means for the recipients of `copies`."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return dict(provider().read(HttpResponse(status, {}, body, retry_after), call(*copies)))


def result(to: str | None, code: object = 0, **more: object) -> dict[str, object]:
    """One EmailResponse."""
    named = {} if to is None else {"to": to}
    return {**named, "submittedAt": 1_800_000_000_000_000_000, "messageId": f"m-{to}", "errorCode": code, **more}
