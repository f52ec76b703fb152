"""docs/lifecycle.md draws the states and transitions of relay/mail/lifecycle.py, all of them and no others."""

from __future__ import annotations

import re

from pages import page, table

from relay.mail.lifecycle import TRANSITIONS, State

PAGE = page("lifecycle.md")
_ARROW = re.compile(r"^    (\S+) --> (\S+?)(?:: (\w+))?$", re.MULTILINE)


def test_the_drawing_has_exactly_the_transitions_of_the_table() -> None:
    expected = {("[*]", "queued", "queued")}
    expected |= {(state.name.lower(), "[*]", "") for state in State if state.terminal}
    for state, moves in TRANSITIONS.items():
        expected |= {(state.name.lower(), after.name.lower(), str(kind)) for kind, after in moves.items()}
    drawn = _ARROW.findall(PAGE)
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == expected


def test_every_state_is_explained_with_its_finality() -> None:
    explained = {row[0].strip("`"): row[1] for row in table(PAGE) if len(row) == 3}
    assert explained == {state.name.lower(): "yes" if state.terminal else "no" for state in State}
