"""Golden questions: whether a provider has a message whose answer was lost, and what its answer says.

A case of `KIND/questions.json`: `message` and `recipients` as in golden messages, `options` and `page` where there are
any; `asked`, the URL, or null where this message cannot be asked for; `answer` (JSON); `found`, address and remote id
of each entry that is the message; `next`, the page asked for next; or `error`, in words.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from kinds import KINDS, built
from test_golden_messages import message

from relay.mail.dialects import read_directives, without_directives
from relay.mail.envelope import Envelope, Recipient
from relay.mail.message import header_block, header_fields
from relay.ports import DeliveryRequest
from relay.transports.providers import provider_classes
from relay.transports.providers.base import CallbackError, HttpResponse, Lost, Provider

HERE = Path(__file__).parent
SINCE = 1_795_600_800.0
ASKED = sorted(kind for kind, provider in provider_classes().items() if provider.capabilities.asked != "no")
OPTIONS: dict[str, dict[str, Any]] = {
    "graph": {"sent_items": True, "mailbox": "app@example.org"},
    "http": {
        "template": '{"from": "{from}", "to": "{to}", "bcc": "{bcc}", "subject": "{subject}", "text": "{text}",'
        ' "html": "{html}", "headers": "{headers}", "reference": "{id}"}',
        "question": {
            "url": "https://api.example.com/v1/messages", "query": {"reference": "{id}", "limit": "100"},
            "entries": "/messages", "mark": "/reference", "recipient": "/to", "id": "/id",
        },
    },
    "sendgrid": {"activity": True},
}  # fmt: skip


def cases_of(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / kind / "questions.json").read_text(encoding="utf-8"))
    return found


def asked(kind: str, **options: Any) -> Provider:
    return built(kind, **{**OPTIONS.get(kind, {}), **options})


def lost(kind: str, case: dict[str, Any]) -> Lost:
    recipients = tuple(Recipient(address) for address in case.get("recipients", ("ann@example.net",)))
    content = message(kind, case.get("message", "headers"))
    directives = read_directives(header_fields(header_block(content)))
    request = DeliveryRequest(
        "id-1",
        "acme",
        "app@example.org",
        recipients,
        "",
        Envelope("app@example.org", recipients),
        directives=directives,
    )
    return Lost(request, without_directives(content), SINCE)


def answer(body: Any) -> HttpResponse:
    return HttpResponse(200, {}, json.dumps(body).encode())


def said_by(kind: str, case: dict[str, Any]) -> dict[str, Any]:
    adapter, about, page = asked(kind, **case.get("options", {})), lost(kind, case), case.get("page", "")
    call = adapter.question(about, page)
    if call is None:
        return {"asked": None}
    assert (call.method, call.body, call.copies) == ("GET", b"", ())
    try:
        found = adapter.found(answer(case["answer"]), about, page)
    except CallbackError as error:
        return {"asked": call.url, "error": str(error)}
    return {"asked": call.url, "found": [list(one) for one in found.entries], "next": found.page}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in ASKED for name in cases_of(kind)])
def test_golden_question(kind: str, name: str) -> None:
    """Word by word."""
    case = cases_of(kind)[name]
    wanted = {key: case[key] for key in ("asked", "found", "next", "error") if key in case}

    assert said_by(kind, case) == wanted


@pytest.mark.parametrize("kind", ASKED)
def test_every_kind_has_the_answers_that_matter(kind: str) -> None:
    """It has it; it has none; somebody else's message is no answer."""
    assert {"it has it", "it has none", "another message"} <= cases_of(kind).keys()


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_that_can_be_asked_say_so(kind: str) -> None:
    """And what is optional is asked for by an option alone."""
    declared = provider_classes()[kind].capabilities.asked

    assert (type(built(kind)).question is not Provider.question) == (kind in ASKED)
    assert built(kind).can_be_asked == (declared == "yes")
    assert asked(kind).can_be_asked == (declared != "no")


@pytest.mark.parametrize("kind", ASKED)
@pytest.mark.parametrize(
    "body", [None, 7, [], {}, {"items": 7}, {"results": {}}, {"Messages": None}, {"Data": "x"}, {"messages": 7},
             {"value": 7}, {"Messages": [{}]}, {"Data": [{}]}, {"messages": [{}]}, {"value": [{}]}, {"results": [{}]},
             {"Messages": [{"Metadata": {"sendrelay": "id-1"}}]}, {"Data": [{"CustomID": "id-1"}]},
             {"messages": [{"reference": "id-1"}]}, {"value": [{"internetMessageId": "<x@example.org>"}], "a": 1}],
)  # fmt: skip
def test_an_answer_that_does_not_say_whose_entries_it_lists_is_no_absence(kind: str, body: Any) -> None:
    """Only a list, empty or of others' messages, says that there is none."""
    adapter, about = asked(kind), lost(kind, {})
    try:
        found = adapter.found(answer(body), about, "")
    except CallbackError:
        return
    assert found.entries == ()
    assert (kind, list(body)) == ("graph", ["value", "a"])


@pytest.mark.parametrize("kind", ASKED)
def test_a_body_that_is_no_json_is_no_answer(kind: str) -> None:
    with pytest.raises(CallbackError):
        asked(kind).found(HttpResponse(200, {}, b"<html>Good morning</html>"), lost(kind, {}), "")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("mailgun", {"items": [{}], "paging": {"next": "https://api.mailgun.net/v3/x/events/a b"}}),
        ("sparkpost", {"results": [{"rcpt_meta": {}}], "links": {"next": "/api/v1/events/message?cursor=%00"}}),
        ("graph", {"value": [], "@odata.nextLink": "https://graph.microsoft.com/v1.0/more"}),
    ],
)
def test_a_next_page_that_is_not_asked_for_is_no_absence(kind: str, body: Any) -> None:
    with pytest.raises(CallbackError):
        asked(kind).found(answer(body), lost(kind, {}), "")


@pytest.mark.parametrize(
    ("kind", "name"), [("postmark", "Metadata"), ("sparkpost", "metadata"), ("sendgrid", "custom_args")]
)
def test_what_is_asked_for_is_what_the_call_carried(kind: str, name: str) -> None:
    """The author's own metadata stays; where ours has no room, the message cannot be asked for."""
    for message_name, room in (("headers", True), ("tagged", True), ("full", False)):
        adapter = asked(kind)
        about = lost(kind, {"message": message_name}) if room else full(kind)
        [call] = adapter.render(about.request, about.content).requests  # type: ignore[union-attr] # a Rendering
        carried = json.loads(call.body)[name].get("sendrelay")
        assert (carried == "id-1") == (adapter.question(about, "") is not None) == room


def full(kind: str) -> Lost:
    """With as much metadata as there may be."""
    about = lost(kind, {})
    author = b"".join(b"X-Relay-Metadata-k%d: %s\r\n" % (number, b"v" * 20) for number in range(100))
    directives = read_directives(header_fields(author))
    request = dataclasses.replace(about.request, directives=directives)
    return Lost(request, about.content, about.since)
