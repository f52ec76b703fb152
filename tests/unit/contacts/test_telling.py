"""Telling: a platform that is down costs nobody an attempt, one that refuses somebody loses only that one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from relay.contacts.telling import LOOK_SECONDS, Telling
from relay.mail.errors import StoreError
from relay.mail.outcome import Deferred, Failed, Fault, Outcome, Sent
from relay.mail.reply import Reply, reply
from relay.ports import Contact, Told
from relay.settings import RetrySettings

START = 1_800_000_000.0
WELL = Sent(reply(250, "2.0.0", "knows it"))
DOWN = Deferred(reply(451, "4.4.1", "no connection"), Fault.HOST)
KEY = Deferred(reply(451, "4.7.0", "key refused"), Fault.ROUTE)
BROKEN = Deferred(reply(451, "4.3.0", "HTTP 500"))
NO = Failed(reply(550, "5.6.0", "on the block list"))


@dataclass
class Clock:
    time: float = START

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Middle:
    def random(self) -> float:
        return 0.5


@dataclass
class Outbox:
    """Rows as the spool keeps them."""

    clock: Clock
    rows: dict[str, tuple[Contact, float | None]] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    def add(self, *addresses: str) -> None:
        for address in addresses:
            self.rows[address] = (Contact("crm", address, {"sent": START}, since=self.clock.time), self.clock.time)

    async def contacts_due(self, name: str, until: float, limit: int) -> list[Contact]:
        found = sorted((due, address) for address, (_, due) in self.rows.items() if due is not None and due <= until)
        return [self.rows[address][0] for _, address in found][:limit]

    async def contacts_told(self, told: Sequence[Told]) -> None:
        for one in told:
            address = one.contact.address
            self.words[address] = one.words
            if one.done:
                del self.rows[address]
            else:
                self.rows[address] = (replace(one.contact, attempts=one.attempts), one.due_at)

    async def contacts_waiting(self, name: str) -> int:
        return len(self.rows)


@dataclass
class Directory:
    """Answers `by_address`, else with `answer`."""

    answer: Outcome = WELL
    by_address: dict[str, Outcome] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    at_once: int = 0
    most: int = 0

    async def tell(self, contact: Contact) -> Outcome:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.asked.append(contact.address)
        await asyncio.sleep(0)
        self.at_once -= 1
        return self.by_address.get(contact.address, self.answer)

    async def close(self) -> None: ...


@dataclass
class Seen:
    lines: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def contact_told(self, name: str) -> None:
        self.lines.append("told")

    def contact_given_up(self, name: str, address: str, answer: Reply) -> None:
        self.lines.append(f"given up {address}")

    def contacts_paused(self, name: str, seconds: float, answer: Reply) -> None:
        self.lines.append(f"paused {seconds:.0f}")

    def contacts_resumed(self, name: str) -> None:
        self.lines.append("resumed")

    def contacts_waiting(self, name: str, spool: int, waiting: int) -> None:
        self.counts.append(waiting)

    def store_failed(self, error: StoreError) -> None:
        self.lines.append("store failed")


class Setting:
    """A platform, an outbox and what tells the one of the other, by a clock that moves when a test says so."""

    def __init__(
        self, *addresses: str, delays: tuple[float, ...] = (30, 300), rate: float = 1e6, expire: float = 0.0
    ) -> None:
        self.clock = Clock()
        self.outbox = Outbox(self.clock)
        self.directory = Directory()
        self.seen = Seen()
        self.turns = 0
        self.lock = asyncio.Lock()
        self.outbox.add(*addresses)
        self.telling = Telling(
            "crm",
            0,
            self.outbox,
            self.directory,
            RetrySettings(delays=delays, expire=expire),
            rate,
            self.turn,
            self.clock,
            Middle(),  # type: ignore[arg-type]
            self.seen,
        )

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        async with self.lock:
            assert not self.directory.at_once
            self.turns += 1
            yield

    def step(self, after: float = 0.0) -> float:
        self.clock.time += after
        return asyncio.run(self.telling.step())


PEOPLE = [f"p{number:02}@d.example" for number in range(20)]


def test_everybody_is_told_once_some_at_a_time() -> None:
    setting = Setting(*PEOPLE)

    setting.step()

    assert sorted(setting.directory.asked) == PEOPLE
    assert 1 < setting.directory.most <= 8
    assert setting.outbox.rows == {}
    assert setting.step() == LOOK_SECONDS
    assert setting.turns == 1


@pytest.mark.parametrize("fault", [DOWN, KEY])
def test_a_platform_that_is_down_is_asked_by_one_contact_at_a_time_and_nobody_loses_an_attempt(fault: Outcome) -> None:
    setting = Setting(*PEOPLE)
    setting.directory.answer = fault

    setting.step()
    assert len(setting.directory.asked) == 8
    assert 0 < setting.step() <= LOOK_SECONDS
    assert len(setting.directory.asked) == 8
    for wait in (31, 301, 301, 301):
        setting.step(wait)
    assert len(setting.directory.asked) == 12
    assert all(contact.attempts == 0 for contact, _ in setting.outbox.rows.values())
    assert setting.seen.lines == ["paused 30", "paused 300", "paused 300", "paused 300", "paused 300"]

    setting.directory.answer = WELL
    setting.step(301)
    for _ in range(3):
        setting.step(301)
    assert setting.outbox.rows == {}
    assert setting.seen.lines.count("told") == len(PEOPLE)
    assert setting.seen.lines.count("resumed") == 1


def test_a_pause_is_no_longer_than_a_quarter_of_an_hour_and_as_long_as_the_platform_says() -> None:
    setting = Setting("a@d.example", delays=(7200,))
    setting.directory.answer = DOWN
    setting.step()
    setting.directory.answer = Deferred(DOWN.reply, Fault.HOST, 4000)
    setting.step(901)

    assert setting.seen.lines == ["paused 900", "paused 4000"]


def test_who_is_refused_is_given_up_and_the_others_are_told() -> None:
    setting = Setting(*PEOPLE)
    setting.directory.by_address = {PEOPLE[3]: NO}

    setting.step()

    assert [(contact.address, due) for contact, due in setting.outbox.rows.values()] == [(PEOPLE[3], None)]
    assert setting.outbox.words[PEOPLE[3]] == "550 5.6.0 on the block list"
    assert f"given up {PEOPLE[3]}" in setting.seen.lines
    assert len(setting.directory.asked) == len(PEOPLE)


def test_who_cannot_be_told_is_tried_by_the_retry_profile_and_then_given_up() -> None:
    setting = Setting(*PEOPLE[:3])
    setting.directory.by_address = {PEOPLE[0]: BROKEN}

    setting.step()
    setting.step(29)
    assert setting.directory.asked.count(PEOPLE[0]) == 1
    setting.step(2)
    setting.step(301)
    setting.step(1e6)

    assert setting.directory.asked.count(PEOPLE[0]) == 3
    assert setting.outbox.rows[PEOPLE[0]][1] is None
    assert not any(line.startswith("paused") for line in setting.seen.lines)


def test_three_put_off_in_a_row_are_the_platforms_fault() -> None:
    setting = Setting(*PEOPLE)
    setting.directory.answer = BROKEN

    setting.step()
    for _ in range(50):
        setting.step(1000)

    assert all(due is not None for _, due in setting.outbox.rows.values())
    assert max(contact.attempts for contact, _ in setting.outbox.rows.values()) <= 1
    assert "paused 30" in setting.seen.lines


def test_the_rate_is_kept() -> None:
    setting = Setting(*PEOPLE[:4], rate=100.0)
    began = asyncio.run(_timed(setting))

    assert began >= 0.03


async def _timed(setting: Setting) -> float:
    """The bucket's clock stands still, so each waits for the tokens owed before it."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    await setting.telling.step()
    return loop.time() - before


