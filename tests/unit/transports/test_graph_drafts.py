"""What of an attachment is said to Microsoft Graph where it goes alone, behind a draft."""

from __future__ import annotations

import json

import pytest
from test_every_provider import PROVIDERS

from relay.mail.envelope import Envelope, Recipient
from relay.ports import DeliveryRequest
from relay.transports.providers.base import HttpRequest, HttpResponse, Rendering
from relay.transports.providers.graph import Graph, GraphOptions

LARGE = b"\xe9;1\r\n" * 900_000
TO = (Recipient("ann@mx.example"),)


def message(kind: str, data: bytes) -> bytes:
    head = b'From: app@example.org\r\nTo: ann@mx.example\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
    text = b"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
    part = (
        f"--b\r\nContent-Type: {kind}; name=a.csv\r\nContent-Disposition: attachment; filename=a.csv\r\n\r\n".encode()
    )
    return head + text + part + data + b"\r\n--b--\r\n"


def after(call: HttpRequest, status: int, answer: object) -> HttpRequest:
    assert call.follow is not None
    following = call.follow(HttpResponse(status, {}, json.dumps(answer).encode()), 0.0)
    assert following is not None
    return following


def opened(kind: str) -> HttpRequest:
    """The call that opens the upload of the attachment."""
    graph = Graph(GraphOptions(tenant="example.org", upload=True), PROVIDERS["graph"].base_url)
    request = DeliveryRequest("id-1", "acme", "app@example.org", TO, "", Envelope("app@example.org", TO))
    found = graph.render(request, message(kind, LARGE))
    assert isinstance(found, Rendering)
    return after(found.requests[0], 201, {"id": "AAMk="})


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("text/csv; charset=iso-8859-1", "text/csv; charset=iso-8859-1"),
        ("text/csv; charset=utf-8", "text/csv"),
        ("application/pdf", "application/pdf"),
    ],
)
def test_the_charset_of_a_text_goes_along(kind: str, said: str) -> None:
    """Who opens it would take it for UTF-8."""
    assert json.loads(opened(kind).body)["AttachmentItem"]["contentType"] == said


@pytest.mark.parametrize("status", [200, 202])
def test_a_piece_that_is_accepted_is_followed_by_the_next(status: int) -> None:
    first = after(opened("application/pdf"), 201, {"uploadUrl": f"{PROVIDERS['graph'].base_url}/up"})
    assert first.headers["Content-Range"] == f"bytes 0-3932159/{len(LARGE)}"
    second = after(first, status, {"nextExpectedRanges": ["3932160-"]})
    assert second.headers["Content-Range"] == f"bytes 3932160-{len(LARGE) - 1}/{len(LARGE)}"
