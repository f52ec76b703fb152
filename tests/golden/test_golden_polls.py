"""Golden polls: what a provider is asked for news, and what its answer in `KIND/polls.json` says.

A case: `cursor` (from, began, page) or none; `asked`, the URL; `answer` (JSON); `events` as in golden callbacks, with
the key that tells a repetition; `next`, the page asked for next, and whether at once (`more`); or `error`, in words.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from kinds import KINDS, built

from relay.transports.providers import provider_classes
from relay.transports.providers.base import Callback, CallbackError, HttpResponse, Provider
from relay.transports.providers.polls import FIRST, LONGEST_AGO, OVERLAP, Sweep, begun_again, sweep_of, under_way

HERE = Path(__file__).parent
NOW = 1_795_600_800.0
POLLED = sorted(kind for kind, provider in provider_classes().items() if provider.capabilities.polling != "none")
OPTIONS: dict[str, dict[str, Any]] = {"mailgun": {"domain": "mg.example.org"}}


def cases_of(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / kind / "polls.json").read_text(encoding="utf-8"))
    return found


def answer(body: Any) -> HttpResponse:
    return HttpResponse(200, {}, json.dumps(body).encode())


def polled(kind: str) -> Provider:
    return built(kind, **OPTIONS.get(kind, {}))


def said_by(kind: str, case: dict[str, Any]) -> dict[str, Any]:
    adapter, cursor = polled(kind), json.dumps(case["cursor"]) if "cursor" in case else ""
    call = adapter.poll(cursor, NOW)
    assert (call.method, call.body, call.copies) == ("GET", b"", ())
    try:
        page = adapter.page(answer(case["answer"]), cursor, NOW)
    except CallbackError as error:
        return {"asked": call.url, "error": str(error)}
    events = [
        [one.kind.value if one.kind else None, one.remote_id, one.recipient, one.at, one.said, one.hard, one.key]
        for one in page.events
    ]
    sweep = sweep_of(page.cursor, NOW)
    return {"asked": call.url, "events": events, "next": [sweep.since, sweep.page], "more": page.more}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in POLLED for name in cases_of(kind)])
def test_golden_poll(kind: str, name: str) -> None:
    """Word by word."""
    case = cases_of(kind)[name]

    assert said_by(kind, case) == {key: value for key, value in case.items() if key not in ("cursor", "answer")}


@pytest.mark.parametrize("kind", KINDS)
def test_only_kinds_that_say_so_are_asked(kind: str) -> None:
    """And the others refuse the setting, with words."""
    adapter = polled(kind)

    assert (type(adapter).poll is not Provider.poll) == (kind in POLLED)
    assert bool(adapter.poll_problem()) == (kind not in POLLED)


@pytest.mark.parametrize("kind", POLLED)
def test_the_first_question_reaches_back_a_day_and_the_next_sweep_overlaps(kind: str) -> None:
    """What stands in the list with a delay is found; what was read before counts once."""
    first = sweep_of("", NOW)
    assert first.since == NOW - FIRST
    ended = sweep_of(first.ended(), NOW + 60)
    assert (ended.since, ended.began, ended.page) == (NOW - OVERLAP, NOW + 60, "")
    further = first.at("7")
    assert under_way(further, NOW)
    assert not under_way(begun_again(further, NOW), NOW)
    assert sweep_of(begun_again(further, NOW), NOW).since == first.since


@pytest.mark.parametrize("cursor", ["7", "[]", "{", '{"since":"x","began":0,"page":""}', '{"since":null}', "\0"])
def test_a_cursor_nobody_can_read_begins_anew(cursor: str) -> None:
    assert sweep_of(cursor, NOW) == sweep_of("", NOW)


@pytest.mark.parametrize(
    "cursor",
    [
        {"since": NOW + 31_536_000.0, "began": 0.0, "page": ""},
        {"since": NOW - 60, "began": NOW + 31_536_000.0, "page": "7"},
    ],
)
def test_a_clock_that_was_ahead_leaves_no_gap_until_then(cursor: dict[str, Any]) -> None:
    """The last day is read again."""
    assert sweep_of(json.dumps(cursor), NOW) == sweep_of("", NOW)


@pytest.mark.parametrize("page", ["", "7"])
def test_after_a_long_pause_nobody_is_asked_for_what_vendors_have_forgotten(page: str) -> None:
    """They answer 400 to such a question, and would for ever."""
    long_ago = json.dumps({"since": NOW - 90 * 86_400, "began": NOW - 90 * 86_400, "page": page})
    assert sweep_of(long_ago, NOW) == Sweep(NOW - LONGEST_AGO, NOW)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("mailgun", {"items": [{}], "paging": {"next": "https://api.mailgun.net/v3/x/events/a b"}}),
        ("sparkpost", {"results": [{}], "links": {"next": "/api/v1/events/message?cursor=%00"}}),
        ("sparkpost", {"results": [{}], "links": {"next": "//["}}),
        ("resend", {"data": [{"id": "a b", "created_at": "2026-11-25T09:00:00Z"}], "has_more": True}),
    ],
)
def test_a_next_page_that_cannot_be_asked_for_is_an_error_and_not_the_end(kind: str, body: Any) -> None:
    """Or what stands there would be skipped, and nobody told."""
    with pytest.raises(CallbackError):
        polled(kind).page(answer(body), "", NOW)


def test_a_plus_sign_in_the_cursor_of_a_link_is_one() -> None:
    body = {"results": [{}], "links": {"next": "/api/v1/events/message?cursor=a+b%2Fc==&per_page=1000"}}
    page = polled("sparkpost").page(answer(body), "", NOW)
    assert (page.more, sweep_of(page.cursor, NOW).page) == (True, "a+b/c==")


@pytest.mark.parametrize(("created", "more"), [("2026-11-21T09:00:00Z", True), ("2026-11-19T09:00:00Z", False)])
def test_after_a_pause_of_days_emails_from_before_it_are_looked_at(created: str, more: bool) -> None:
    """A sweep reaches two days further back than the time up to which the one before had read."""
    cursor = json.dumps({"since": NOW - 3 * 86_400, "began": 0.0, "page": ""})
    body = {"data": [{"id": "r-1", "created_at": created}], "has_more": True}
    assert polled("resend").page(answer(body), cursor, NOW).more is more


@pytest.mark.parametrize("kind", POLLED)
@pytest.mark.parametrize(
    "body", [None, 7, [], {}, {"items": 7}, {"results": {}}, {"Bounces": None}, {"events": "x"}, {"data": "x"},
             {"items": [7], "paging": 7}, {"results": [[]], "links": []}, {"Bounces": [7]}, {"events": [7]},
             {"data": [7]}, {"data": [{"id": {}, "to": {}, "last_event": []}], "has_more": True},
             {"items": [{}], "paging": {"next": "https://evil.example/v3/x/events/../../y?z#"}},
             {"results": [{}], "links": {"next": "//evil.example/?cursor=%0d%0aX"}},
             {"Bounces": [{"ID": True, "BouncedAt": {}}]}, {"events": [{"event": {}, "date": []}]}],
)  # fmt: skip
def test_any_answer_is_a_page_or_an_error(kind: str, body: Any) -> None:
    """It says of nobody what the vendor does not, and the next question goes to the vendor again, whatever it names."""
    adapter = polled(kind)
    try:
        page = adapter.page(answer(body), "", NOW)
    except CallbackError:
        return
    assert all(event.kind is None or kind == "postmark" for event in page.events)
    url = adapter.poll(page.cursor, NOW).url
    assert url.startswith(adapter.base_url)
    assert "\n" not in url


@pytest.mark.parametrize(("at", "more"), [("2026-11-25T09:00:00Z", True), ("2026-11-23T09:00:00Z", False)])
def test_bounces_are_read_back_to_where_the_last_sweep_began(at: str, more: bool) -> None:
    """Newest first: a full page of older ones is the last."""
    bounce = {"ID": 7, "Type": "HardBounce", "MessageID": "m", "Email": "ann@example.net", "BouncedAt": at}
    page = polled("postmark").page(answer({"Bounces": [bounce] * 500}), "", NOW)

    assert (page.more, under_way(page.cursor, NOW)) == (more, more)


class Bounces:
    """Postmark's list of them, newest first, of which a search brings 10,000; `now` is 10 in the morning of UTC."""

    def __init__(self, moments: list[float], *, knows_seconds: bool = True) -> None:
        self._bounces = [(self._local(at), self._bounce(at)) for at in sorted(moments, reverse=True)]
        self._knows_seconds = knows_seconds
        self.searches: list[str] = []

    def answer(self, url: str) -> HttpResponse:
        asked = dict(parse_qsl(urlsplit(url).query))
        offset, until = int(asked["offset"]), asked.get("todate", "")
        assert offset + int(asked["count"]) <= 10_000
        if until not in self.searches:
            self.searches.append(until)
        end = self._end(until) if until else "9"
        found = [bounce for local, bounce in self._bounces if local <= end]
        return answer({"Bounces": found[offset : offset + int(asked["count"])]})

    def _end(self, until: str) -> str:
        return until if "T" in until and self._knows_seconds else f"{until[:10]}T24"

    def _local(self, at: float) -> str:
        return datetime.fromtimestamp(at, timezone(timedelta(hours=-5))).strftime("%Y-%m-%dT%H:%M:%S")

    def _bounce(self, at: float) -> dict[str, object]:
        moment = datetime.fromtimestamp(at, UTC).isoformat()
        return {"ID": f"b{at}", "Type": "HardBounce", "MessageID": "m", "Email": "a@b.example", "BouncedAt": moment}


