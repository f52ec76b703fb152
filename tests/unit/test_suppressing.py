"""Suppression lists between doors, reports and the store: who keeps one, and what happens when it cannot be used."""

from __future__ import annotations

import asyncio
from pathlib import Path

from relay.mail.event import EventKind
from relay.ports import Suppression
from relay.settings import Settings
from relay.store.suppressions import SUPPRESSION_FILE, Suppressions
from relay.suppressing import Suppressing


class Clock:
    def now(self) -> float:
        return 1_000.0

    def monotonic(self) -> float:
        return 0.0


class Scene:
    def __init__(self, folder: Path, **account: object) -> None:
        self.refused: list[tuple[str, ...]] = []
        self.failures: list[Exception] = []
        self.store = Suppressions(folder, Clock())
        settings = Settings.model_validate({"account": {"shop": account}})
        self.suppressing = Suppressing(
            self.store,
            lambda: settings,
            Clock(),
            lambda *what: self.refused.append(what),
            self.failures.append,
        )

    def report(self, account: str, kind: EventKind, words: str) -> None:
        asyncio.run(self.suppressing.reported(account, "Ann@example.net", kind, words))


def test_a_hard_bounce_is_on_the_list_for_so_long(tmp_path: Path) -> None:
    """And its next recipient is refused, which is told."""
    scene = Scene(tmp_path, suppress="bounces", suppress_for=60)
    scene.report("shop", EventKind.BOUNCED, "550 5.1.1 who?")

    assert scene.store.entries() == [Suppression("shop", "ann@example.net", "bounce", "550 5.1.1 who?", 1000.0, 1060.0)]
    assert str(scene.suppressing.refusal("shop", "ann@EXAMPLE.net")).startswith("550 5.1.1 Suppressed")
    assert scene.suppressing.refusal("shop", "bob@example.net") is None
    assert scene.refused == [("shop", "ann@EXAMPLE.net", "bounce")]
    asyncio.run(scene.suppressing.close())


def test_an_account_that_keeps_no_list_has_nothing_written_and_nothing_looked_up(tmp_path: Path) -> None:
    """Neither one that is not configured, nor one that is switched off."""
    scene = Scene(tmp_path)
    for account in ("shop", "other"):
        scene.report(account, EventKind.BOUNCED, "550 5.1.1 who?")
        scene.report(account, EventKind.COMPLAINED, "")
    assert not (tmp_path / SUPPRESSION_FILE).exists()
    (tmp_path / SUPPRESSION_FILE).write_bytes(b"never opened" * 100)

    assert scene.suppressing.refusal("shop", "ann@example.net") is None
    assert scene.suppressing.refusal("other", "ann@example.net") is None
    assert scene.suppressing.not_sent("shop", ["ann@example.net"]) == {}
    assert scene.suppressing.not_sent("other", ["ann@example.net"]) == {}
    assert scene.failures == []


def test_a_list_that_cannot_be_read_lets_mail_pass_and_says_so(tmp_path: Path) -> None:
    (tmp_path / SUPPRESSION_FILE).write_bytes(b"no database at all, but as long as one" * 100)
    scene = Scene(tmp_path, suppress="all")

    assert scene.suppressing.refusal("shop", "ann@example.net") is None
    assert len(scene.failures) == 1
    assert scene.suppressing.not_sent("shop", ["ann@example.net"]) == {}


def test_what_waits_is_told_of_the_list_and_how_to_get_off_it(tmp_path: Path) -> None:
    """In one line, whatever a peer said; and each of them is counted."""
    scene = Scene(tmp_path, suppress="all")
    scene.report("shop", EventKind.BOUNCED, "550 5.1.1 who?\r\n" + "x" * 500)
    found = scene.suppressing.not_sent("shop", ["bob@example.net", "ANN@example.net"])

    assert list(found) == ["ANN@example.net"]
    text = str(found["ANN@example.net"])
    assert text.startswith("550 5.1.1 Not sent: on the suppression list of account shop (bounce: 550 5.1.1 who?")
    assert text.endswith("; relay suppression remove")
    assert scene.refused == [("shop", "ANN@example.net", "bounce")]


def test_a_bounce_the_vendor_calls_hard_counts_and_one_it_calls_soft_does_not(tmp_path: Path) -> None:
    """Whatever the text says."""
    scene = Scene(tmp_path, suppress="bounces")
    for address, hard, words in (("soft@x", False, "5.1.1"), ("hard@x", True, "mailbox"), ("none@x", None, "mailbox")):
        asyncio.run(scene.suppressing.reported("shop", address, EventKind.BOUNCED, words, hard))

    assert [one.address for one in scene.store.entries()] == ["hard@x"]
