"""Framing: a long message goes to disk as it arrives, and is what it would be in memory, however it is cut."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mail.errors import StoreError
from relay.mail.line_ends import fixed_line_ends, has_bare_line_ends
from relay.mail.reply import Reply
from relay.ports import LongMessage
from relay.smtpd import replies, spill
from relay.smtpd.chunks import Chunks
from relay.smtpd.framing import Framing


class File:
    """An Incoming in memory; `room` octets fit."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.octets = b""
        self.discarded = False

    def write(self, octets: bytes) -> None:
        if len(self.octets) + len(octets) > self.room:
            raise StoreError("disk full")
        self.octets += octets

    def discard(self) -> None:
        self.discarded = True


class Disk:
    def __init__(self, room: int = 10**9) -> None:
        self.room = room
        self.files: list[File] = []

    def open(self) -> File:
        self.files.append(File(self.room))
        return self.files[-1]


_DOTS = 130  # a line of nothing but dots is not cut


def receive(pieces: list[bytes], disk: Disk, *, size: int = 10**6, fix: bool = False) -> bytes | LongMessage | Reply:
    """What comes of data cut like this; never more than a little beyond the limit in memory."""
    framing = Framing(size, lambda octets: True, disk.open, fix_bare_lf=fix)
    framing._long = 64
    framing.begin_data()
    longest = max(map(len, pieces))
    for piece in pieces:
        framing.add(piece)
        result = framing.data()
        if result is not None:
            return result
        assert len(framing) <= 64 + 2 + longest + _DOTS
    raise AssertionError("no end of data")


LINES = st.lists(
    st.sampled_from([b"x" * 30, b".", b"..", b".x", b"", b"y" * 200, b"a\rb", b"c\nd", b"\0", b"..." * 40]), max_size=30
)


@settings(max_examples=300)
@given(lines=LINES, cuts=st.lists(st.integers(1, 60), min_size=1, max_size=50), fix=st.booleans())
def test_what_goes_to_disk_is_what_would_be_in_memory(lines: list[bytes], cuts: list[int], fix: bool) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    wire = b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines) + b".\r\n"
    pieces, at = [], 0
    while at < len(wire):
        step = cuts[len(pieces) % len(cuts)]
        pieces.append(wire[at : at + step])
        at += step
    disk = Disk()
    result = receive(pieces, disk, fix=fix)
    if isinstance(result, bytes):
        assert result == content
        return
    assert isinstance(result, LongMessage)
    [file] = disk.files
    wanted = fixed_line_ends(content) if fix and has_bare_line_ends(content) else content
    assert file.octets == wanted
    assert (len(result), result.nul) == (len(wanted), b"\0" in content)
    assert result.bare == (has_bare_line_ends(content) and not fix)
    assert wanted.startswith(result.head)
    assert not file.discarded


@settings(max_examples=300)
@given(
    lines=LINES,
    cuts=st.lists(st.integers(1, 60), min_size=1, max_size=50),
    counts=st.lists(st.integers(0, 90), min_size=1, max_size=20),
    fix=st.booleans(),
)
def test_chunks_are_what_they_would_be_in_one_piece(
    lines: list[bytes], cuts: list[int], counts: list[int], fix: bool
) -> None:
    """However the client counts them and the network cuts them; `.` and CRLF.CRLF are content."""
    content = b"\r\n".join(lines)
    disk = Disk()
    held = 0

    def hold(octets: int) -> bool:
        nonlocal held
        held += octets
        return True

    chunks = Chunks(10**6, hold, disk.open, fix_bare_lf=fix)
    chunks._long = 64
    at = number = 0
    while at < len(content) or not number:
        octets = counts[number % len(counts)] if any(counts) else len(content)
        number += 1
        chunk = content[at : at + octets]
        at += octets
        assert chunks.begin(len(chunk), last=False, refusal=None)
        while chunks.due:
            piece, chunk = chunk[: cuts[0]], chunk[cuts[0] :]
            cuts = [*cuts[1:], cuts[0]]
            chunks.add(piece)
            assert len(chunks._octets) <= 64 + 3
    assert chunks.size == len(content)
    result = chunks.content()

    wanted = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    if isinstance(result, bytes):
        assert (result, disk.files) == (wanted, [])
    else:
        assert isinstance(result, LongMessage)
        [file] = disk.files
        assert file.octets == (fixed_line_ends(wanted) if fix and has_bare_line_ends(wanted) else wanted)
        assert (len(result), result.nul) == (len(file.octets), b"\0" in wanted)
        assert result.bare == (has_bare_line_ends(wanted) and not fix)
    assert held == 0
    assert not chunks.open


def test_a_full_disk_between_chunks_is_452_and_leaves_no_file() -> None:
    disk = Disk(room=100)
    chunks = Chunks(10**6, lambda octets: True, disk.open, fix_bare_lf=False)
    chunks._long = 64
    for _ in range(3):
        chunks.begin(60, last=False, refusal=None)
        chunks.add(b"x" * 60)
    assert chunks.refusal == replies.NO_SPACE
    assert [file.discarded for file in disk.files] == [True]


def test_chunks_beyond_the_budget_are_452_and_give_back_what_they_held() -> None:
    held = 0

    def hold(octets: int) -> bool:
        nonlocal held
        if octets > 0 and held + octets > 50_000:
            return False
        held += octets
        return True

    chunks = Chunks(10**6, hold, Disk().open, fix_bare_lf=False)
    for _ in range(4):
        chunks.begin(20_000, last=False, refusal=None)
        chunks.add(b"x" * 20_000)
    assert (chunks.refusal, held) == (replies.NO_MEMORY, 0)


def test_a_full_disk_in_mid_message_is_452_and_the_rest_is_read_to_its_end() -> None:
    disk = Disk(room=200)
    assert receive([b"x" * 60 + b"\r\n"] * 20 + [b".\r\n"], disk) == replies.NO_SPACE
    assert [file.discarded for file in disk.files] == [True]


def test_a_long_message_beyond_the_size_is_552_and_leaves_no_file() -> None:
    disk = Disk()
    assert receive([b"x" * 60 + b"\r\n"] * 40 + [b".\r\n"], disk, size=1000) == replies.TOO_BIG
    assert [file.discarded for file in disk.files] == [True]


def test_a_client_that_leaves_in_mid_message_leaves_no_file() -> None:
    disk = Disk()
    framing = Framing(10**6, lambda octets: True, disk.open, fix_bare_lf=False)
    framing._long = 64
    framing.begin_data()
    framing.add(b"x" * 100 + b"\r\nmore\r\n")
    assert framing.data() is None
    framing.clear()
    assert [file.discarded for file in disk.files] == [True]


def test_a_megabyte_stays_in_memory_and_more_does_not() -> None:
    assert 1_048_576 < spill.LONG < 1_200_000
