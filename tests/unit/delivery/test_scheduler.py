"""Whose turn it is: round robin over next hops, limits for each and for all; and how a message becomes jobs."""

from __future__ import annotations

import random

from relay.delivery.job import InFlight, Job, plan
from relay.delivery.scheduler import Scheduler
from relay.mail.envelope import Envelope, Recipient
from relay.ports import QueuedMessage, QueuedRecipient
from relay.settings import MatchSettings, RouteSettings

DIRECT = RouteSettings(name="direct", via=("direct",))
RELAY = RouteSettings(name="relay", via=("smarthost:one", "direct"))
PROVIDER = RouteSettings(name="provider", via=("provider:one",))


def message(
    *addresses: str, sender: str | None = "a@b.example", tags: tuple[str, ...] = (), priority: int | None = None
) -> QueuedMessage:
    recipients = tuple(map(Recipient, addresses))
    due = tuple(QueuedRecipient(n, one, 0, 100.0 - n) for n, one in enumerate(recipients))
    envelope = Envelope(sender, recipients, priority=priority)
    return QueuedMessage("0" * 16, "acme", "app", envelope, 10, 100.0, tags, due)


def job(destination: str, route: RouteSettings = DIRECT, *, priority: int | None = None) -> Job:
    one = message(f"x@{destination}", priority=priority)
    return Job(InFlight(one, b""), one.due, route, destination)


def jobs_of(one: QueuedMessage, *routes: RouteSettings) -> list[Job]:
    return plan(InFlight(one, b""), one.due, routes)


def popped(scheduler: Scheduler) -> list[Job]:
    found = []
    while (one := scheduler.pop()) is not None:
        found.append(one)
    return found


def test_next_hops_take_turns_however_much_waits_for_each():
    scheduler = Scheduler(concurrency=9, limit=lambda queue: 5)
    for destination in ["big.example"] * 1000 + ["b.example"] * 2 + ["c.example"]:
        scheduler.add(job(destination))
    order = [one.destination[0] for one in popped(scheduler)]
    assert order == ["b", "b", "c", "b", "b", "b", "b", "b"]


def test_a_huge_next_hop_holds_its_own_places_only():
    scheduler = Scheduler(concurrency=100, limit=lambda queue: 3)
    for _ in range(1000):
        scheduler.add(job("big.example"))
    assert len(popped(scheduler)) == 3
    scheduler.add(job("small.example"))
    assert [one.destination for one in popped(scheduler)] == ["small.example"]


def test_next_hops_with_the_same_hosts_share_their_places_and_take_turns():
    hosts = {f"direct:{name}.example": "mx:shared" for name in "abc"}
    scheduler = Scheduler(concurrency=100, limit=lambda name: 2, hosts=lambda queue: hosts.get(queue, queue))
    for destination in ["a", "a", "a", "b", "b", "c", "d", "d", "d"]:
        scheduler.add(job(f"{destination}.example"))
    running = popped(scheduler)
    assert sorted(one.destination[0] for one in running) == ["a", "b", "d", "d"]
    order = []
    while running:
        scheduler.release(running.pop(0))
        started = popped(scheduler)
        order += [one.destination[0] for one in started]
        running += started
    assert [name for name in order if name != "d"] == ["b", "c", "a", "a"]


def test_a_job_whose_hosts_turn_out_to_be_full_waits_again_and_is_not_lost():
    hosts: dict[str, str] = {}
    scheduler = Scheduler(concurrency=100, limit=lambda name: 2, hosts=lambda queue: hosts.get(queue, queue))
    for number in range(6):
        scheduler.add(job(f"d{number}.example"))
    running = popped(scheduler)
    assert len(running) == 6
    hosts.update({one.queue: "mx:shared" for one in running})
    stay = [one for one in running if scheduler.has_room(one)]
    assert len(stay) == scheduler.running == 2
    assert popped(scheduler) == []
    served = {one.destination for one in stay}
    while stay:
        scheduler.release(stay.pop())
        started = popped(scheduler)
        assert all(map(scheduler.has_room, started))
        served |= {one.destination for one in started}
        stay += started
        assert len(stay) <= 2
    assert len(served) == 6
    assert list(scheduler.queues()) == []


