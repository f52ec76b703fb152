"""The mail log: one line a fact, whatever a peer puts into it, and no secret in any line."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.event import Event, EventKind
from relay.telemetry.log import Level, LibraryHandler, MailLog, _log_unraisable
from relay.telemetry.output import LONGEST_LINE
from relay.telemetry.render import LONGEST_VALUE, MASK, console_renderer, is_secret, json_renderer, scrub


class _Clock:
    def now(self) -> float:
        return 1_795_318_620.125

    def monotonic(self) -> float:
        return 5.0


class _Captured:
    """A log that writes to a file, and its lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def log(self, form: str = "json", level: Level = "debug") -> MailLog:
        return MailLog(_Clock(), format=form, level=level, descriptor=self._descriptor)

    def lines(self) -> list[str]:
        return self.path.read_bytes().decode().splitlines(keepends=True)

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def captured(tmp_path: Path) -> Iterator[_Captured]:
    captured = _Captured(tmp_path / "log")
    yield captured
    captured.close()


_HOSTILE = [
    "a\r\nevent=delivered id=forged",
    "\x1b[2J\x1b[31mred",
    "user\u202egpj.exe",
    '","event":"forged',
    "\u2028\u2029\x85\x0b\x0c",
    "\x00\x7f\x9b",
    "\ud800",
    "x" * 1_000_000,
]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("value", _HOSTILE, ids=range(len(_HOSTILE)))
def test_hostile_values_stay_inside_their_line(captured: _Captured, form: str, value: str) -> None:
    """Line ends, escapes and overrides in any field leave one printable line of bounded length."""
    log = captured.log(form)

    log.queued("id-1", value, 1, 10, helo=value, to=value)
    log.rejected(value, value, value)
    log.event(Event(0.0, EventKind.DEFERRED, value, value, value, {"host": value}))

    lines = captured.lines()
    assert len(lines) == 3
    for line in lines:
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        assert len(line.encode()) <= LONGEST_LINE


_VALUES = st.one_of(
    st.text(),
    st.text(alphabet=st.sampled_from('\r\n\x1b[\u202e\u2028"\\={},: a'), max_size=600),
    st.integers(),
    st.floats(),
    st.binary(),
    st.none(),
    st.booleans(),
)


@given(fields=st.dictionaries(st.text(max_size=80), _VALUES, max_size=12), event=st.text(max_size=200))
def test_any_fields_make_one_json_line(fields: dict[str, object], event: str) -> None:
    """Whatever names and values come, the JSON line is one line, parses, and fits one write."""
    line = json_renderer(_Clock())("info", event, fields)

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert len(line) <= LONGEST_LINE
    assert json.loads(line)["level"] == "info"
    assert line[:-1].decode("ascii").isprintable()


@given(fields=st.dictionaries(st.text(max_size=80), _VALUES, max_size=12), event=st.text(max_size=200))
def test_any_fields_make_one_console_line(fields: dict[str, object], event: str) -> None:
    """The console line is one printable line that fits one write."""
    line = console_renderer(_Clock())("info", event, fields).decode()

    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert len(line.encode()) <= LONGEST_LINE


def test_json_line_has_time_level_event_and_fields(captured: _Captured) -> None:
    """Programs find RFC 3339 UTC time, level, event name, and numbers as numbers."""
    captured.log().queued("id-1", None, 2, 4096, peer="192.0.2.1", seconds=0.00123)

    assert json.loads(captured.lines()[0]) == {
        "time": "2026-11-22T03:37:00.125Z",
        "level": "info",
        "event": "queued",
        "id": "id-1",
        "from": "<>",
        "recipients": 2,
        "size": 4096,
        "peer": "192.0.2.1",
        "seconds": 0.0012,
    }


def test_non_ascii_addresses_survive_json(captured: _Captured) -> None:
    """An internationalised address comes back whole from the JSON line."""
    captured.log().delivered("id-1", "användare@exämple.se", "250 2.0.0 Ok")

    assert json.loads(captured.lines()[0])["to"] == "användare@exämple.se"


