"""docs/reference/events.md defines every event and every log line, as the program writes them."""

from __future__ import annotations

import inspect
import json
import os
import re
from typing import Any

import pytest
from pages import ROOT, page, section, table

from relay.mail.event import Event, EventKind
from relay.mail.lifecycle import TRANSITIONS
from relay.ports import SystemClock
from relay.telemetry.log import MailLog

PAGE = page("reference/events.md")
EVENTS = {row[0].strip("`"): row for row in table(section(PAGE, "Events"))}
OTHERS = {row[0].strip("`"): row for row in table(section(PAGE, "Other lines"))}
EXAMPLES = [json.loads(line) for line in section(PAGE, "Lines").splitlines() if line.startswith("{")]
# Told by the doors, with facts of their own.
OF_THE_DOORS = {EventKind.QUEUED, EventKind.REJECTED}


def written(event: Event) -> dict[str, Any]:
    """The line the log has for an event."""
    reading, writing = os.pipe()
    MailLog(SystemClock(), format="json", descriptor=writing).event(event)
    os.close(writing)
    with open(reading) as file:
        line: dict[str, Any] = json.loads(file.read())
    return line


def example(kind: EventKind) -> dict[str, Any]:
    (found,) = [one for one in EXAMPLES if one["event"] == kind]
    return found


def test_every_event_is_defined_and_none_is_invented() -> None:
    assert set(EVENTS) == {str(kind) for kind in EventKind}
    assert {one["event"] for one in EXAMPLES} == {str(kind) for kind in EventKind}


def test_the_state_an_event_leads_to_is_that_of_the_table_of_states() -> None:
    leads_to = {kind: state for moves in TRANSITIONS.values() for kind, state in moves.items()}
    for kind in set(EventKind) - OF_THE_DOORS:
        assert EVENTS[kind][2] == (leads_to[kind].name.lower() if kind in leads_to else "")


@pytest.mark.parametrize("kind", sorted(set(EventKind) - OF_THE_DOORS))
def test_the_level_is_the_one_the_log_uses(kind: EventKind) -> None:
    assert EVENTS[kind][1] == written(Event(0.0, kind, "1a210fa33fb00000", "a@b.example"))["level"]


@pytest.mark.parametrize("kind", sorted(set(EventKind) - OF_THE_DOORS))
def test_the_example_has_the_fields_of_the_log_line(kind: EventKind) -> None:
    shown = example(kind)
    detail = {name: shown[name] for name in ("transport", "host", "remote_id") if name in shown}
    line = written(Event(0.0, kind, shown["id"], shown["to"], shown.get("reply", ""), detail))
    assert {**line, "time": ""} == {**shown, "time": ""}


def test_every_other_line_of_the_log_is_listed() -> None:
    log = inspect.getsource(MailLog)
    direct = set(re.findall(r'_log\.\w+\(\s*"(\w+)"', log)) | {"log_lost"}
    by_name = {
        found
        for path in (ROOT / "relay").rglob("*.py")
        for found in re.findall(r'log\.(?:note|warn)\(\s*"(\w+)"', path.read_text())
    }
    assert set(OTHERS) == (direct | by_name) - set(EVENTS)


def test_the_levels_of_the_other_lines_are_those_of_the_code() -> None:
    source = "".join(path.read_text() for path in (ROOT / "relay").rglob("*.py"))
    used = {name: level for level, name in re.findall(r'_log\.(\w+)\(\s*"(\w+)"', source)}
    used |= {
        name: {"note": "info", "warn": "warning"}[how]
        for how, name in re.findall(r'og\.(note|warn)\(\s*"(\w+)"', source)
    }
    used |= {"log_lost": "warning"}
    assert {name: row[1] for name, row in OTHERS.items()} == {name: used[name] for name in OTHERS}
