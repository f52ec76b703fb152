"""Reading headers costs time in proportion to their length, whatever they hold.

Each input would take hours of processor time if some part of it were read again and again; the alarm counts
processor time of this process only, so a busy machine cannot set it off.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from relay.mail.message import addresses_in, header_fields, split_message

SIZE = 1_000_000
PROCESSOR_SECONDS = 20.0


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """Fail instead of hanging."""

    def give_up(*_: object) -> None:
        raise AssertionError(f"more than {PROCESSOR_SECONDS} s of processor time for {SIZE} octets")

    previous = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, PROCESSOR_SECONDS)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, previous)


@pytest.mark.parametrize(
    "unit",
    [b" ", b"\t", b"\r", b"\r\n ", b"\r\n\t x", b"x", b"\n", b"\r\n \n", b"\r\nA:", b"A:\n", b": :"],
    ids=repr,
)
@pytest.mark.parametrize("start", [b"Subject:", b"Subject", b"Subject :", b""], ids=repr)
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\nB: c\r\n"], ids=repr)
def test_header_fields_are_linear(start: bytes, unit: bytes, end: bytes) -> None:
    """One megabyte of the same few octets is one pass."""
    content = start + unit * (SIZE // len(unit)) + end
    header, _ = split_message(content)
    assert sum(len(field.raw) for field in header_fields(header)) <= len(content) + 2


@pytest.mark.parametrize("unit", ['\\"', '"', "(", ")", "<", "<>", "<a>b", "(\\)", '"(', ",", "a@b,", '"\\', "\\"])
@pytest.mark.parametrize("end", ["", "\\", '"', "@"])
def test_addresses_are_linear(unit: str, end: str) -> None:
    """A display name made of quotes, backslashes and parentheses is one pass."""
    assert isinstance(addresses_in('"' + unit * (SIZE // len(unit)) + end), list)


def test_an_unclosed_quote_hides_no_address() -> None:
    """What follows a quote that never ends is still looked at."""
    assert addresses_in('"Joe <joe@example.com>') == ["joe@example.com"]