def test_a_spool_that_cannot_be_written_is_said_and_tried_again() -> None:
    setting = Setting("a@d.example")

    async def broken(told: Sequence[Told]) -> None:
        raise StoreError("the disk is full")

    setting.outbox.contacts_told = broken  # type: ignore[method-assign]

    async def main() -> None:
        task = asyncio.create_task(setting.telling.run())
        while "store failed" not in setting.seen.lines:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert "a@d.example" in setting.outbox.rows


def test_who_leaves_ends_what_is_under_way_and_begins_nothing() -> None:
    setting = Setting(*PEOPLE)

    async def main() -> None:
        task = asyncio.create_task(setting.telling.run())
        while not setting.directory.asked:
            await asyncio.sleep(0)
        assert setting.telling.busy
        setting.telling.leave()
        await task

    asyncio.run(main())
    assert len(setting.directory.asked) == 8
    assert len(setting.outbox.rows) == len(PEOPLE) - 8
    assert not setting.telling.busy


async def _until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not come true")


def test_who_was_told_while_the_turn_was_awaited_is_not_told_again() -> None:
    setting = Setting("a@d.example", "b@d.example")

    async def main() -> None:
        async with setting.lock:
            step = asyncio.create_task(setting.telling.step())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            del setting.outbox.rows["a@d.example"]
        await step

    asyncio.run(main())
    assert setting.directory.asked == ["b@d.example"]


