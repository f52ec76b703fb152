"""What the targets share: octets taken apart, readers chosen by the first of them, a bound on work, counts.

A target is called with one input. It returns for whatever is a value or a named error and raises for what breaks an
invariant: any other exception, work that grows faster than the input, something that grows without bound.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

_CPU = 2.0
_STRETCHED_CPU = 1.5
_STRETCHED = 60_000
_EVERY = 1000
_FLUSH = 500

Reader = Callable[[bytes], None]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Target(Protocol):
    """`counts`: inputs by what read them."""

    counts: Counter[str]

    def __call__(self, octets: bytes) -> None: ...

    def seeds(self) -> Iterator[bytes]: ...


class Octets:
    """An input as a source of choices: numbers, pieces, elements. Exhausted, it gives zeros."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._octets)

    def number(self, below: int = 256) -> int:
        if self._at >= len(self._octets):
            return 0
        self._at += 1
        return self._octets[self._at - 1] % below

    def one(self, items: Sequence[_Item]) -> _Item:
        return items[self.number(len(items))]

    def take(self, most: int) -> bytes:
        piece = self._octets[self._at : self._at + most]
        self._at += len(piece)
        return piece

    def rest(self) -> bytes:
        return self.take(len(self._octets))


class Bounded:
    """Fails where what it surrounds took more CPU than that; a machine that is busy elsewhere does not count."""

    def __init__(self, what: str, seconds: float = _CPU) -> None:
        self._what = what
        self._seconds = seconds

    def __enter__(self) -> None:
        self._started = time.thread_time()

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        used = time.thread_time() - self._started
        assert kind is not None or used < self._seconds, f"{self._what}: {used:.1f} s of CPU"


class Readers:
    """A target of several readers: the first octet of an input chooses.

    Of the inputs of pure ones every `every`th is also stretched. `more`: seeds, made by `seed`.
    """

    def __init__(self, readers: Sequence[Reader], pure: Sequence[Reader] = ()) -> None:
        self._readers = tuple(readers)
        self._pure = frozenset(pure)
        self.more: list[bytes] = []
        self.every = _EVERY
        self.counts: Counter[str] = Counter()
        self._left = 0

    def __call__(self, octets: bytes) -> None:
        if not octets:
            return
        reader = self._readers[octets[0] % len(self._readers)]
        name = reader.__name__.strip("_")
        self.counts[name] += 1
        octets = octets[1:]
        with Bounded(name):
            reader(octets)
        self._left -= 1
        if self._left <= 0 and reader in self._pure and octets:
            self._left = self.every
            with Bounded(f"{name}, stretched", _STRETCHED_CPU):
                reader(stretched(octets))

    @property
    def readers(self) -> int:
        """How many there are."""
        return len(set(self._readers))

    def seed(self, reader: Reader, octets: bytes) -> bytes:
        """An input for that reader."""
        return bytes((self._readers.index(reader),)) + octets

    def seeds(self) -> Iterator[bytes]:
        yield from self.more
        yield from (bytes((number,)) for number in range(len(self._readers)))


def stretched(octets: bytes) -> bytes:
    """A piece of the input, chosen by it, again and again in its place: what is quadratic takes minutes then."""
    first, second = octets[0] * len(octets) // 256, octets[-1] * len(octets) // 256
    start, end = min(first, second), max(first, second) + 1
    piece = octets[start:end]
    return octets[:start] + piece * (_STRETCHED // len(piece)) + octets[end:]


def keep_counts(target: Target, path: Path) -> Callable[[bytes], None]:
    """The target, with its counts added to those of earlier runs in a file every few hundred inputs."""
    before = Counter(json.loads(path.read_text())) if path.exists() else Counter()
    left = _FLUSH

    def counted(octets: bytes) -> None:
        nonlocal left
        target(octets)
        left -= 1
        if left <= 0:
            left = _FLUSH
            new = path.with_suffix(".new")
            new.write_text(json.dumps(before + target.counts))
            os.replace(new, path)

    return counted


_LOOP: list[asyncio.AbstractEventLoop] = []


def in_loop(work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of a coroutine in the one event loop there is; made once, for that is what costs."""
    if not _LOOP:
        _LOOP.append(asyncio.new_event_loop())
    return _LOOP[0].run_until_complete(work)
