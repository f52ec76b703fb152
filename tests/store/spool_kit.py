"""What the tests of spools share: a clock of their own, messages, and a loop that outlives one call."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from relay.mail.envelope import Envelope, Recipient
from relay.mail.event import EventKind
from relay.ports import AttemptEnd, AttemptStart, NewMessage, RecipientResult
from relay.store.spool import SqliteSpool
from relay.store.spool_verbs import Act, Selection, Verb

START = 1_800_000_000.0
THRESHOLD = 1000
CONTENT = b"Subject: x\r\n\r\nbody\r\n"
T = TypeVar("T")


@dataclass
class ManualClock:
    """Time that moves when a test says so."""

    time: float = START

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Bench:
    """One engine of spool under test, synchronous for its tests."""

    def __init__(self, folder: Path, clock: ManualClock, runner: asyncio.Runner) -> None:
        self.folder = folder
        self.clock = clock
        self.runner = runner
        self.spool: Any = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def open(self, number: int = 3, threshold: int = THRESHOLD) -> SqliteSpool:
        async def opened() -> SqliteSpool:
            return SqliteSpool.open(self.folder, number, self.clock, file_threshold=threshold)

        self.spool = self.run(opened())
        return self.spool

    def close(self) -> None:
        if self.spool is not None:
            self.run(self.spool.close())
            self.spool = None

    def restart(self) -> SqliteSpool:
        self.close()
        return self.open()

    # --- verbs ---------------------------------------------------------------------------------------------

    def message(self, *addresses: str, content: bytes = CONTENT, **options: Any) -> NewMessage:
        recipients = options.pop("recipients", None) or tuple(map(Recipient, addresses or ("c@d.example",)))
        reverse_path = options.pop("reverse_path", "a@b.example")
        details = {
            name: options.pop(name) for name in ("client_message_id", "tags", "account", "digest") if name in options
        }
        return NewMessage(
            id=self.spool.new_id(),
            account=details.pop("account", "acme"),
            username="app",
            envelope=Envelope(reverse_path, recipients, **options),
            content=content,
            received_at=self.clock.now(),
            **details,
        )

    def enqueue(self, *addresses: str, **options: Any) -> str:
        message = self.message(*addresses, **options)
        self.run(self.spool.enqueue(message))
        return message.id

    def act(self, verb: Verb, *ids: str, **options: Any) -> list[tuple[str, int]]:
        """What a verb of the operator touched: message id and index."""
        acted = self.run(self.spool.act(Act(verb, Selection(ids), **options)))
        return [(one.message_id, one.index) for one in acted if not one.in_flight]

    def begin(self, message_id: str, *indexes: int) -> Any:
        start = AttemptStart(message_id, indexes or (0,), "direct", "d.example", self.clock.now())
        return self.run(self.spool.begin_attempt(start))

    def end(self, message_id: str, attempt_id: int, *results: RecipientResult, notice: NewMessage | None = None) -> Any:
        now = self.clock.now()
        return self.run(
            self.spool.end_attempt(AttemptEnd(message_id, attempt_id, now, "mx.d", "TLSv1.3 X", results, notice))
        )

    def finish(self, message_id: str, *indexes: int, kind: EventKind = EventKind.DELIVERED) -> None:
        """A whole attempt that ends it for these recipients."""
        attempt = self.begin(message_id, *(indexes or (0,)))
        self.end(message_id, attempt.id, *(done(index, kind) for index in indexes or (0,)))

    def due(self, after: float = 0.0, until: float | None = None, limit: int = 1000) -> list[Any]:
        return self.run(self.spool.due(after, self.clock.now() if until is None else until, limit))

    def due_ids(self) -> list[str]:
        return [message.id for message in self.due()]

    def describe(self, message_id: str) -> dict[str, Any]:
        found = self.run(self.spool.message(message_id))
        assert found is not None
        return found

    def states(self, message_id: str) -> list[str]:
        return [recipient["state"] for recipient in self.describe(message_id)["recipients"]]

    def kinds(self, message_id: str) -> list[str]:
        return [event["kind"] for event in self.describe(message_id)["events"]]

    def body_files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "3.bodies").glob("??/*"))


def done(index: int, kind: EventKind = EventKind.DELIVERED) -> RecipientResult:
    return RecipientResult(index, "c@d.example", kind, "250 2.0.0 ok")


def deferred(
    index: int, next_at: float, kind: EventKind = EventKind.DEFERRED, *, counts: bool = True
) -> RecipientResult:
    return RecipientResult(index, "c@d.example", kind, "451 4.0.0 later", next_at, counts=counts)
