"""Whether a vendor has a message: page by page, and whatever is no answer leaves the question open."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from relay.mail.envelope import Envelope, Recipient
from relay.mail.outcome import Deferred, Fault, Outcome
from relay.mail.reply import reply
from relay.ports import DeliveryRequest, Knowledge
from relay.settings import ProviderSettings
from relay.transports.inquiry import MOST_PAGES, known_to
from relay.transports.providers import build_provider
from relay.transports.providers.base import HttpRequest, HttpResponse, Lost

ANN, BOB = "Ann@example.net", "bob@bücher.example"
CONTENT = b"From: app@example.org\r\nMessage-ID: <1@example.org>\r\n\r\nx\r\n"


def lost(*recipients: str) -> Lost:
    people = tuple(Recipient(one) for one in recipients or (ANN, BOB))
    request = DeliveryRequest("id-1", "acme", "app@example.org", people, "", Envelope("app@example.org", people))
    return Lost(request, CONTENT, 1_795_600_800.0)


def event(address: str) -> dict[str, Any]:
    return {"event": "accepted", "recipient": address, "message": {"headers": {"message-id": "1@example.org"}}}


def page(*addresses: str, further: str = "") -> HttpResponse:
    answer = {"items": [event(one) for one in addresses], "paging": {"next": f"https://x/events/{further}"}}
    return HttpResponse(200, {}, json.dumps(answer).encode())


class Vendor:
    """Answers in turn, the last one for ever."""

    def __init__(self, *answers: HttpResponse | Outcome) -> None:
        self.answers = list(answers)
        self.asked: list[HttpRequest] = []

    async def ask(self, call: HttpRequest) -> HttpResponse | Outcome:
        self.asked.append(call)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def known(vendor: Vendor, about: Lost | None = None) -> Knowledge | None:
    provider = build_provider("any", ProviderSettings(kind="mailgun", api_key_file=Path("unused")))
    return asyncio.run(known_to(provider, vendor.ask, about or lost()))


def test_whom_it_has_is_known_however_their_address_is_written_there() -> None:
    vendor = Vendor(page("ann@EXAMPLE.net", "bob@xn--bcher-kva.example", "eve@example.net"))
    assert known(vendor) == Knowledge({ANN: "1@example.org", BOB: "1@example.org"}, complete=True, words="")


def test_two_spellings_of_one_mailbox_are_both_known() -> None:
    assert known(Vendor(page("ann@example.net")), lost(ANN, "ann@example.net")) == Knowledge(
        {ANN: "1@example.org", "ann@example.net": "1@example.org"}, complete=True, words=""
    )


def test_an_empty_list_says_that_it_has_nothing() -> None:
    assert known(Vendor(page())) == Knowledge({}, complete=True, words="")


def test_every_page_is_asked_for_until_all_are_found() -> None:
    vendor = Vendor(page("eve@example.net", further="two"), page(ANN, further="three"), page(BOB, further="four"))
    found = known(vendor)
    assert found is not None
    assert (set(found.remote_ids), found.complete) == ({ANN, BOB}, True)
    assert [call.url.rpartition("/")[2][:6] for call in vendor.asked] == ["events", "two", "three"]


def test_what_was_found_before_a_page_that_is_none_counts() -> None:
    found = known(Vendor(page(ANN, further="two"), HttpResponse(500, {}, b"")))
    assert found == Knowledge({ANN: "1@example.org"}, complete=False, words="answered HTTP 500")


def test_pages_without_end_are_no_absence() -> None:
    vendor = Vendor(*(page("eve@example.net", further=f"p{number}") for number in range(MOST_PAGES + 5)))
    found = known(vendor)
    assert found is not None
    assert (found.complete, len(vendor.asked)) == (False, MOST_PAGES)


@pytest.mark.parametrize(
    ("answer", "words", "wish"),
    [
        (HttpResponse(401, {}, b""), "answered HTTP 401; check that the key may read this", None),
        (HttpResponse(429, {}, b"", 90.0), "answered HTTP 429", 90.0),
        (HttpResponse(500, {}, b"{}"), "answered HTTP 500", None),
        (HttpResponse(404, {}, b'{"items": []}'), "answered HTTP 404", None),
        (
            HttpResponse(200, {}, b"<html>"),
            "gave an answer that cannot be used: the answer holds no list 'items'",
            None,
        ),
        (Deferred(reply(451, "4.4.1", "no connection"), Fault.HOST, 60.0), "gave no answer: no connection", 60.0),
    ],
)
def test_what_is_no_answer_says_neither(answer: HttpResponse | Outcome, words: str, wish: float | None) -> None:
    assert known(Vendor(answer)) == Knowledge({}, complete=False, words=words, retry_after=wish)


def test_a_bug_in_an_adapter_says_neither(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Vendor):
        async def ask(self, call: HttpRequest) -> HttpResponse | Outcome:
            raise RuntimeError("a bug")

    found = known(Broken())
    assert found is not None
    assert (found.complete, len(caplog.records)) == (False, 1)


def test_a_message_that_cannot_be_found_there_is_not_asked_for() -> None:
    vendor = Vendor(page())
    about = Lost(lost().request, b"From: app@example.org\r\n\r\nx\r\n", 0.0)
    assert known(vendor, about) is None
    assert vendor.asked == []
