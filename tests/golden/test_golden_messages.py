"""Golden messages: `KIND/NAME.eml` or `messages/NAME.eml` and its envelope become exactly what `KIND/NAME.json` says.

A message is stored with LF and read with CRLF. A call is its URL's path and its body: JSON as such, a whole message in
base64 and anything else as lines of text; where its answer leads to others, they are listed
one after the other. `losses` are what the message lost by consent.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from kinds import KINDS, built, chain

from relay.mail.dialects import read_directives, without_directives
from relay.mail.envelope import Envelope, Recipient
from relay.mail.message import header_block, header_fields
from relay.ports import DeliveryRequest
from relay.transports.providers.base import HttpRequest, Refusal

HERE = Path(__file__).parent
ANSWERS = "answers"
CASES = [
    (kind, path.stem)
    for kind in KINDS
    for path in sorted((HERE / kind).glob("*.json"))
    if path.stem not in (ANSWERS, "events", "polls", "questions")
]


def message(kind: str, name: str) -> bytes:
    own = HERE / kind / f"{name}.eml"
    path = own if own.exists() else HERE / "messages" / f"{name}.eml"
    return path.read_bytes().replace(b"\n", b"\r\n")


def result_of(kind: str, name: str, case: dict[str, Any]) -> dict[str, Any]:
    """What the provider makes of a case, in the words of its file."""
    recipients = tuple(Recipient(address) for address in case["recipients"])
    envelope = Envelope(case["reverse_path"], recipients)
    content = message(kind, name)
    asked = read_directives(header_fields(header_block(content)))
    request = DeliveryRequest(
        "id-1", "acme", case["reverse_path"], recipients, "", envelope, idempotency_key="id-1-0", directives=asked
    )
    rendering = built(kind, **case.get("options", {})).render(request, without_directives(content))
    if isinstance(rendering, Refusal):
        return {"refusal": str(rendering.reply)}
    return {
        "losses": sorted(rendering.losses),
        "calls": [_call(one) for call in rendering.requests for one in chain(kind, call)],
    }


def _call(call: HttpRequest) -> Any:
    assert call.method == "POST"
    names = {name.lower() for name in call.headers}
    assert not names & {"authorization", "api-key", "x-subaccount-apikey", "x-postmark-server-token"}
    body: Any
    if call.headers["Content-Type"] == "text/plain":
        octets = base64.b64decode(call.body, validate=True)
        assert base64.b64encode(octets) == call.body
        body = {"base64": octets.decode("utf-8").split("\r\n")}
    elif call.headers["Content-Type"] == "application/json":
        body = json.loads(call.body)
        if list(body) == ["raw"]:
            octets = base64.urlsafe_b64decode(body["raw"])
            assert base64.urlsafe_b64encode(octets).decode() == body["raw"]
            body = {"raw": octets.decode("utf-8").split("\r\n")}
    else:
        body = call.body.decode("utf-8").split("\r\n")
    url = urlsplit(call.url)
    found = {"path": url.path, **({"query": url.query} if url.query else {}), "body": body}
    more = {name: value for name, value in call.headers.items() if name not in ("Content-Type", "Accept")}
    return {**found, "headers": more} if more else found


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_golden_message(kind: str, name: str) -> None:
    """The calls are the golden ones, field by field."""
    case = json.loads((HERE / kind / f"{name}.json").read_text(encoding="utf-8"))
    wanted = {key: case[key] for key in ("refusal", "losses", "calls") if key in case}

    assert result_of(kind, name, case) == wanted


def test_every_golden_file_is_run() -> None:
    """A message without expectation would test nothing."""
    for kind in KINDS:
        assert {path.stem for path in (HERE / kind).glob("*.eml")} <= {name for of, name in CASES if of == kind}
    shared = {path.stem for path in (HERE / "messages").glob("*.eml")}
    assert shared <= {name for _, name in CASES}


@pytest.mark.parametrize("kind", KINDS)
def test_every_provider_has_golden_messages_and_answers(kind: str) -> None:
    """At least these; what a vendor does differently has files of its own."""
    names = {name for of, name in CASES if of == kind}
    assert names >= {"alternative", "attachments", "bcc-beside-to-and-cc", "inline-image", "tagged"}
    assert (HERE / kind / f"{ANSWERS}.json").exists()
    assert (HERE / kind / "events.json").exists()
