"""An engine on a real spool, with transports that do as they are told, a clock that stands and dice that are seeded."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.delivery.engine import Engine
from relay.delivery.feeder import Feeder
from relay.mail.envelope import Envelope, Recipient
from relay.mail.errors import StoreError
from relay.mail.event import Event, EventKind
from relay.mail.outcome import Delivered, Outcome
from relay.mail.reply import Reply, reply
from relay.ports import DeliveryReport, DeliveryRequest, MayTell, NewMessage, QueuedMessage, Random, Signing, tells_all
from relay.settings import Settings
from relay.store.spool import SqliteSpool

START = 1_800_000_000.0
YES = Delivered(reply(250, "2.1.5", "Ok"))
CONTENT = b"From: a@b.example\r\nSubject: hello\r\n\r\nbody\r\n"
TERMINAL = {EventKind.SENT, EventKind.DELIVERED, EventKind.BOUNCED, EventKind.EXPIRED, EventKind.CANCELLED}

Answer = Callable[[DeliveryRequest, bytes], DeliveryReport | Awaitable[DeliveryReport]]


@dataclass
class ManualClock:
    """Time that moves when a test says so."""

    time: float = START

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


def everybody(outcome: Outcome, host: str = "mx.example") -> Answer:
    """A transport that gives each recipient the same outcome."""
    return lambda request, content: DeliveryReport(dict.fromkeys(addresses(request), outcome), host)


def addresses(request: DeliveryRequest) -> list[str]:
    return [recipient.address for recipient in request.recipients]


def open_files() -> list[str]:
    """Paths of what this process has open."""
    folder = "/proc/self/fd"
    return [os.path.realpath(f"{folder}/{name}") for name in os.listdir(folder)]


class FakeTransport:
    """Remembers what it was asked and answers what the test wants."""

    def __init__(self) -> None:
        self.answer: Answer = everybody(YES)
        self.requests: list[DeliveryRequest] = []
        self.contents: list[bytes] = []

    async def deliver(self, request: DeliveryRequest, content: bytes) -> DeliveryReport:
        self.requests.append(request)
        self.contents.append(content)
        answer = self.answer(request, content)
        return answer if isinstance(answer, DeliveryReport) else await answer

    async def close(self) -> None:
        pass

    @property
    def destinations(self) -> list[str]:
        return [request.destination for request in self.requests]


class FakeSigner:
    def __init__(self) -> None:
        self.signed: list[tuple[bytes, str]] = []

    def sign(self, content: bytes, sender_domain: str) -> bytes:
        self.signed.append((content, sender_domain))
        return b"X-Signature: 1\r\n"

    def begin(self, header: bytes, sender_domain: str) -> Signing:
        pieces = [header + b"\r\n"]
        return Signing(pieces.append, lambda: self.sign(b"".join(pieces), sender_domain))


@dataclass
class Heard:
    """Observer and event sink."""

    events: list[Event] = field(default_factory=list)
    failures: list[tuple[str, BaseException]] = field(default_factory=list)
    store_failures: list[StoreError] = field(default_factory=list)
    notices: list[tuple[str, str, str]] = field(default_factory=list)
    pauses: list[tuple[str, str]] = field(default_factory=list)
    hops: list[tuple[str, str]] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    answers: list[tuple[str, int, int, int]] = field(default_factory=list)

    def event(self, event: Event) -> None:
        self.events.append(event)

    def attempt_started(self, request: DeliveryRequest, transport: str) -> None:
        self.attempts.append(transport)

    def attempt_ended(self, transport: str, report: DeliveryReport, seconds: float) -> None:
        assert transport in self.attempts

    def notice_queued(self, message_id: str, notice_id: str, recipient: str) -> None:
        self.notices.append((message_id, notice_id, recipient))

    def route_paused(self, route: str, seconds: float, answer: Reply) -> None:
        self.pauses.append(("paused", route))

    def route_resumed(self, route: str) -> None:
        self.pauses.append(("resumed", route))

    def next_hop_opened(self, next_hop: str, seconds: float, answer: Reply) -> None:
        self.hops.append(("opened", next_hop))

    def next_hop_closed(self, next_hop: str) -> None:
        self.hops.append(("closed", next_hop))

    def provider_silent(self, candidate: str, seconds: float) -> None:
        self.hops.append(("silent", candidate))

    def provider_heard(self, candidate: str) -> None:
        self.hops.append(("heard", candidate))

    def asked(self, candidate: str, *, has: int, none: int, unsure: int) -> None:
        self.answers.append((candidate, has, none, unsure))

    def store_failed(self, error: StoreError) -> None:
        self.store_failures.append(error)

    def failure(self, where: str, error: BaseException, message_id: str | None = None) -> None:
        self.failures.append((where, error))

    def kinds(self, message_id: str, recipient: str | None = None) -> list[str]:
        return [
            event.kind.value
            for event in self.events
            if event.message_id == message_id and recipient in (None, event.recipient)
        ]


def settings(**sections: Any) -> Settings:
    """`spool={"window": 5}`, `route=[...]` and so on; names of smarthosts are made up where a route uses them."""
    names = {via.partition(":")[2] for route in sections.get("route", ()) for via in route["via"] if ":" in via}
    smarthosts = {name: {"host": f"{name}.example"} for name in names}
    server = {"hostname": "relay.example"}
    return Settings.model_validate({"server": server, "smarthost": smarthosts, **sections})


def route(*via: str, **more: Any) -> dict[str, Any]:
    return {"name": "one", "via": via, **more}


class Setting:
    """Everything one test needs; `async with`."""

    def __init__(
        self,
        folder: Path,
        given: Settings,
        transports: dict[str, FakeTransport],
        dice: Random | None = None,
    ) -> None:
        self.folder = folder
        self.settings = given
        self.transports = transports
        self.clock = ManualClock()
        self.heard = Heard()
        self.signer = FakeSigner()
        self.dice = dice or random.Random(7)
        self.may_tell: MayTell = tells_all
        self._feeding: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Setting:
        self.spool: Any = SqliteSpool.open(self.folder, 0, self.clock, file_threshold=100_000)
        self.build()
        return self

    def build(self, spool: Any = None) -> None:
        """A fresh engine and feeder, as after a start."""
        spool = spool or self.spool
        self.engine = Engine(
            self.settings, spool, self.transports, self.signer, self.clock, self.dice, self.heard, self.heard,
            may_tell=self.may_tell,
        )  # fmt: skip
        self.feeder = WatchedFeeder(spool, self.engine, self.clock)

    async def __aexit__(self, *error: object) -> None:
        await self.stop_feeding()
        await self.engine.stop(0.0)
        await self.spool.close()

    def feed(self) -> None:
        self._feeding = asyncio.create_task(self.feeder.run())

    async def stop_feeding(self) -> None:
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.gather(self._feeding, return_exceptions=True)
            self._feeding = None

    async def accept(self, *to: str | Recipient, submit: bool = True, **options: Any) -> str:
        """Spool a message as intake does, and offer it to the engine."""
        recipients = tuple(one if isinstance(one, Recipient) else Recipient(one) for one in to or ("c@d.example",))
        content = options.pop("content", CONTENT)
        account = options.pop("account", "acme")
        tags = options.pop("tags", ())
        envelope = Envelope(options.pop("reverse_path", "a@b.example"), recipients, **options)
        message_id, now = self.spool.new_id(), self.clock.now()
        new = NewMessage(message_id, account, "app", envelope, content, now, tags=tags)
        queued = await self.spool.enqueue(new)
        if submit:
            self.offer(queued)
        return message_id

    def offer(self, queued: QueuedMessage) -> None:
        if not self.engine.submit(queued):
            self.feeder.left_out(queued.received_at)

    async def idle(self) -> None:
        """Wait until nothing is scheduled or in flight."""
        await until(lambda: not self.engine.active)

    async def at_rest(self) -> None:
        """Idle, and the feeder has nothing in hand that it read before this moment."""
        await until(lambda: not (self.engine.active or self.feeder.busy))

    async def advance_to(self, when: float) -> None:
        """Let time pass, and the feeder look."""
        self.clock.time = when
        self.feeder._wake_at = 0.0
        self.feeder._wake.set()

    async def run_out(self, longest: float = 30 * 86_400.0) -> None:
        """Jump from due time to due time until nothing waits any more. Needs `feed()`."""
        end = self.clock.time + longest
        while self.clock.time < end:
            await self.at_rest()
            waiting = await self.spool.next_due_at(0.0)
            if waiting is None:
                return
            when = max(self.clock.time, waiting)
            await self.advance_to(when)
            await until(self._has_looked)
        raise AssertionError("something waits for ever")

    def _has_looked(self) -> bool:
        """Since the last `advance_to`; or there is something to do already."""
        return bool(self.engine.active) or self.feeder._wake_at > self.clock.time

    async def states(self, message_id: str) -> list[str]:
        found = await self.spool.message(message_id)
        return [recipient["state"] for recipient in found["recipients"]]

    async def recipient(self, message_id: str, index: int = 0) -> dict[str, Any]:
        found = await self.spool.message(message_id)
        return found["recipients"][index]


class WatchedFeeder(Feeder):
    """Tells when it is awake."""

    looking = False

    @property
    def busy(self) -> bool:
        return self.looking or self._wake.is_set()

    async def _feed(self) -> None:
        self.looking = True
        try:
            await super()._feed()
        finally:
            self.looking = False


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for what another task or thread does."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.0005)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
