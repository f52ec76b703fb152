"""Whose turn it is within one next hop: new mail first, accounts in turn, nobody kept back for ever."""

from __future__ import annotations

import dataclasses
import random

from relay.delivery.job import InFlight, Job
from relay.delivery.line import Line
from relay.mail.envelope import Envelope, Recipient
from relay.ports import QueuedMessage, QueuedRecipient
from relay.settings import RouteSettings

DIRECT = RouteSettings(name="direct", via=("direct",))


def job(account: str, attempts: int = 0, *, put_off: bool = False, priority: int | None = None) -> Job:
    recipient = Recipient("x@a.example")
    due = (QueuedRecipient(0, recipient, attempts, 200.0 if put_off else 100.0),)
    envelope = Envelope("a@b.example", (recipient,), priority=priority)
    message = QueuedMessage("0" * 16, account, "app", envelope, 10, 100.0, (), due)
    return Job(InFlight(message, b""), due, DIRECT, "a.example")


def line_of(*jobs: Job) -> Line:
    line = Line()
    for one in jobs:
        line.add(one)
    return line


def order(line: Line) -> str:
    return " ".join(f"{one.message.account}{'+' if one.place.again else ''}" for one in emptied(line))


def emptied(line: Line) -> list[Job]:
    return [line.pop() for _ in range(len(line))]


def test_new_mail_goes_before_what_is_tried_again():
    assert order(line_of(job("a", 1), job("a", put_off=True), job("a"), job("a"))) == "a a a+ a+"


def test_one_start_in_ten_is_for_what_is_tried_again_however_much_new_mail_comes():
    line = line_of(*(job("a") for _ in range(40)), *(job("a", 1) for _ in range(40)))
    started = [line.pop().place.again for _ in range(30)]
    assert started == ([False] * 9 + [True]) * 3


def test_accounts_take_turns_so_that_one_message_does_not_wait_behind_bulk():
    line = line_of(*(job("bulk") for _ in range(5)), job("shop"), job("shop"), job("bank"))
    assert order(line) == "bulk shop bank bulk shop bulk bulk bulk"


def test_mail_of_one_account_keeps_its_order():
    jobs = [job("a") for _ in range(20)]
    assert emptied(line_of(*jobs)) == jobs


def test_what_waits_is_counted_by_account_and_by_new_or_again():
    line = line_of(job("a"), job("a"), job("a", 1), job("b"))
    places = [job("a").place, job("a", 1).place, job("c", 1).place]
    assert [line.waiting(place) for place in places] == [2, 1, 0]
    assert len(line) == 4


def test_any_course_of_events_loses_no_job():
    dice = random.Random(2)
    line, inside, taken = Line(), set(), []
    for _ in range(3000):
        if dice.random() < 0.6:
            one = job(dice.choice("abc"), dice.randrange(2), priority=dice.choice((None, -1, 5)))
            line.add(one)
            inside.add(id(one))
            taken.append(one)
        elif len(line):
            inside.remove(id(line.pop()))
        if dice.random() < 0.01:
            gone = line.remove(lambda one: one.message.account == "b")
            inside.difference_update(map(id, gone))
        assert len(line) == len(inside)
    assert {id(one) for one in emptied(line)} == inside


def test_a_higher_priority_goes_first_and_equals_keep_their_order():
    jobs = [job(name, priority=priority) for name, priority in zip("abcdef", (None, 9, -9, 3, 9, 0), strict=True)]
    assert order(line_of(*jobs)) == "b e d a f c"


def test_what_is_urgent_and_tried_again_goes_before_what_is_new_and_is_not():
    assert order(line_of(job("a"), job("b", 1, priority=1))) == "b+ a"


def test_one_start_in_ten_is_for_the_lower_priorities_each_in_its_turn():
    line = line_of(*(job("a", priority=priority) for priority in (9, 0, -9) for _ in range(60)))
    started = [line.pop().place.priority for _ in range(40)]
    assert [started[9], started[19], started[29], started[39]] == [0, -9, 0, -9]
    assert started.count(9) == 36


def test_what_a_rate_limit_holds_back_lets_a_lower_priority_by():
    class Empty:
        def wait(self) -> float:
            return 5.0

    held = job("a", priority=9)
    held = dataclasses.replace(held, limits=(Empty(),))
    line = line_of(held, job("b"))
    assert line.pop().message.account == "b"
    assert line.pop() == 5.0
