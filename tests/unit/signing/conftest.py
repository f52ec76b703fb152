"""Keys made once, a clock that stands, and an alarm for what should take a moment and might take hours."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.signing.keys import KeyStore

PROCESSOR_SECONDS = 20.0


class StoppedClock:
    """Time that moves when told to."""

    def __init__(self, now: float) -> None:
        self.seconds = now

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock(1_700_000_000.7)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    """Keys for example.com and for its subdomain sub.example.com; nobody changes them."""
    keys = KeyStore(Path(tmp_path_factory.mktemp("var")) / "keys")
    keys.add("example.com")
    keys.add("sub.example.com")
    return keys


@pytest.fixture
def processor_alarm() -> Iterator[None]:
    """Fail instead of hanging. Counts this process's own processor time, so a busy machine cannot set it off."""

    def give_up(*_: object) -> None:
        raise AssertionError(f"more than {PROCESSOR_SECONDS} s of processor time")

    previous = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, PROCESSOR_SECONDS)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, previous)