def test_values_are_capped(captured: _Captured) -> None:
    """A long value is cut at its cap and says so."""
    captured.log().rejected("peer", "listener", "y" * 5000)

    shown = json.loads(captured.lines()[0])["reply"]
    assert shown == "y" * LONGEST_VALUE + "...[cut]"


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "name",
    ["password", "SMTP_PASSWORD", "authorization", "Authorization", "api_key", "X-Api-Key", "client_secret",
     "access_token", "cookie", "private_key", "body", "content", "key"],
)  # fmt: skip
def test_fields_named_like_secrets_are_masked(captured: _Captured, form: str, name: str) -> None:
    """A field whose name says secret never shows its value, at any level, in any format."""
    log = captured.log(form)

    log.note("settings", **{name: "hunter2-hunter2"})
    log.event(Event(0.0, EventKind.SENT, "id-1", "a@b.example", "250 ok", {name: "hunter2-hunter2"}))

    text = captured.path.read_text()
    assert "hunter2" not in text
    assert text.count(MASK) == 2


@pytest.mark.parametrize(
    "text",
    [
        "sent AUTH PLAIN AGFsaWNlAGh1bnRlcjI=hunter2",
        "Authorization: Bearer hunter2",
        "headers {'Authorization': 'Basic hunter2'}",
        "GET https://api.example/send?api_key=hunter2&x=1",
        'config {"password": "hunter2"}',
        "https://user:hunter2@smtp.example/",
        "token=hunter2",
    ],
)
def test_credentials_in_exception_texts_are_masked(captured: _Captured, text: str) -> None:
    """A library's error that quotes a credential reaches the log without it, in text and traceback."""
    try:
        raise RuntimeError(text)
    except RuntimeError as error:
        captured.log().failure("transport", error, "id-1")

    line = json.loads(captured.lines()[0])
    # The source line in the traceback shows the variable, not its value.
    assert "hunter2" not in captured.path.read_text()
    assert line["id"] == "id-1"
    assert line["traceback"].startswith("Traceback")


def test_ordinary_words_are_not_taken_for_secrets() -> None:
    """Names and addresses that merely look alike stay readable."""
    assert not any(is_secret(name) for name in ("id", "to", "from", "reply", "username", "route", "keyed", "authority"))
    assert scrub("connect to http://127.0.0.1:8025/x failed") == "connect to http://127.0.0.1:8025/x failed"


def test_level_filters(captured: _Captured) -> None:
    """At `warning` the ordinary course of mail is silent and bounces still show."""
    log = captured.log(level="warning")

    log.queued("id-1", "a@b.example", 1, 1)
    log.connected("192.0.2.1", "submission")
    log.event(Event(0.0, EventKind.BOUNCED, "id-1", "c@d.example", "550 5.1.1 no"))

    assert [json.loads(line)["event"] for line in captured.lines()] == ["bounced"]


def test_every_event_kind_has_a_line(captured: _Captured) -> None:
    """As an event sink the log shows each kind by its public name, with id, recipient, reply and details."""
    log = captured.log()

    for kind in EventKind:
        log.event(Event(0.0, kind, "id-1", "a@b.example", "250 2.0.0 ok", {"transport": "direct", "event": "forged"}))

    for kind, line in zip(EventKind, captured.lines(), strict=True):
        shown = json.loads(line)
        assert shown["event"] == kind
        assert (shown["id"], shown["to"], shown["reply"]) == ("id-1", "a@b.example", "250 2.0.0 ok")
        assert shown["transport"] == "direct"


