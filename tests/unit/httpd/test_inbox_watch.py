"""InboxWatch over a real inbox: what a look finds, and how much it reads for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.httpd.inbox_watch import InboxWatch
from relay.ports import InboxMessage
from relay.store.inbox import Inbox

Add = Callable[..., int]


class Busy(Inbox):
    """Remembers what it was asked; `between` happens before the answer to the next question but one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[dict[str, Any]] = []
        self.between: Callable[[], object] | None = None

    def list(self, **options: Any) -> Any:
        found = super().list(**options)
        self.asked.append(options)
        if self.between is not None:
            act, self.between = self.between, None
            act()
        return found


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Busy]:
    inbox = Busy(tmp_path)
    inbox.open()
    yield inbox
    inbox.close()


@pytest.fixture
def add(inbox: Busy) -> Add:
    def one(to: str = "anna@x.example", at: float = 1000.0) -> int:
        return inbox.add(InboxMessage(0, at, None, (to,), None, None, "h", 0), b"Subject: x\r\n\r\n")

    return one


def ids(watch: InboxWatch) -> list[int]:
    return [message.id for message in watch.look()]


def test_the_first_look_finds_what_is_there(inbox: Busy, add: Add) -> None:
    first, other, second = add(), add("berta@x.example"), add()
    assert ids(InboxWatch(inbox)) == [first, other, second]
    assert ids(InboxWatch(inbox, to="anna@x.example")) == [first, second]
    assert ids(InboxWatch(inbox, limit=1)) == [second]
    assert ids(InboxWatch(inbox, limit=1, after_id=first)) == [other]
    assert ids(InboxWatch(inbox, since=1001.0)) == []


@pytest.mark.parametrize("before", [0, 3])
def test_a_later_look_finds_what_came_and_matches(inbox: Busy, add: Add, before: int) -> None:
    for _ in range(before):
        add("berta@x.example")
    watch = InboxWatch(inbox, to="Anna@x.example", since=500.0)
    assert ids(watch) == []
    add("berta@x.example")
    add(at=400.0)
    assert ids(watch) == []
    came = [add(), add()]
    assert ids(watch) == came


def test_what_comes_in_the_middle_of_a_look_is_not_missed(inbox: Busy, add: Add) -> None:
    add("berta@x.example")
    watch = InboxWatch(inbox, to="anna@x.example")
    inbox.between = add
    found = ids(watch) or ids(watch)
    assert found == [2]


def test_later_looks_read_only_what_came_since(inbox: Busy, add: Add) -> None:
    newest = [add("berta@x.example") for _ in range(5)][-1]
    watch = InboxWatch(inbox, to="anna@x.example", after_id=2)
    assert ids(watch) == []
    inbox.asked.clear()
    assert ids(watch) == []
    assert inbox.asked == [{"limit": 1}]
    add("berta@x.example")
    assert ids(watch) == []
    assert inbox.asked[2:] == [{"to": "anna@x.example", "limit": 1, "after_id": newest, "since": 0.0}]


def test_an_inbox_that_was_emptied_in_between_makes_no_difference(inbox: Busy, add: Add) -> None:
    add("berta@x.example")
    watch = InboxWatch(inbox, to="anna@x.example")
    assert ids(watch) == []
    inbox.clear()
    assert ids(watch) == []
    number = add()
    assert ids(watch) == [number]