def test_whatever_happens_places_are_kept_and_nothing_is_forgotten():
    """Random arrivals, ends, hosts that change and limits that move: the books balance at every step."""
    dice = random.Random(5)
    hosts: dict[str, str] = {}
    limits: dict[str, int] = {}
    scheduler = Scheduler(15, lambda name: limits.get(name, 2), lambda queue: hosts.get(queue, queue))
    running: list[Job] = []
    added = ended = 0
    for _ in range(4000):
        move = dice.random()
        if move < 0.35:
            scheduler.add(job(f"d{dice.randrange(12)}.example"))
            added += 1
        elif move < 0.7 and running:
            scheduler.release(running.pop(dice.randrange(len(running))))
            ended += 1
        elif move < 0.75:
            limits[f"mx:{dice.randrange(3)}"] = dice.randrange(1, 5)
        elif move < 0.8:
            hosts[f"direct:d{dice.randrange(12)}.example"] = f"mx:{dice.randrange(3)}"
        started = popped(scheduler)
        running += [one for one in started if scheduler.has_room(one)]
        assert len(running) == scheduler.running <= 15
        waiting = sum(count for _, count, _ in scheduler.queues())
        assert waiting + len(running) + ended == added
    while running:
        scheduler.release(running.pop())
        ended += 1
        running += [one for one in popped(scheduler) if scheduler.has_room(one)]
    assert ended == added


def test_no_more_run_than_all_may():
    scheduler = Scheduler(concurrency=4, limit=lambda queue: 3)
    for number in range(10):
        scheduler.add(job(f"d{number}.example"))
    running = popped(scheduler)
    assert len(running) == scheduler.running == 4
    scheduler.release(running[0])
    assert len(popped(scheduler)) == 1


def test_a_place_that_is_released_is_given_to_the_next_in_line():
    scheduler = Scheduler(concurrency=10, limit=lambda queue: 1)
    first, second = job("a.example"), job("a.example")
    scheduler.add(first)
    scheduler.add(second)
    assert popped(scheduler) == [first]
    scheduler.release(first)
    assert popped(scheduler) == [second]
    scheduler.release(second)
    assert scheduler.pop() is None
    assert list(scheduler.queues()) == []


def test_a_limit_that_changes_counts_from_the_next_start_or_end():
    limit = 1
    scheduler = Scheduler(concurrency=10, limit=lambda queue: limit)
    for _ in range(9):
        scheduler.add(job("a.example"))
    [first] = popped(scheduler)
    limit = 4
    scheduler.release(first)
    running = popped(scheduler)
    assert len(running) == 4
    limit = 2
    for one in running[:2]:
        scheduler.release(one)
        assert popped(scheduler) == []
    scheduler.release(running[2])
    assert len(popped(scheduler)) == 1


def test_what_is_removed_does_not_run_and_what_runs_is_not_removed():
    scheduler = Scheduler(concurrency=10, limit=lambda queue: 1)
    jobs = [job("a.example") for _ in range(3)]
    for one in jobs:
        scheduler.add(one)
    running = scheduler.pop()
    assert scheduler.remove(lambda one: True) == jobs[1:]
    assert scheduler.waiting(jobs[1].place) == 0
    assert list(scheduler.queues()) == [("direct:a.example", 0, 1)]
    scheduler.release(running)
    assert scheduler.pop() is None


def test_any_course_of_events_keeps_the_limits_and_loses_no_job():
    dice = random.Random(3)
    scheduler = Scheduler(concurrency=7, limit=lambda queue: 2)
    waiting, running = 0, []
    for _ in range(5000):
        if dice.random() < 0.5:
            scheduler.add(job(f"d{dice.randrange(6)}.example", priority=dice.choice((None, 4, -2))))
            waiting += 1
        if running and dice.random() < 0.5:
            scheduler.release(running.pop(dice.randrange(len(running))))
        if dice.random() < 0.7 and (one := scheduler.pop()) is not None:
            running.append(one)
            waiting -= 1
        if dice.random() < 0.01:
            waiting -= len(scheduler.remove(lambda one: one.destination == "d3.example"))
        counts = {queue: (wait, run) for queue, wait, run in scheduler.queues()}
        assert sum(wait for wait, _ in counts.values()) == waiting
        assert sum(run for _, run in counts.values()) == len(running) == scheduler.running <= 7
        assert all(run <= 2 for _, run in counts.values())
    while running:
        scheduler.release(running.pop())
        while (one := scheduler.pop()) is not None:
            running.append(one)
            waiting -= 1
    assert waiting == 0


def test_recipients_of_one_domain_travel_together_to_its_mx():
    jobs = jobs_of(message("a@x.example", "b@y.example", "c@x.example"), DIRECT)
    assert [(one.destination, [w.index for w in one.recipients]) for one in jobs] == [
        ("x.example", [0, 2]),
        ("y.example", [1]),
    ]
    assert [one.queue for one in jobs] == ["direct:x.example", "direct:y.example"]


