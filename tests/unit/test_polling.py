"""Asking providers for news: what is asked when, what is kept when, and what happens when an answer fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.mail.errors import OperatorError, SettingsError, StoreError
from relay.mail.event import EventKind
from relay.mail.outcome import Deferred, Fault, Outcome
from relay.mail.reply import reply
from relay.polling import LONGEST_PAUSE, MOST_PAGES, Polling
from relay.ports import Report
from relay.settings import Settings
from relay.store.cursors import Cursors
from relay.transports.build import Polled, build_doors, build_polls
from relay.transports.providers.base import HttpRequest, HttpResponse, Page, Provider, ProviderEvent


class Clock:
    def __init__(self) -> None:
        self.at = 1_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


class Vendor(Provider):
    """Its cursor is a number of pages; the last page is `pages`."""

    kind = "vendor"
    title = "Vendor"
    base_url = ""
    pages = 3

    def __init__(self) -> None: ...

    def render(self, request: Any, content: bytes) -> Any: ...

    def authorise(self, request: Any, api_key: str, now: float) -> Any: ...

    def read(self, response: Any, request: Any) -> Any: ...

    def poll(self, cursor: str, now: float) -> HttpRequest:
        return HttpRequest("GET", f"/{cursor or '0'}", {}, b"", ())

    def page(self, response: HttpResponse, cursor: str, now: float) -> Page:
        number = int(cursor or "0")
        known = ProviderEvent(EventKind.DELIVERED, "d", f"m-{number}", "a@example.net", f"k-{number}")
        strange = ProviderEvent(None, "odd", "m", "", "k")
        return Page((known, strange), str(number + 1), more=number + 1 < self.pages)


class Heard:
    """What the observer was told."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []

    def polled(self, provider: str, known: int, words: tuple[str, ...]) -> None:
        self.all.append(("polled", known, words))

    def poll_failed(self, provider: str, reason: str, pause: float) -> None:
        self.all.append(("failed", reason, pause))


class Scene:
    """`answers` are statuses or outcomes in turn, the last one for ever; own is m-0, the rest are another worker's."""

    def __init__(self, folder: Path, *answers: int | Outcome) -> None:
        self.clock, self.cursors, self.vendor, self.heard = Clock(), Cursors(folder), Vendor(), Heard()
        self.answers: list[int | Outcome] = list(answers or (200,))
        self.asked: list[str] = []
        self.taken: list[str] = []
        self.others: list[str] = []
        self.breaks: Exception | None = None
        self.providers = {"v": Polled(self.vendor, 60.0)}
        self.polling = Polling(
            lambda: self.providers, self.ask, self.own, self.rest, self.cursors, self.clock, self.heard
        )

    async def ask(self, name: str, call: HttpRequest) -> HttpResponse | Outcome:
        self.asked.append(call.url)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return HttpResponse(found, {}, b"") if isinstance(found, int) else found

    async def own(self, reports: Sequence[Report]) -> list[bool]:
        self.taken += [one.key for one in reports]
        return [one.remote_id == "m-0" for one in reports]

    async def rest(self, reports: Sequence[Report]) -> list[bool]:
        if self.breaks is not None:
            raise self.breaks
        self.others += [one.remote_id for one in reports]
        return [True] * len(reports)

    def turn(self, later: float = 0.0) -> None:
        """One look after so many seconds, and what it begins to its end."""
        self.clock.at += later

        async def main() -> None:
            self.polling.look()
            await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))

        asyncio.run(main())


def test_what_is_new_is_handed_on_as_callbacks_are_and_then_the_place_is_kept(tmp_path: Path) -> None:
    """With the provider's name before the key, as for a callback: the same event counts once."""
    scene = Scene(tmp_path)
    scene.turn()

    assert scene.asked == ["/0", "/1", "/2"]
    assert scene.taken == ["v k-0", "v k-1", "v k-2"]
    assert scene.others == ["m-1", "m-2"]
    assert scene.heard.all == [("polled", 3, ("odd",))]
    assert Cursors(tmp_path).read("v") == "3"


