"""Golden messages: `sendpost/NAME.eml` and its envelope become exactly the calls, or the refusal, of `NAME.json`.

A message is stored with LF and read with CRLF. A call is its JSON; everything else about the request is the same for
every message and is compared once. `losses` are what the message lost by consent.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relay.mail.dialects import read_directives, without_directives
from relay.mail.envelope import Envelope, Recipient
from relay.mail.message import header_block, header_fields
from relay.ports import DeliveryRequest
from relay.settings import ProviderSettings
from relay.transports.providers import build_provider
from relay.transports.providers.base import Refusal

FOLDER = Path(__file__).parent / "sendpost"
CASES = sorted(path.stem for path in FOLDER.glob("*.eml"))


def result_of(name: str, case: dict[str, Any]) -> dict[str, Any]:
    """What the provider makes of a case, in the words of its file."""
    config = ProviderSettings(kind="sendpost", api_key_file=Path("unused"), options=case.get("options", {}))
    recipients = tuple(Recipient(address) for address in case["recipients"])
    envelope = Envelope(case["reverse_path"], recipients)
    content = (FOLDER / f"{name}.eml").read_bytes().replace(b"\n", b"\r\n")
    asked = read_directives(header_fields(header_block(content)))
    request = DeliveryRequest("id-1", "acme", case["reverse_path"], recipients, "", envelope, directives=asked)
    rendering = build_provider("sp", config).render(request, without_directives(content))
    if isinstance(rendering, Refusal):
        return {"refusal": str(rendering.reply)}
    for call in rendering.requests:
        assert (call.method, call.url) == ("POST", "https://api.sendpost.io/api/v1/subaccount/email/")
        assert call.headers["Content-Type"] == "application/json"
        assert "X-SubAccount-ApiKey" not in call.headers
    return {"losses": sorted(rendering.losses), "calls": [json.loads(call.body) for call in rendering.requests]}


@pytest.mark.parametrize("name", CASES)
def test_golden_message(name: str) -> None:
    """The calls are the golden ones, field by field."""
    case = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    wanted = {key: case[key] for key in ("refusal", "losses", "calls") if key in case}

    assert result_of(name, case) == wanted


def test_every_golden_file_is_run() -> None:
    """A message without expectation, or the reverse, would test nothing."""
    assert CASES
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == CASES
