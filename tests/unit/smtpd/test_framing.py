"""Framing: what is kept is bounded and counted, whatever comes."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from relay.mail.reply import Reply
from relay.ports import Incoming
from relay.smtpd import replies
from relay.smtpd.framing import Framing


def _no_disk() -> Incoming:
    raise AssertionError("nothing here is long")


class _Budget:
    """Counts what is held; refuses beyond `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def hold(self, octets: int) -> bool:
        if octets > 0 and self.held + octets > self.limit:
            return False
        self.held += octets
        assert self.held >= 0
        return True


@given(
    pieces=st.lists(st.sampled_from([b"a" * 9000, b"\r\n", b".", b"\r\n..", b"\r\n.\r", b"\n"]), max_size=40),
    limit=st.integers(0, 100_000),
)
def test_what_is_held_is_counted_and_given_back(pieces: list[bytes], limit: int) -> None:
    """Never more held than the budget gives; nothing at the end of the data."""
    budget = _Budget(limit)
    framing = Framing(60_000, budget.hold, _no_disk, fix_bare_lf=False)
    framing.begin_data()
    result: bytes | Reply | None = None
    for piece in [*pieces, b"\r\n.\r\n"]:
        framing.add(piece)
        result = framing.data()
        assert budget.held <= limit
        assert len(framing) <= 60_000 + 20_000 + 8
        if result is not None:
            break

    assert result is not None
    assert budget.held == 0
    if isinstance(result, bytes):
        assert len(result) <= 60_000
    else:
        assert result in (replies.TOO_BIG, replies.NO_MEMORY)


def test_clear_gives_back_what_is_held() -> None:
    """A client that leaves in the middle of its data."""
    budget = _Budget(100_000)
    framing = Framing(100_000, budget.hold, _no_disk, fix_bare_lf=False)
    framing.begin_data()
    framing.add(b"x" * 50_000)
    assert framing.data() is None
    assert budget.held == 50_002

    framing.clear()

    assert budget.held == 0


def test_data_in_many_small_pieces_costs_linear_time() -> None:
    """A megabyte octet by octet: the end is looked for only where it can be new."""
    framing = Framing(2_000_000, lambda octets: True, _no_disk, fix_bare_lf=False)
    framing.begin_data()
    started = time.process_time()
    for _ in range(1_000_000 // 10):
        framing.add(b"x\r\n.\r.\nyz")
        assert framing.data() is None

    assert time.process_time() - started < 2.0


def test_doubled_dots_do_not_count_however_many() -> None:
    """RFC 1870 §5: a message of dots as large as the limit, in pieces, is a third larger on its way."""
    framing = Framing(1020, lambda octets: True, _no_disk, fix_bare_lf=False)
    framing.begin_data()
    for _ in range(340):
        framing.add(b"..\r\n")
        assert framing.data() is None
    framing.add(b".\r\n")

    assert framing.data() == b".\r\n" * 340
