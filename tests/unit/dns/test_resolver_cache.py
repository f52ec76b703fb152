"""What the resolver remembers, for how long, and what it says when DNS is silent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from relay.dns.resolver import STALE_SECONDS, DnsResolver
from relay.mail.errors import DnsTemporaryError, SettingsError
from relay.ports import DnsAnswer
from relay.settings import DnsSettings


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


class Upstream:
    """Answers as told, and counts; `gate` holds answers back until it is set."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answer: DnsAnswer | str = DnsAnswer(("192.0.2.1",), ttl=60.0)
        self.gate: asyncio.Event | None = None

    async def ask(self, name: str, rdtype: str) -> DnsAnswer:
        self.asked.append((name, rdtype))
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, str):
            raise DnsTemporaryError(self.answer)
        return self.answer


class Setting:
    """A resolver with its clock and upstream; `ask` runs one question to its end."""

    def __init__(self, **settings: float) -> None:
        self.clock = Clock()
        self.upstream = Upstream()
        self.resolver = DnsResolver(DnsSettings(**settings), self.clock, upstream=self.upstream)

    def ask(self, name: str = "a.example", rdtype: str = "A") -> DnsAnswer:
        return asyncio.run(self.resolver.query(name, rdtype))


def in_flight(setting: Setting, scene: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `scene` while every answer waits for the event it is given."""

    async def run() -> None:
        setting.upstream.gate = asyncio.Event()
        await scene(setting.upstream.gate)

    asyncio.run(run())


def test_an_answer_is_kept_for_its_ttl() -> None:
    """Asked again only when the TTL is over, whatever the case and final dot of the name."""
    setting = Setting()
    setting.ask()
    setting.clock.seconds += 59.9
    setting.ask("A.Example.")
    assert setting.upstream.asked == [("a.example", "A")]
    setting.clock.seconds += 0.2
    setting.ask()
    assert len(setting.upstream.asked) == 2


@pytest.mark.parametrize(("ttl", "kept"), [(0.0, 5.0), (60.0, 60.0), (2_000_000_000.0, 3600.0)])
def test_ttl_is_clamped(ttl: float, kept: float) -> None:
    """No answer is kept shorter than minimum_ttl or longer than maximum_ttl, and its ttl says so."""
    setting = Setting()
    setting.upstream.answer = DnsAnswer(("192.0.2.1",), ttl=ttl)
    assert setting.ask().ttl == kept
    setting.clock.seconds += kept - 0.1
    setting.ask()
    assert len(setting.upstream.asked) == 1
    setting.clock.seconds += 0.2
    setting.ask()
    assert len(setting.upstream.asked) == 2


def test_a_negative_answer_is_kept_too() -> None:
    """NXDOMAIN is asked once within its TTL."""
    setting = Setting()
    setting.upstream.answer = DnsAnswer((), exists=False, ttl=30.0)
    assert [setting.ask().exists, setting.ask().exists] == [False, False]
    assert len(setting.upstream.asked) == 1


def test_types_do_not_share_answers() -> None:
    setting = Setting()
    setting.ask("a.example", "A")
    setting.ask("a.example", "MX")
    assert setting.upstream.asked == [("a.example", "A"), ("a.example", "MX")]


def test_a_stale_answer_counts_while_dns_is_silent() -> None:
    """For an hour past its TTL, and DNS is asked again every 30 seconds only."""
    setting = Setting()
    fresh = setting.ask()
    setting.upstream.answer = "SERVFAIL"
    setting.clock.seconds += 61
    assert setting.ask() == fresh
    setting.clock.seconds += 29
    assert setting.ask() == fresh
    assert len(setting.upstream.asked) == 2
    setting.clock.seconds += 2
    assert setting.ask() == fresh
    assert len(setting.upstream.asked) == 3
    setting.clock.seconds += STALE_SECONDS
    with pytest.raises(DnsTemporaryError, match="SERVFAIL"):
        setting.ask()


def test_serving_stale_does_not_lengthen_the_hour() -> None:
    """However often it is served, it ends an hour after its TTL."""
    setting = Setting()
    setting.ask()
    setting.upstream.answer = "SERVFAIL"
    over = setting.clock.seconds + 60 + STALE_SECONDS
    while setting.clock.seconds + 31 < over:
        setting.clock.seconds += 31
        setting.ask()
    setting.clock.seconds = over
    with pytest.raises(DnsTemporaryError):
        setting.ask()


def test_a_new_answer_ends_the_stale_one() -> None:
    setting = Setting()
    setting.ask()
    setting.upstream.answer = "SERVFAIL"
    setting.clock.seconds += 61
    setting.ask()
    setting.upstream.answer = DnsAnswer(("192.0.2.2",), ttl=60.0)
    setting.clock.seconds += 31
    assert setting.ask().records == ("192.0.2.2",)


def test_a_failure_is_remembered_for_five_seconds() -> None:
    """A dead zone is not asked for every message (RFC 9520), and heals soon."""
    setting = Setting()
    setting.upstream.answer = "SERVFAIL"
    for _ in range(3):
        with pytest.raises(DnsTemporaryError, match="SERVFAIL"):
            setting.ask()
    assert len(setting.upstream.asked) == 1
    setting.upstream.answer = DnsAnswer(("192.0.2.1",), ttl=60.0)
    setting.clock.seconds += 5.1
    assert setting.ask().records == ("192.0.2.1",)


def test_equal_questions_are_asked_once() -> None:
    """A hundred callers at a time share one question and its answer."""
    setting = Setting()

    async def scene(gate: asyncio.Event) -> None:
        callers = [asyncio.create_task(setting.resolver.query("a.example", "A")) for _ in range(100)]
        await asyncio.sleep(0)
        gate.set()
        answers = await asyncio.gather(*callers)
        assert all(answer is answers[0] for answer in answers)

    in_flight(setting, scene)
    assert len(setting.upstream.asked) == 1


def test_a_shared_failure_reaches_every_caller() -> None:
    setting = Setting()
    setting.upstream.answer = "time-out"

    async def scene(gate: asyncio.Event) -> None:
        callers = [asyncio.create_task(setting.resolver.query("a.example", "A")) for _ in range(3)]
        await asyncio.sleep(0)
        gate.set()
        results = await asyncio.gather(*callers, return_exceptions=True)
        assert [str(result) for result in results] == ["time-out"] * 3

    in_flight(setting, scene)


def test_a_cancelled_caller_does_not_cancel_the_question() -> None:
    """The first caller gives up; the second gets the answer of the same question."""
    setting = Setting()

    async def scene(gate: asyncio.Event) -> None:
        first = asyncio.create_task(setting.resolver.query("a.example", "A"))
        second = asyncio.create_task(setting.resolver.query("a.example", "A"))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        assert first.cancelled()
        gate.set()
        assert (await second).records == ("192.0.2.1",)

    in_flight(setting, scene)
    assert len(setting.upstream.asked) == 1


def test_a_failure_that_nobody_waits_for_is_no_unseen_exception() -> None:
    """All callers gone, the question fails: nothing is reported as never retrieved, and the failure is remembered."""
    setting = Setting()
    setting.upstream.answer = "time-out"
    reported: list[dict[str, object]] = []

    async def scene(gate: asyncio.Event) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        caller = asyncio.create_task(setting.resolver.query("a.example", "A"))
        await asyncio.sleep(0)
        caller.cancel()
        gate.set()
        for _ in range(5):
            await asyncio.sleep(0)

    in_flight(setting, scene)
    assert reported == []
    with pytest.raises(DnsTemporaryError):
        setting.ask()
    assert len(setting.upstream.asked) == 1


def test_the_cache_is_bounded_and_drops_the_least_used() -> None:
    setting = Setting(cache_size=2)
    for name in ("a.example", "b.example", "a.example", "c.example", "a.example"):
        setting.ask(name)
    assert [name for name, _ in setting.upstream.asked] == ["a.example", "b.example", "c.example"]
    setting.ask("b.example")
    assert len(setting.upstream.asked) == 4


def test_a_cache_of_size_zero_keeps_nothing() -> None:
    setting = Setting(cache_size=0)
    setting.ask()
    setting.ask()
    assert len(setting.upstream.asked) == 2


def test_too_many_questions_at_once_are_put_off() -> None:
    """Strangers cannot make the relay open sockets without end."""
    setting = Setting()

    async def scene(gate: asyncio.Event) -> None:
        callers = [asyncio.create_task(setting.resolver.query(f"{n}.example", "A")) for n in range(1100)]
        await asyncio.sleep(0)
        gate.set()
        results = await asyncio.gather(*callers, return_exceptions=True)
        assert sum(isinstance(result, DnsTemporaryError) for result in results) == 1100 - 1024

    in_flight(setting, scene)
    assert setting.ask("1099.example").records == ("192.0.2.1",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dns.example",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:" + "9" * 5000,
        "192.0.2.1:\u0665\u0663",
        "192.0.2.1:53:53",
        "[192.0.2.1]:53",
        "[::1",
        "[::1]53",
        "[::1]:",
        "::1]:53",
    ],
)
def test_a_malformed_name_server_is_an_operators_error(text: str) -> None:
    """The line names the setting and the way to write it."""
    with pytest.raises(SettingsError, match=r"^dns\.nameservers: .*write '192\.0\.2\.1'"):
        DnsResolver(DnsSettings(nameservers=("192.0.2.1", text)), Clock())


@pytest.mark.parametrize("text", ["192.0.2.1", "192.0.2.1:5353", "::1", "[::1]", "[2001:db8::1]:53", "fe80::1%eth0"])
def test_well_formed_name_servers(text: str) -> None:
    DnsResolver(DnsSettings(nameservers=(text,)), Clock())
