"""Whose turn it is within one next hop: new mail first, accounts in turn, nobody kept back for ever."""

from __future__ import annotations

import random

from relay.delivery.job import InFlight, Job
from relay.delivery.line import Line
from relay.mail.envelope import Envelope, Recipient
from relay.ports import QueuedMessage, QueuedRecipient
from relay.settings import RouteSettings

DIRECT = RouteSettings(name="direct", via=("direct",))


def job(account: str, attempts: int = 0, *, put_off: bool = False) -> Job:
    recipient = Recipient("x@a.example")
    due = (QueuedRecipient(0, recipient, attempts, 200.0 if put_off else 100.0),)
    message = QueuedMessage("0" * 16, account, "app", Envelope("a@b.example", (recipient,)), 10, 100.0, (), due)
    return Job(InFlight(message, b""), due, DIRECT, "a.example")


def line_of(*jobs: Job) -> Line:
    line = Line()
    for one in jobs:
        line.add(one)
    return line


def order(line: Line) -> str:
    return " ".join(f"{one.message.account}{'+' if one.again else ''}" for one in emptied(line))


def emptied(line: Line) -> list[Job]:
    return [line.pop() for _ in range(len(line))]


def test_new_mail_goes_before_what_is_tried_again():
    assert order(line_of(job("a", 1), job("a", put_off=True), job("a"), job("a"))) == "a a a+ a+"


def test_one_start_in_ten_is_for_what_is_tried_again_however_much_new_mail_comes():
    line = line_of(*(job("a") for _ in range(40)), *(job("a", 1) for _ in range(40)))
    started = [line.pop().again for _ in range(30)]
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
            one = job(dice.choice("abc"), dice.randrange(2))
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
