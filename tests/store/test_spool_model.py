"""The spool against a model of dictionaries: any order of operations and restarts gives the same queue."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from spool_kit import START, THRESHOLD, Bench, ManualClock, deferred, done

from relay.mail.errors import StoreError
from relay.mail.event import EventKind
from relay.store.spool_verbs import Verb

ENDS = {
    EventKind.DELIVERED: "delivered",
    EventKind.SENT: "sent",
    EventKind.BOUNCED: "bounced",
    EventKind.EXPIRED: "expired",
}
PUT_OFF = (EventKind.DEFERRED, EventKind.IN_DOUBT)


@dataclass
class Waiting:
    """A recipient as the model knows it."""

    state: str
    next_at: float
    attempts: int = 0


@dataclass
class Model:
    """Messages by id, and the attempts that are under way by number."""

    content: dict[str, bytes] = field(default_factory=dict)
    recipients: dict[str, list[Waiting]] = field(default_factory=dict)
    kinds: dict[str, list[str]] = field(default_factory=dict)
    open: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def dead(self) -> set[str]:
        """Ended with somebody bounced or expired: the text is kept for the operator."""
        return {
            message_id
            for message_id, all_of_it in self.recipients.items()
            if any(one.state in ("bounced", "expired") for one in all_of_it)
        } - self.unfinished()

    def unfinished(self) -> set[str]:
        return {
            message_id
            for message_id, all_of_it in self.recipients.items()
            if any(one.state in ("queued", "deferred") for one in all_of_it)
        }


class SpoolMachine(RuleBasedStateMachine):
    """Every rule does the same to the spool and to the model."""

    messages = Bundle("messages")
    attempts = Bundle("attempts")

    @initialize()
    def start(self):
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY))
        self.runner = asyncio.Runner()
        self.bench = Bench(self.folder, ManualClock(), self.runner)
        self.bench.open()
        self.model = Model()

    def teardown(self):
        self.bench.close()
        self.runner.close()
        shutil.rmtree(self.folder)

    @rule(target=messages, recipients=st.integers(1, 4), size=st.sampled_from([0, 10, THRESHOLD, THRESHOLD + 1]))
    def enqueue(self, recipients, size):
        message_id = self.bench.enqueue(*(f"r{n}@x.example" for n in range(recipients)), content=b"x" * size)
        assert message_id not in self.model.recipients
        assert message_id > max(self.model.recipients, default="")
        now = self.bench.clock.now()
        self.model.content[message_id] = b"x" * size
        self.model.recipients[message_id] = [Waiting("queued", now) for _ in range(recipients)]
        self.model.kinds[message_id] = ["queued"]
        return message_id

    @rule(target=attempts, message_id=messages, wanted=st.sets(st.integers(0, 3), min_size=1))
    def begin(self, message_id, wanted):
        known = self.model.recipients[message_id]
        indexes = tuple(sorted(n for n in wanted if n < len(known)))
        if not indexes:
            return multiple()
        begun = self.bench.begin(message_id, *indexes)
        now = self.bench.clock.now()
        expected = tuple(n for n in indexes if known[n].state in ("queued", "deferred") and known[n].next_at <= now)
        assert begun.recipients == expected
        if not expected:
            return multiple()
        assert begun.id not in self.model.open
        self.model.open[begun.id] = (message_id, expected)
        return begun.id

    @rule(
        attempt=attempts,
        kinds=st.lists(st.sampled_from([*ENDS, *PUT_OFF]), min_size=4, max_size=4),
        notice=st.booleans(),
    )
    def end(self, attempt, kinds, notice):
        if attempt not in self.model.open:
            return
        message_id, indexes = self.model.open.pop(attempt)
        next_at = self.bench.clock.now() + 30
        results = [
            done(n, kinds[n]) if kinds[n] in ENDS else deferred(n, next_at, kinds[n], counts=kinds[n] is PUT_OFF[1])
            for n in indexes
        ]
        new = self.bench.message("a@b.example", reverse_path=None) if notice else None
        self.bench.end(message_id, attempt, *results, notice=new)
        for n in indexes:
            one = self.model.recipients[message_id][n]
            self.model.kinds[message_id].append(kinds[n].value)
            if one.state in ENDS.values() or one.state == "cancelled":
                continue
            one.state = ENDS.get(kinds[n], "deferred")
            one.attempts += kinds[n] is not PUT_OFF[0]
            one.next_at = next_at
        if new is not None:
            self.model.content[new.id] = new.content
            self.model.recipients[new.id] = [Waiting("queued", new.received_at)]
            self.model.kinds[new.id] = ["queued"]

    @rule(chosen=st.lists(messages, min_size=1, max_size=3))
    def retry(self, chosen):
        changed = self.bench.act(Verb.RETRY, *chosen)
        in_flight = self.in_flight()
        waiting = [
            one
            for message_id in set(chosen)
            for n, one in enumerate(self.model.recipients[message_id])
            if one.state in ("queued", "deferred") and (message_id, n) not in in_flight
        ]
        assert len(changed) == len(waiting)
        for one in waiting:
            # Who was due before, too: should the clock be set back, all wait for it.
            one.next_at = self.bench.clock.now()

    def in_flight(self):
        return frozenset((one, n) for one, indexes in self.model.open.values() for n in indexes)

    @rule(message_id=messages)
    def hold_and_release(self, message_id):
        """Held, none of it is due; released, it is due at once."""
        held = self.bench.act(Verb.HOLD, message_id)
        known, in_flight = self.model.recipients[message_id], self.in_flight()
        expected = [
            n for n, one in enumerate(known) if one.state in ("queued", "deferred") and (message_id, n) not in in_flight
        ]
        assert held == [(message_id, n) for n in expected]
        due = self.bench.due(until=self.bench.clock.now() + 1e6)
        assert not set(held) & {(one.id, waiting.index) for one in due for waiting in one.due}
        assert self.bench.act(Verb.RELEASE, message_id) == held
        for n in expected:
            known[n].state, known[n].next_at = "queued", self.bench.clock.now()
            self.model.kinds[message_id].append("held")
        self.model.kinds[message_id] += ["released"] * len(expected)

    @rule(message_id=messages)
    def cancel(self, message_id):
        in_flight = self.in_flight()
        cancelled = self.bench.act(Verb.CANCEL, message_id)
        known = self.model.recipients[message_id]
        expected = [
            n for n, one in enumerate(known) if one.state in ("queued", "deferred") and (message_id, n) not in in_flight
        ]
        assert cancelled == [(message_id, n) for n in expected]
        for n in expected:
            known[n].state = "cancelled"
            self.model.kinds[message_id].append("cancelled")

    @rule(seconds=st.sampled_from([0.001, 31.0, -20.0]))
    def time(self, seconds):
        self.bench.clock.time += seconds

    @rule()
    def restart(self):
        """Whatever was under way is in doubt, whoever is still waiting in it."""
        self.bench.restart()
        assert self.bench.spool.recovered == len(self.model.open)
        for attempt in sorted(self.model.open, key=lambda number: (self.model.open[number][0], number)):
            message_id, indexes = self.model.open[attempt]
            for n in indexes:
                one = self.model.recipients[message_id][n]
                if one.state in ("queued", "deferred"):
                    one.state, one.next_at, one.attempts = "deferred", self.bench.clock.now(), one.attempts + 1
                    self.model.kinds[message_id].append("in_doubt")
        self.model.open.clear()

    @invariant()
    def the_queue_is_the_models(self):
        if not hasattr(self, "model"):
            return
        found = {
            (message.id, one.index): one.attempts
            for message in self.bench.due(until=START + 1e9)
            for one in message.due
        }
        assert found == {
            (message_id, n): one.attempts
            for message_id, all_of_it in self.model.recipients.items()
            for n, one in enumerate(all_of_it)
            if one.state in ("queued", "deferred")
        }
        counts = self.bench.run(self.bench.spool.counts())
        assert counts.messages == len(self.model.unfinished())
        assert counts.recipients["queued"] + counts.recipients["deferred"] == len(found)

    @invariant()
    def bodies_are_there_as_long_as_somebody_needs_them(self):
        if not hasattr(self, "model"):
            return
        unfinished = self.model.unfinished()
        kept = unfinished | self.model.dead()
        assert self.bench.body_files() == sorted(
            message_id for message_id in kept if len(self.model.content[message_id]) > THRESHOLD
        )
        for message_id in list(self.model.recipients)[-3:]:
            if message_id in unfinished:
                assert self.bench.run(self.bench.spool.read_content(message_id)) == self.model.content[message_id]
            else:
                with pytest.raises(StoreError):
                    self.bench.run(self.bench.spool.read_content(message_id))

    @rule(message_id=messages)
    def a_message_is_described_as_the_model_has_it(self, message_id):
        known = self.model.recipients[message_id]
        assert self.bench.states(message_id) == [one.state for one in known]
        assert self.bench.kinds(message_id) == self.model.kinds[message_id]


MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
SpoolMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestSpoolAgainstItsModel = SpoolMachine.TestCase