def test_at_a_slow_rate_an_answer_is_written_down_before_the_next_one_is_asked_for() -> None:
    setting = Setting("a@d.example", "b@d.example", rate=0.001)

    async def main() -> None:
        task = asyncio.create_task(setting.telling.run())
        await _until(lambda: "a@d.example" not in setting.outbox.rows)
        assert not setting.telling.busy
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert setting.directory.asked == ["a@d.example"]


def test_the_rate_is_that_of_all_who_take_turns() -> None:
    setting, other = Setting("a@d.example", rate=0.001), Setting("b@d.example", rate=0.001)
    other.lock = setting.lock

    async def main() -> None:
        tasks = [asyncio.create_task(one.telling.step()) for one in (setting, other)]
        await _until(lambda: not setting.outbox.rows)
        for _ in range(20):
            await asyncio.sleep(0)
        assert other.directory.asked == []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


def test_a_turn_ends_in_time_however_many_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(*PEOPLE)
    tell = setting.directory.tell

    async def slow(contact: Contact) -> Outcome:
        setting.clock.time += 3
        return await tell(contact)

    monkeypatch.setattr(setting.directory, "tell", slow)
    setting.step()
    assert len(setting.directory.asked) == 8


def test_who_waited_for_the_platform_is_no_older_for_it() -> None:
    setting = Setting("a@d.example", "b@d.example", delays=(30, 30, 30), expire=600)
    setting.directory.answer = DOWN
    setting.step()
    setting.directory.answer = WELL
    setting.directory.by_address = {"b@d.example": BROKEN}
    setting.step(1e6)
    setting.step(31)

    [(contact, due)] = setting.outbox.rows.values()
    assert contact.attempts == 2
    assert due is not None


def test_a_profile_that_expires_does_so_by_the_contacts_own_attempts() -> None:
    setting = Setting("a@d.example", delays=(30, 300, 300), expire=200)
    setting.directory.answer = BROKEN
    setting.step()
    setting.step(31)

    assert setting.seen.lines == ["given up a@d.example"]


def test_a_platform_that_refuses_somebody_is_well() -> None:
    setting = Setting(*PEOPLE)
    setting.directory.answer = DOWN
    setting.step()
    setting.directory.answer = NO
    setting.step(31)

    assert "resumed" in setting.seen.lines


def test_an_operator_ends_a_pause() -> None:
    setting = Setting("a@d.example", "b@d.example")
    setting.directory.answer = Deferred(DOWN.reply, Fault.HOST, 4000)
    setting.step()
    setting.directory.answer = WELL
    setting.outbox.add("a@d.example", "b@d.example")
    setting.telling.again()
    setting.step()

    assert setting.outbox.rows == {}


def test_a_count_that_takes_long_is_made_seldom() -> None:
    setting = Setting("a@d.example")
    count = setting.outbox.contacts_waiting

    async def slow(name: str) -> int:
        setting.clock.time += 1
        return await count(name)

    setting.outbox.contacts_waiting = slow  # type: ignore[method-assign]
    for _ in range(12):
        setting.step(5)

    assert len(setting.seen.counts) == 2


def test_who_leaves_says_nothing_of_a_pause_that_is_another_ones_now() -> None:
    setting = Setting("a@d.example")
    setting.directory.answer = DOWN

    async def main() -> None:
        task = asyncio.create_task(setting.telling.run())
        await _until(lambda: bool(setting.directory.asked))
        setting.telling.leave()
        await task

    asyncio.run(main())
    assert setting.seen.lines == []
