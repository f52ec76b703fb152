"""Sendlio: the audience has to find exactly one, an earlier attempt is found again, Blade expands nothing."""

from __future__ import annotations

import dataclasses
import html
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sendpost_setting import request

from relay.mail.errors import SettingsError
from relay.mail.outcome import Deferred, Failed, InDoubt, Outcome, Sent
from relay.settings import ProviderSettings
from relay.transports.providers import build_provider, provider_classes
from relay.transports.providers.base import HttpRequest, HttpResponse, Provider, Refusal, Rendering
from relay.transports.providers.sendlio_text import code_of, code_of_text, expands
from relay.transports.providers.sendlio_time import next_minute, zone

NOW = datetime(2026, 11, 25, 10, 0, 1, tzinfo=UTC).timestamp()
CONTENT = b"From: app@example.org\r\nTo: ann@example.net\r\nSubject: hi\r\n\r\nhello\r\n"


def sendlio(**options: Any) -> Provider:
    found = {**provider_classes()["sendlio"].example, **options}
    return build_provider("sl", ProviderSettings(kind="sendlio", api_key_file=Path("unused"), options=found))


def first_call(attempt: int = 1) -> HttpRequest:
    asked = dataclasses.replace(request("ann@example.net"), attempt=attempt)
    found = sendlio().render(asked, CONTENT)
    assert isinstance(found, Rendering)
    [call] = found.requests
    return call


def after(call: HttpRequest, answer: Any, status: int = 200) -> HttpRequest | None:
    assert call.follow is not None
    return call.follow(HttpResponse(status, {}, json.dumps(answer).encode()), NOW)


def outcome(call: HttpRequest, answer: Any, status: int = 200) -> Outcome:
    response = HttpResponse(status, {}, json.dumps(answer).encode())
    return sendlio().read(response, call)["ann@example.net"]


# --- whom the audience finds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [0, 2, 5000])
def test_an_audience_of_anybody_else_gets_no_campaign_and_is_taken_away(found: int) -> None:
    tidy = after(first_call(), {"id": 16, "results_count": found})

    assert tidy is not None
    assert tidy.url.endswith("/query/delete")
    assert json.loads(tidy.body) == {"id": 16}
    assert isinstance(tidy.verdict, Failed)
    assert tidy.verdict.elsewhere
    assert f"finds {found} people" in tidy.verdict.reply.text


@pytest.mark.parametrize("answer", [{}, [], {"id": 16}, {"id": 16, "results_count": True}, {"results_count": 1}])
def test_an_audience_that_says_nothing_gets_no_campaign(answer: Any) -> None:
    assert after(first_call(), answer) is None


def test_who_is_asked_for_is_a_value_and_never_sql() -> None:
    body = json.loads(first_call().body)

    assert body["use_raw"] == 0
    assert "raw_query" not in body
    assert body["clauses"][0]["value"] == "ann@example.net"


def test_a_refused_campaign_takes_its_audience_away_and_one_in_doubt_keeps_it() -> None:
    campaign = after(first_call(), {"id": 16, "results_count": 1})
    assert campaign is not None

    tidy = after(campaign, {"error_code": 402, "error": "Missing required parameters"}, 402)
    assert tidy is not None
    assert isinstance(tidy.verdict, Failed)
    assert after(campaign, {"id": 19, "status": "enabled"}) is None
    assert after(campaign, {}) is None
    assert after(campaign, {}, 504) is None


# --- an attempt after the first ------------------------------------------------------------------------------


def test_a_later_attempt_finds_the_campaign_of_the_one_before_and_makes_none() -> None:
    search = first_call(attempt=2)
    name = json.loads(first_call().body)["name"]
    answer = {"data": [{"id": 7, "name": f"{name} x"}, {"id": 19, "name": name}]}

    assert search.method == "GET"
    assert "medium=email" in search.url
    assert after(search, answer) is None
    found = outcome(search, answer)
    assert isinstance(found, Sent)
    assert found.remote_id == "19"


def test_a_later_attempt_without_campaign_begins_anew() -> None:
    query = after(first_call(attempt=2), {"data": [{"id": 7, "name": "another"}]})

    assert query is not None
    assert query.body == first_call().body
    assert query.prepares


def test_a_later_attempt_looks_through_every_page_before_it_makes_a_campaign() -> None:
    search = first_call(attempt=2)
    name = json.loads(first_call().body)["name"]
    page = {"data": [{"id": 7, "name": "another"}], "last_page": 2}

    further = after(search, {**page, "current_page": 1})
    assert further is not None
    assert (further.method, further.prepares) == ("GET", True)
    assert "page=2&" in further.url
    found = {"data": [{"id": 19, "name": name}], "current_page": 2, "last_page": 2}
    assert after(further, found) is None
    assert isinstance(outcome(further, found), Sent)
    query = after(further, {**page, "current_page": 2})
    assert query is not None
    assert query.url.endswith("/query")
    assert after(further, {**page, "current_page": 1}) is None
    assert isinstance(outcome(further, {**page, "current_page": 1}), Deferred | InDoubt)