def test_a_full_pipe_costs_lines_but_never_blocks() -> None:
    """Nobody reads standard error: logging goes on without waiting, and later says how many lines are missing."""
    reader, writer = os.pipe()
    try:
        log = MailLog(_Clock(), format="json", descriptor=writer)
        for _ in range(3000):
            log.queued("id-1", "a@b.example", 1, 4096)

        written = os.read(reader, 1 << 20).count(b"\n")
        log.queued("id-2", "a@b.example", 1, 4096)

        lost, after = (json.loads(line) for line in os.read(reader, 1 << 20).splitlines())
        assert (lost["event"], lost["lines"]) == ("log_lost", 3000 - written)
        assert after["id"] == "id-2"
    finally:
        os.close(reader)
        os.close(writer)


def test_the_lines_of_one_turn_of_the_loop_are_one_write_and_never_more_than_a_pipe_takes_at_once(captured) -> None:
    turn: list[Callable[[], None]] = []
    log = captured.log()
    log.gather(turn.append)
    for number in range(100):
        log.queued(f"id-{number}", "a@b.example", 1, 4096)
        assert number > 20 or not captured.lines()
    before = captured.lines()
    assert 0 < len(before) < 100
    assert before[-1].endswith("\n")
    assert len(turn) == 1
    turn.pop()()
    assert [json.loads(line)["id"] for line in captured.lines()] == [f"id-{number}" for number in range(100)]
    log.queued("last", "a@b.example", 1, 4096)
    log.scatter()
    assert json.loads(captured.lines()[-1])["id"] == "last"
    log.queued("alone", "a@b.example", 1, 4096)
    assert json.loads(captured.lines()[-1])["id"] == "alone"


def test_a_line_of_another_thread_waits_for_no_turn_of_the_loop(captured) -> None:
    log = captured.log()
    log.gather(lambda flush: None)
    thread = threading.Thread(target=lambda: log.queued("id-1", "a@b.example", 1, 4096))
    thread.start()
    thread.join()
    assert json.loads(captured.lines()[0])["id"] == "id-1"


def test_a_closed_reader_is_no_error() -> None:
    """When the log's reader is gone, facts are dropped, not raised."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        MailLog(_Clock(), format="json", descriptor=writer).queued("id-1", "a@b.example", 1, 1)
    finally:
        os.close(writer)


def test_library_warnings_become_lines_and_debug_does_not(captured: _Captured) -> None:
    """What a library logs at WARNING is one line of ours without secrets; its DEBUG and INFO never appear."""
    logger = logging.Logger("mail.log")  # noqa: LOG001 -- one of our own, so that no other test hears of it
    logger.addHandler(LibraryHandler(captured.log()))

    logger.debug("DATA readline: %s", b"secret body")
    logger.info("%r >> %r", "peer", b"AUTH PLAIN AGEAYg==")
    logger.warning("forged\r\nline with password=hunter2 and %d too few", 1)
    logger.warning("broken %d", "format")

    first, second = (json.loads(line) for line in captured.lines())
    assert (first["event"], first["logger"]) == ("library", "mail.log")
    assert "hunter2" not in first["text"]
    assert second["text"].startswith("unreadable record")


def test_a_tls_name_that_is_no_text_is_one_line_and_other_unraisable_errors_are_failures(captured: _Captured) -> None:
    """Python tells nobody of either, but for a hook; its own prints a traceback that a client can ask for."""
    log = captured.log()
    for error, found in ((UnicodeDecodeError("ascii", b"\xff", 0, 1, "no"), b"a\xff\n"), (ValueError("a bug"), None)):
        _log_unraisable(log, SimpleNamespace(exc_value=error, object=found))

    first, second = (json.loads(line) for line in captured.lines())
    assert (first["event"], first["level"], first["name"]) == ("tls_name_refused", "info", "a\\xff\n")
    assert (second["event"], second["error"]) == ("failure", "ValueError: a bug")


def test_a_failing_str_is_shown_as_such(captured: _Captured) -> None:
    """A value that cannot be turned into text does not break the line."""

    class Broken:
        def __str__(self) -> str:
            raise ValueError("no")

    captured.log().note("odd", value=Broken())

    assert json.loads(captured.lines()[0])["value"] == "<unprintable Broken: ValueError>"
