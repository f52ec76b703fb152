"""Every extension that EHLO can name has three transcripts: its use, its misuse, and its absence."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from transcript import Player, Transcript

FOLDER = Path(__file__).parent / "extensions"
KINDS = ("use", "misuse", "absence")
# Between them they bring out every line EHLO can have.
_SESSIONS: tuple[dict[str, dict[str, str]], ...] = (
    {"listener": {"tls": "starttls"}},
    {"listener": {"tls": "implicit"}},
    {"listener": {"tls": "none", "xclient": "192.0.2.0/24"}, "limits": {"transactions": "5"}},
)


def _named(settings: dict[str, dict[str, str]]) -> set[str]:
    player = Player(settings)
    player.send(b"EHLO client.example\r\n")
    lines = player.replies().decode().splitlines()
    return {line[4:].split()[0] for line in lines if line[:3] == "250"} - {"mx.example"}


ADVERTISED = sorted(set().union(*map(_named, _SESSIONS)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keyword", ADVERTISED)
def test_an_extension_that_is_named_has_its_transcripts(keyword: str, kind: str) -> None:
    path = FOLDER / f"{keyword.lower()}-{kind}.txt"
    assert path.exists(), f"write {path.name}: what the server says of {keyword} in its {kind}"
    assert path.read_text().startswith("# "), "the first line says which rule it is about"


@pytest.mark.parametrize("keyword", ADVERTISED)
def test_a_client_that_uses_an_extension_has_seen_it_named(keyword: str) -> None:
    steps = Transcript.read(FOLDER / f"{keyword.lower()}-use.txt").steps
    said = b"".join(octets for kind, octets in steps if kind == "S").decode()
    named = {line[4:].split()[0] for line in said.splitlines() if line[:4] in ("250-", "250 ")}
    assert keyword in named


def test_no_transcript_is_of_an_extension_that_is_not_named() -> None:
    """One that is taken out leaves nothing behind, and a name is spelled as EHLO spells it."""
    wanted = {f"{keyword.lower()}-{kind}" for keyword in ADVERTISED for kind in KINDS}
    assert {path.stem for path in FOLDER.glob("*.txt")} == wanted


def test_transcripts_show_no_extension_that_these_sessions_lack() -> None:
    """What any transcript has EHLO name is among those that need three."""
    shown: set[str] = set()
    for path in FOLDER.parent.rglob("*.txt"):
        steps = Transcript.read(path).steps
        for (kind, octets), (_, said) in pairwise(steps):
            if kind == "C" and octets.upper().startswith(b"EHLO "):
                lines = said.decode(errors="replace").splitlines()
                shown |= {line[4:].split()[0] for line in lines if line.startswith("250-")} - {"mx.example"}
    assert shown <= set(ADVERTISED)
