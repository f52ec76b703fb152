"""Every transcript, in one piece, octet by octet and in random pieces: the server says exactly what is written."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from transcript import Cut, Transcript, play

HERE = Path(__file__).parent
TRANSCRIPTS = sorted(HERE.rglob("*.txt"))


def _whole(octets: bytes) -> Iterator[bytes]:
    yield octets


def _octet_by_octet(octets: bytes) -> Iterator[bytes]:
    for octet in octets:
        yield bytes([octet])


def _at_random(octets: bytes) -> Iterator[bytes]:
    dice = random.Random(len(octets))
    while octets:
        size = dice.choice((1, 2, 3, 5, 8, 40, 700))
        yield octets[:size]
        octets = octets[size:]


@pytest.mark.parametrize("cut", [_whole, _octet_by_octet, _at_random])
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_server_answers_as_written(path: Path, cut: Cut) -> None:
    """However the client's octets are cut on their way."""
    transcript = Transcript.read(path)
    if transcript.together and cut is not _whole:
        pytest.skip("the transcript is about what comes in one piece")

    play(transcript, cut)


def test_there_are_transcripts() -> None:
    """An empty folder would pass unseen."""
    assert len(TRANSCRIPTS) > 20