def test_a_provider_is_asked_again_after_its_time_and_not_before(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.turn()
    scene.turn(later=59)
    assert scene.asked == ["/0", "/1", "/2"]
    scene.turn(later=2)
    assert scene.asked[3:] == ["/3"]


def test_a_long_list_is_read_a_stretch_at_a_time(tmp_path: Path) -> None:
    """The rest the next time, from where it stopped."""
    scene = Scene(tmp_path)
    scene.vendor.pages = MOST_PAGES + 5
    scene.turn()
    assert (len(scene.asked), scene.cursors.read("v")) == (MOST_PAGES, str(MOST_PAGES))
    scene.turn(later=60)
    assert scene.cursors.read("v") == str(MOST_PAGES + 5)


def test_a_worker_that_does_not_answer_leaves_the_place_where_it_was(tmp_path: Path) -> None:
    """The news is read again."""
    scene = Scene(tmp_path)
    scene.breaks = OperatorError("a worker does not answer")
    scene.turn()
    assert (scene.cursors.read("v"), scene.heard.all) == ("1", [("failed", "a worker does not answer", 60.0)])
    scene.breaks = None
    scene.turn(later=60)
    assert scene.taken == ["v k-0", "v k-1", "v k-1", "v k-2"]


def test_who_fails_is_asked_less_and_less_often_until_it_answers(tmp_path: Path) -> None:
    """Twice as long each time, an hour at the most, or as long as it says; then as ever."""
    busy = Deferred(reply(451, "4.4.1", "no connection"), Fault.HOST, 7200.0)
    scene = Scene(tmp_path, *[500] * 9, busy, 200)
    while len(scene.asked) < 10:
        scene.turn(later=1)
        scene.clock.at += scene.heard.all[-1][2] - 2 if len(scene.heard.all) else 0
        scene.turn()
        scene.turn(later=2)

    pauses = [pause for _, _, pause in scene.heard.all]
    assert pauses == [60, 120, 240, 480, 960, 1920, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE, 7200]
    assert scene.heard.all[0][1] == "Vendor answered HTTP 500"
    assert scene.heard.all[9][1] == "no connection"
    scene.turn(later=7200)
    assert scene.heard.all[-1][0] == "polled"
    scene.answers = [500]
    scene.turn(later=60)
    assert scene.heard.all[-1][2] == 60


def test_a_refused_key_is_told_with_the_fix(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 403)
    scene.turn()
    assert scene.heard.all == [("failed", "Vendor answered HTTP 403; check that the key may read events", 60.0)]


def test_a_page_the_vendor_has_forgotten_begins_the_sweep_again(tmp_path: Path) -> None:
    """And one it never gave is a failure like any other."""
    scene = Scene(tmp_path, 404)
    scene.cursors.keep("v", json.dumps({"since": 999_000.0, "began": 999_500.0, "page": "x"}))
    scene.polling = Polling(
        lambda: scene.providers, scene.ask, scene.own, scene.rest, scene.cursors, scene.clock, scene.heard
    )
    scene.turn()
    assert json.loads(scene.cursors.read("v")) == {"since": 999_000.0, "began": 0.0, "page": ""}
    scene.turn(later=60)
    assert scene.heard.all[-1] == ("failed", "Vendor answered HTTP 404", 60.0)


def test_a_bug_in_a_provider_stops_neither_the_others_nor_the_next_turn(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    class Broken(Vendor):
        def page(self, response: HttpResponse, cursor: str, now: float) -> Page:
            raise ValueError("bug")

    scene.providers["b"] = Polled(Broken(), 60.0)
    scene.turn()
    assert ("failed", "internal error: ValueError: bug", 60.0) in scene.heard.all
    assert ("polled", 3, ("odd",)) in scene.heard.all


def test_who_is_not_configured_any_more_is_not_asked(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.providers.clear()
    scene.turn()
    assert scene.asked == []


def test_a_place_that_cannot_be_kept_is_told_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "polls").write_text("in the way")
    with pytest.raises(StoreError, match=r"polls/v: cannot write it .*check its owner"):
        Cursors(tmp_path).keep("v", "1")


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ({"kind": "mailgun", "poll": "1m"}, r"provider\.p\.poll: events are asked for by domain; set options\.domain"),
        ({"kind": "sendgrid", "poll": "1m"}, r"provider\.p\.poll: SendGrid has no list of events; remove it"),
        ({"kind": "postmark", "poll": "1m", "report_within": 60}, ""),
        ({"kind": "postmark", "report_within": 60}, r"report_within: nothing reports without callbacks; .* or poll"),
    ],
)
def test_what_cannot_be_polled_is_refused_at_the_start(provider: dict[str, Any], words: str) -> None:
    settings = Settings.model_validate({"provider": {"p": {"api_key_file": "x", **provider}}})

    def build() -> dict[str, Polled]:
        build_doors(settings)
        return build_polls(settings)

    if words:
        with pytest.raises(SettingsError, match=words):
            build()
        return
    assert build()["p"].every == 60.0


@pytest.mark.parametrize("text", ["1", "60", "9s", "0m", "1d", "25h", "1.5m", " 1m"])
def test_a_time_nobody_can_mean_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write it as 30s, 5m or 1h|10s at the least"):
        Settings.model_validate({"provider": {"p": {"kind": "postmark", "api_key_file": "x", "poll": text}}})