def swept(bounces: Bounces, since: float) -> set[str]:
    adapter, cursor, found = polled("postmark"), json.dumps({"since": since, "began": 0.0, "page": ""}), set()
    for _ in range(200):
        page = adapter.page(bounces.answer(adapter.poll(cursor, NOW).url), cursor, NOW)
        found |= {event.key for event in page.events}
        cursor = page.cursor
        if not page.more:
            assert not under_way(cursor, NOW)
            return found
    raise AssertionError("a sweep without end")


def test_more_bounces_than_a_search_brings_are_read_by_narrower_ones() -> None:
    """Five days' worth, none of them left out; where one day has too many, by the second."""
    moments = [NOW - 20.0 * n for n in range(21_600)]
    bounces = Bounces(moments)
    assert swept(bounces, NOW - 20.0 * 21_590) >= {f"bounce b{at}" for at in moments[:21_590]}
    assert all(len(until) in (0, 10) for until in bounces.searches)

    moments = [NOW - 1.0 * n for n in range(25_000)]
    bounces = Bounces(moments)
    assert swept(bounces, NOW - 24_990.0) >= {f"bounce b{at}" for at in moments[:24_990]}
    assert any("T" in until for until in bounces.searches)


def test_a_sweep_ends_where_no_search_is_narrower() -> None:
    """Of more than 10,000 in a moment, and where the vendor would not take a second for an end."""
    assert len(swept(Bounces([NOW - n / 1000 for n in range(15_000)]), NOW - 3600)) == 10_000
    assert len(swept(Bounces([NOW - n for n in range(15_000)], knows_seconds=False), NOW - 20_000)) == 10_000


