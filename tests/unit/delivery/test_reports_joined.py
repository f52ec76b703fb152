"""Whose a report is: the message its teller took under this id, and the recipient it names; never somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.delivery import reports as module
from relay.delivery.reports import Reports
from relay.mail.envelope import Envelope, Recipient
from relay.mail.event import EventKind
from relay.mail.lifecycle import State
from relay.ports import HandedOn, News, QueuedMessage, QueuedRecipient, Report, Suppress, suppress_nothing
from relay.settings import Settings

LONG = "0193c1f2-8d5b-7c1e-9f00-aaaaaaaaaaaa"


def taken(message: str, address: str, by: str, remote_id: str) -> HandedOn:
    recipient = QueuedRecipient(0, Recipient(address), 1, 0.0, remote_id=remote_id)
    envelope = Envelope("a@example.org", (recipient.recipient,))
    queued = QueuedMessage(message, "acme", "acme", envelope, 1, 0.0, (), (recipient,))
    return HandedOn(queued, State.SENT, by)


class Spool:
    def __init__(self, *found: HandedOn) -> None:
        self.found = found
        self.news: list[News] = []
        self.known: set[str] = set()

    def new_id(self) -> str:
        return "notice"

    async def handed_on(self, remote_ids: Sequence[str]) -> list[HandedOn]:
        return [one for one in self.found if one.remote_id in remote_ids]

    async def reported(self, keys: Sequence[str]) -> set[str]:
        return self.known & set(keys)

    async def report(self, news: Sequence[News]) -> list[bool]:
        self.news += news
        self.known |= {one.key for one in news}
        return [False] * len(news)


class Clock:
    def now(self) -> float:
        return 1_000.0


def told(spool: Spool, *reports: Report, suppress: Suppress = suppress_nothing) -> list[bool]:
    observer: Any = None
    given = Settings.model_validate({"server": {"var": str(Path("/nowhere"))}})
    clock: Any = Clock()
    taker = Reports(
        spool, lambda: given, clock, lambda event, ended: None, observer, lambda: None, lambda name: None, suppress
    )
    return asyncio.run(taker.take(reports))


def report(remote_id: str, recipient: str, by: str) -> Report:
    return Report(EventKind.OPENED, remote_id, recipient, f"{by} k", 1.0, by=f"provider:{by}")


@pytest.mark.parametrize("recipient", ["", "ann@example.net"])
def test_a_campaign_of_one_account_says_nothing_of_another_accounts_campaign_with_its_number(recipient: str) -> None:
    spool = Spool(taken("m-1", "ann@example.net", "provider:ours", "16"))
    assert told(spool, report("16", recipient, "theirs")) == [False]
    assert spool.news == []


def test_of_two_accounts_campaigns_with_one_number_each_hears_of_its_own() -> None:
    spool = Spool(
        taken("m-1", "ann@example.net", "provider:one", "16"), taken("m-2", "bob@example.net", "provider:two", "16")
    )
    assert told(spool, report("16", "", "two"), report("16", "", "one")) == [True, True]
    assert [one.message_id for one in spool.news] == ["m-2", "m-1"]


def test_an_id_no_other_account_has_is_found_though_its_provider_has_another_name_by_now() -> None:
    spool = Spool(taken("m-1", "ann@example.net", "provider:old", LONG))
    assert told(spool, report(LONG, "Ann@EXAMPLE.net", "new")) == [True]


def test_where_two_recipients_share_an_id_a_report_that_names_none_is_of_neither() -> None:
    spool = Spool(*(taken("m-1", f"{name}@example.net", "provider:v", LONG) for name in ("ann", "bob")))
    assert told(spool, report(LONG, "", "v")) == [False]


def test_a_thousand_reports_of_a_thousand_recipients_look_at_each_recipient_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A search through all of them for each report would take seconds in which nobody is served."""
    compared = 0

    def comparable(address: str) -> str:
        nonlocal compared
        compared += 1
        return address.lower()

    monkeypatch.setattr(module, "comparable", comparable)
    spool = Spool(*(taken("m-1", f"r{n}@example.net", "provider:v", LONG) for n in range(1000)))
    assert all(told(spool, *(report(LONG, f"r{n}@example.net", "v") for n in range(1000))))
    assert compared == 2000


@pytest.mark.parametrize("kind", [EventKind.BOUNCED, EventKind.COMPLAINED])
def test_what_is_told_again_puts_nobody_back_on_the_list(kind: EventKind) -> None:
    """An operator may have taken the address off, and a poll tells the same for days."""
    spool, listed = Spool(taken("m-1", "ann@example.net", "provider:v", LONG)), list[str]()

    async def suppress(account: str, address: str, kind: EventKind, words: str, hard: bool | None = None) -> None:
        listed.append(address)

    one = Report(kind, LONG, "ann@example.net", "v k", 1.0, "5.1.1", by="provider:v")
    told(spool, one, suppress=suppress)
    assert listed == ["ann@example.net"]
    told(spool, one, suppress=suppress)
    assert listed == ["ann@example.net"]