@pytest.mark.parametrize(("answer", "status"), [({}, 200), ([], 200), ({"data": 7}, 200), ({"data": []}, 500)])
def test_a_search_that_says_nothing_makes_no_second_campaign(answer: Any, status: int) -> None:
    search = first_call(attempt=2)

    assert after(search, answer, status) is None
    assert not isinstance(outcome(search, answer, status), Sent | Failed)


# --- Blade ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["{{ 7*7 }}", "{!! $x !!}", "{{{ x }}}", "@if(1) x @endif", "a@b.example", "{{-- gone --}}", "@@x",
             "<?php echo 1 ?>", "@verbatim", "x@php"],
)  # fmt: skip
def test_a_text_arrives_as_it_was_and_holds_nothing_that_blade_reads(text: str) -> None:
    code = code_of_text(text)

    assert "{{" not in code
    assert "{!!" not in code
    assert "@" not in code
    assert "<?" not in code
    assert html.unescape(code) == f'<pre style="white-space:pre-wrap">{text}</pre>'


def test_a_page_keeps_its_style_and_its_addresses() -> None:
    page = "<style>@media print{a{b:c}}</style><a href='mailto:a@b.example'>@team {{ x }}</a><!-- @if -->"

    code, lost = code_of(page)

    assert not lost
    assert code.startswith("<style>@@media print{a{b:c}}</style>")
    assert code.endswith("<!-- @@if -->")
    assert "mailto:a&#64;b.example'>&#64;team &#123;&#123; x }}" in code


@pytest.mark.parametrize(
    "page", ["<style>{{ x }}</style>", "<!-- {!! x !!} -->", "<?php x ?>", "<script>@php x</script>", "<STYLE>a@php",
             "<p>x</p><?= 1", "<!--<?xml ?>-->", "<style>@@media"],
)  # fmt: skip
def test_what_cannot_be_written_otherwise_is_a_loss(page: str) -> None:
    assert code_of(page)[1]


@pytest.mark.parametrize("subject", ["{{ x }}", "{!! x !!}", "Hello @if", "@team: news", "<?= 1 ?>", "x@verbatim"])
def test_a_subject_that_would_be_expanded_is_refused(subject: str) -> None:
    content = CONTENT.replace(b"hi", subject.encode())
    found = sendlio().render(request("ann@example.net"), content)

    assert isinstance(found, Refusal)
    assert "template-syntax" in found.reply.text


@pytest.mark.parametrize("subject", ["Mail for ann@example.net", "50 % {off}", "me @ home", ""])
def test_other_subjects_are_left_alone(subject: str) -> None:
    assert not expands(subject)


# --- when ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "where", "found"),
    [
        ("2026-11-25T00:00:00+00:00", "UTC", ("2026-11-25", 12, 0, "am")),
        ("2026-11-25T12:00:00+00:00", "UTC", ("2026-11-25", 12, 0, "pm")),
        ("2026-11-25T23:59:01+00:00", "UTC", ("2026-11-26", 12, 0, "am")),
        ("2026-11-25T13:05:30+00:00", "UTC", ("2026-11-25", 1, 6, "pm")),
        ("2026-11-25T03:00:00+00:00", "America/New_York", ("2026-11-24", 10, 0, "pm")),
        ("2026-11-01T05:30:00+00:00", "America/New_York", ("2026-11-01", 1, 30, "am")),
        ("2026-11-01T06:30:00+00:00", "America/New_York", ("2026-11-01", 2, 0, "am")),
    ],
)
def test_a_minute_is_written_by_the_companys_clock(moment: str, where: str, found: tuple[Any, ...]) -> None:
    """The minutes that a clock put back shows a second time are waited out, or Sendlio may take them for past."""
    assert tuple(next_minute(datetime.fromisoformat(moment).timestamp(), zone(where)).values()) == found


def test_the_campaign_runs_no_earlier_than_the_delay() -> None:
    campaign = after(first_call(), {"id": 16, "results_count": 1})
    assert campaign is not None
    body = json.loads(campaign.body)

    assert (body["schedule_hour"], body["schedule_min"], body["schedule_meridian"]) == (10, 4, "am")


# --- settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"campaign": False}, r"set campaign = true .* \[contacts.NAME\]"),
        ({"senders": [], "connection_id": 0}, "set senders, connection_id too"),
        ({"timezone": "Mars/Olympus"}, "options.timezone: no time zone 'Mars/Olympus'"),
        ({"delay": 60}, "options.delay"),
    ],
)
def test_settings_that_cannot_work_name_the_fix(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        sendlio(**options)


def test_campaigns_are_off_until_somebody_asks_for_them() -> None:
    with pytest.raises(SettingsError, match="campaign = true"):
        build_provider("sl", ProviderSettings(kind="sendlio", api_key_file=Path("unused")))