def test_a_provider_takes_all_domains_at_once():
    [one] = jobs_of(message("a@x.example", "b@y.example"), PROVIDER)
    assert (one.destination, one.queue, len(one.recipients)) == ("", "provider:one", 2)


def test_where_a_later_candidate_goes_by_mx_domains_stay_apart_but_wait_in_one_line():
    jobs = jobs_of(message("a@x.example", "b@y.example"), RELAY)
    assert [(one.destination, one.queue) for one in jobs] == [
        ("x.example", "smarthost:one"),
        ("y.example", "smarthost:one"),
    ]


def test_each_recipient_goes_by_its_own_route():
    by_domain = RouteSettings(name="x", match=MatchSettings(recipient_domain=("x.example",)), via=("provider:one",))
    jobs = jobs_of(message("a@x.example", "b@y.example"), by_domain)
    assert [(one.route.name, one.recipients[0].index) for one in jobs] == [("x", 0), ("default", 1)]


def test_two_routes_of_one_name_are_two_routes():
    first = RouteSettings(name="x", match=MatchSettings(recipient_domain=("x.example",)), via=("provider:one",))
    second = RouteSettings(name="x", via=("provider:two",))
    jobs = jobs_of(message("a@x.example", "b@y.example"), first, second)
    assert [one.route.via for one in jobs] == [("provider:one",), ("provider:two",)]


def test_a_job_has_at_most_a_hundred_recipients():
    jobs = jobs_of(message(*(f"r{n}@x.example" for n in range(250))), DIRECT)
    assert [len(one.recipients) for one in jobs] == [100, 100, 50]
    assert [w.index for one in jobs for w in one.recipients] == list(range(250))


def test_a_job_is_as_old_as_its_oldest_recipient():
    [one] = jobs_of(message("a@x.example", "b@x.example"), DIRECT)
    assert one.next_at == 99.0


def test_a_next_hop_with_urgent_mail_has_its_turn_before_the_others():
    scheduler = Scheduler(concurrency=1, limit=lambda queue: 5)
    for name, priority in (("a", None), ("b", -1), ("c", None), ("d", 5), ("a", 2)):
        scheduler.add(job(f"{name}.example", priority=priority))
    order = []
    while (one := scheduler.pop()) is not None:
        order.append((one.destination[0], one.place.priority))
        scheduler.release(one)
    assert order == [("d", 5), ("a", 2), ("c", 0), ("a", 0), ("b", -1)]


def test_urgent_mail_for_one_next_hop_does_not_keep_the_others_back_for_ever():
    scheduler = Scheduler(concurrency=1, limit=lambda queue: 5)
    for name in ("a", "b"):
        for _ in range(50):
            scheduler.add(job(f"{name}.example", priority=9 if name == "a" else None))
    started = []
    for _ in range(30):
        one = scheduler.pop()
        started.append(one.destination[0])
        scheduler.release(one)
    assert started == (["a"] * 9 + ["b"]) * 3


def test_a_job_starts_at_once_only_where_nobody_waits_for_what_it_needs():
    scheduler = Scheduler(concurrency=3, limit=lambda hosts: 2, hosts=lambda queue: "mx")
    first, second = job("a.example"), job("b.example")
    assert scheduler.starts(first)
    assert scheduler.starts(second)
    third = job("c.example")
    assert not scheduler.starts(third), "its hosts are full"
    scheduler.add(third)
    scheduler.release(first)
    assert not scheduler.starts(job("d.example")), "another waits for the same hosts"
    assert popped(scheduler) == [third]
    scheduler.release(second)
    scheduler.release(third)
    assert (scheduler.running, list(scheduler.queues())) == (0, [])


def test_no_more_jobs_start_at_once_than_may_run_together():
    scheduler = Scheduler(concurrency=1, limit=lambda hosts: 5)
    assert scheduler.starts(job("a.example"))
    assert not scheduler.starts(job("b.example"))


def test_hosts_that_nothing_runs_to_and_nothing_waits_for_are_forgotten() -> None:
    """Memory must not grow with the domains that were ever busy."""
    scheduler = Scheduler(10, lambda hosts: 1)
    for number in range(5):
        for _ in range(3):
            scheduler.add(job(f"d{number}.example"))
    running = popped(scheduler)
    assert len(scheduler._full) == 5
    while running:
        for one in running:
            scheduler.release(one)
        running = popped(scheduler)

    assert not scheduler._full
    assert not scheduler._taken
    assert not scheduler._waits_for