def test_one_entry_whose_time_cannot_be_read_does_not_end_the_sweep() -> None:
    at = "2026-11-25T09:00:00Z"
    bounce = {"ID": 7, "Type": "HardBounce", "MessageID": "m", "Email": "ann@example.net", "BouncedAt": at}
    bounces = [{**bounce, "BouncedAt": "soon"}, *[bounce] * 499]
    assert polled("postmark").page(answer({"Bounces": bounces}), "", NOW).more

    email = {"id": "r-1", "to": ["ann@example.net"], "last_event": "delivered", "created_at": at}
    emails = [{**email, "created_at": "soon"}, email]
    assert polled("resend").page(answer({"data": emails, "has_more": True}), "", NOW).more


def test_a_full_page_of_events_asks_for_the_next_at_once() -> None:
    event = {"email": "ann@example.net", "messageId": "m", "event": "delivered", "date": "2026-11-25T09:00:00Z"}
    page = polled("brevo").page(answer({"events": [event] * 2500}), "", NOW)

    assert (page.more, sweep_of(page.cursor, NOW).page) == (True, "2500")


BREVO = {"email": "Ann@example.net", "reason": "no"}
SAME: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("mailgun", {"event-data": {"event": "delivered", "id": "e-1"}}, {"items": [{"event": "delivered", "id": "e-1"}]}),
    ("sparkpost", {"msys": {"message_event": {"type": "bounce", "event_id": "7"}}},
     {"results": [{"type": "bounce", "event_id": "7"}]}),
    ("postmark", {"RecordType": "Bounce", "ID": 42, "Type": "HardBounce", "BouncedAt": "2026-11-25T10:00:00Z"},
     {"Bounces": [{"ID": 42, "Type": "HardBounce", "BouncedAt": "2026-11-25T05:00:00-05:00"}]}),
    ("brevo", {"event": "hard_bounce", "message-id": "<m@x>", "ts_epoch": 1795600800123, **BREVO},
     {"events": [{"event": "hardBounces", "messageId": "<m@x>", "date": "2026-11-25T11:00:07.000+01:00", **BREVO}]}),
    ("brevo", {"event": "click", "message-id": "<m@x>", "ts_epoch": 1795600800123, **BREVO},
     {"events": [{"event": "clicks", "messageId": "<m@x>", "date": "2026-11-25T11:00:00.000+01:00", **BREVO}]}),
    ("resend", {"type": "email.delivered", "created_at": "2026-11-25T10:00:00Z",
                "data": {"email_id": "r-1", "to": ["Ann <Ann@example.net>"]}},
     {"data": [{"id": "r-1", "to": ["ann@example.net"], "last_event": "clicked"}]}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "called", "asked"), SAME)
def test_an_event_asked_for_and_called_back_is_the_same(
    kind: str, called: dict[str, Any], asked: dict[str, Any]
) -> None:
    """So that it counts once."""
    adapter = polled(kind)
    [one] = adapter.events(Callback({}, json.dumps(called).encode(), "", NOW))
    [other] = adapter.page(answer(asked), "", NOW).events

    assert (one.kind, one.key) == (other.kind, other.key)
    assert one.kind is not None
