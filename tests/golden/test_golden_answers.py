"""Golden answers: what a vendor's answer in `KIND/answers.json` means for each recipient of the call.

A case: `status`, `headers` and `body` of the answer (JSON, or text where it is none), `copies` of the call (one
recipient where it says nothing), `outcomes` by recipient in words: outcome, reply code and status, whose fault,
`elsewhere`, seconds to wait, the vendor's id. `options` of the provider, where it matters.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kinds import KINDS, built

from relay.mail.outcome import Deferred, Failed, Fault, Outcome, Sent
from relay.transports.providers.base import HttpRequest, HttpResponse

HERE = Path(__file__).parent
CASES = [
    (kind, name) for kind in KINDS for name in json.loads((HERE / kind / "answers.json").read_text(encoding="utf-8"))
]


def in_words(outcome: Outcome) -> str:
    words = [type(outcome).__name__.lower(), f"{outcome.reply.code} {outcome.reply.status}"]
    if isinstance(outcome, Sent):
        words.append(outcome.remote_id)
    if isinstance(outcome, Failed) and outcome.elsewhere:
        words.append("elsewhere")
    if isinstance(outcome, Deferred):
        words += [outcome.fault.value] if outcome.fault is not Fault.MESSAGE else []
        words += [f"{outcome.retry_after:.0f}s"] if outcome.retry_after is not None else []
    return " ".join(words)


def outcomes_of(kind: str, case: dict[str, Any]) -> dict[str, str]:
    provider = built(kind, **case.get("options", {}))
    copies = tuple(tuple(copy) for copy in case.get("copies", [["ann@example.net"]]))
    body = case["body"]
    octets = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    headers = case.get("headers", {})
    response = HttpResponse(case["status"], headers, octets, case.get("wait"))
    call = HttpRequest("POST", "https://api.example/", {}, json.dumps(case.get("call", {})).encode(), copies)
    return {address: in_words(outcome) for address, outcome in provider.read(response, call).items()}


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_golden_answer(kind: str, name: str) -> None:
    """Word by word, for everybody of the call."""
    case = json.loads((HERE / kind / "answers.json").read_text(encoding="utf-8"))[name]

    assert outcomes_of(kind, case) == case["outcomes"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [200, 202, 204, 301, 400, 401, 403, 404, 413, 418, 422, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    "body", ["", "no JSON", "[]", "{}", "null", "[null]", '{"errors":7}', '{"Messages":[1]}', '"x"']
)
def test_any_answer_gives_everybody_an_outcome(kind: str, status: int, body: str) -> None:
    """Never an exception; and nothing is called accepted or refused that the answer does not say."""
    copies = [["ann@example.net", "bob@example.net"], ["cid@example.net"]]
    call = {"Messages": [{"To": [{}, {}]}, {"To": [{}]}]}
    found = outcomes_of(kind, {"status": status, "body": body, "copies": copies, "call": call})

    assert sorted(found) == ["ann@example.net", "bob@example.net", "cid@example.net"]
    if kind != "sendgrid" and (kind, status) != ("graph", 202):  # their acceptance has no body
        assert not any(words.startswith("sent") for words in found.values())
    if status in (401, 403):
        assert all(words.startswith("deferred 451 4.7.0 route") for words in found.values())
    if status == 429:
        assert all(words.startswith("deferred 451 4.4.5 host") for words in found.values())
    if status >= 500:
        assert all(words.startswith(("deferred", "indoubt")) for words in found.values())
