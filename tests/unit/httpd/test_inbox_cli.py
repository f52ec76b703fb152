"""`relay inbox`, run as the user runs it, over an inbox on disk."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from relay.cli import inbox as verbs
from relay.httpd.inbox_entry import entry, full_entry
from relay.ports import InboxMessage
from relay.store.inbox import Inbox

root = typer.Typer()
root.add_typer(verbs.app, name="inbox")

SIGNED = b"DKIM-Signature: v=1; a=rsa-sha256; d=shop.example; s=r1; b=AA\r\n"
PLAIN = SIGNED + b"From: a@shop.example\r\nTo: anna@x.example\r\nSubject: =?utf-8?q?Sch=C3=B6n?=\r\n\r\nHello\r\n"
WITH_PDF = (
    b"Subject: two parts\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n"
    b"--B\r\nContent-Type: text/html\r\n\r\n<p>Hi</p>\r\n"
    b'--B\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename="a.pdf"\r\n\r\n'
    b"%PDF\r\n--B--\r\n"
)

Relay = Callable[..., Result]


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    inbox = Inbox(tmp_path)
    inbox.open()
    yield inbox
    inbox.close()


@pytest.fixture
def relay(tmp_path: Path) -> Relay:
    config = tmp_path / "relay.toml"
    config.write_text(f'[server]\nvar = "{tmp_path}"\n')
    runner = CliRunner(env={"RELAY_CONFIG": str(config)})
    return lambda *arguments: runner.invoke(root, ["inbox", *arguments])


def add(inbox: Inbox, content: bytes = PLAIN, *to: str, sender: str | None = "a@shop.example") -> int:
    recipients = to or ("anna@x.example",)
    return inbox.add(InboxMessage(0, 1_800_000_000.0, sender, recipients, None, None, "relay.example", 0), content)


def test_list_is_a_line_a_message_newest_last(relay: Relay, inbox: Inbox) -> None:
    add(inbox)
    add(inbox, b"From: b@c.example\r\n\r\n", "anna@x.example", "berta@y.example")
    result = relay("list")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "    1  08:00:00  signed    anna@x.example  Schön",
        "    2  08:00:00  unsigned  anna@x.example, berta@y.example  (no subject)",
    ]


def test_list_is_narrowed_by_recipient_and_limit(relay: Relay, inbox: Inbox) -> None:
    for to in ("anna@x.example", "berta@x.example", "anna@x.example"):
        add(inbox, PLAIN, to)

    def ids(*options: str) -> list[int]:
        return [one["id"] for one in json.loads(relay("list", "--json", *options).stdout)["messages"]]

    assert ids() == [1, 2, 3]
    assert ids("--to", "Anna@x.example") == [1, 3]
    assert ids("--limit", "2") == [2, 3]


def test_json_says_what_http_says(relay: Relay, inbox: Inbox) -> None:
    number = add(inbox, WITH_PDF)
    message = inbox.get(number)
    assert message is not None
    assert json.loads(relay("list", "--json").stdout) == {"messages": [entry(message)]}
    assert json.loads(relay("show", "1", "--json").stdout) == full_entry(message, WITH_PDF)


def test_an_empty_inbox_is_exit_code_1(relay: Relay, inbox: Inbox) -> None:
    result = relay("list")
    assert (result.exit_code, result.stdout) == (1, "")
    result = relay("list", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, {"messages": []})


def test_an_inbox_that_was_never_made_is_empty_too(relay: Relay) -> None:
    assert relay("list").exit_code == 1
    assert relay("show", "1").exit_code == 1
    assert relay("clear").exit_code == 0


def test_wait_ends_when_the_message_is_there(relay: Relay, inbox: Inbox) -> None:
    later = threading.Timer(0.3, add, (inbox,))
    began = time.monotonic()
    later.start()
    try:
        result = relay("list", "--wait", "600")
    finally:
        later.join()
    assert result.exit_code == 0
    assert time.monotonic() - began > 0.2


def test_wait_for_nothing_ends_in_time(relay: Relay, inbox: Inbox) -> None:
    began = time.monotonic()
    assert relay("list", "--wait", "0.3").exit_code == 1
    assert time.monotonic() - began > 0.25


def test_show_tells_envelope_signature_header_and_text(relay: Relay, inbox: Inbox) -> None:
    add(inbox, PLAIN, "hidden@x.example", sender=None)
    result = relay("show", "1")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:5] == [
        "from    <>",
        "to      hidden@x.example",
        "over    no TLS",
        "signed  d=shop.example s=r1 a=rsa-sha256",
        "at      2027-01-15T08:00:00.000+00:00",
    ]
    assert "To: anna@x.example" in lines
    assert lines[-1] == "Hello"


def test_show_names_attachments_and_falls_back_to_html(relay: Relay, inbox: Inbox) -> None:
    add(inbox, WITH_PDF)
    lines = relay("show", "1").stdout.splitlines()
    assert "signed  no" in lines
    assert "<p>Hi</p>" in lines
    assert lines[-1] == "attached: a.pdf  application/pdf  4 octets"


def test_show_gives_all_of_a_message_that_cannot_be_taken_apart(relay: Relay, inbox: Inbox) -> None:
    add(inbox, b"Content-Type: multipart/mixed\r\n\r\nthe body\r\n")
    shown = relay("show", "1").stdout
    assert "(a multipart without a usable boundary; here is all of it)" in shown
    assert "the body" in shown


@pytest.mark.parametrize("command", [("list",), ("show", "1")])
def test_no_mail_commands_the_terminal(relay: Relay, inbox: Inbox, command: tuple[str, ...]) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
    content = f"From: {evil}\r\nSubject: {evil}x\r\nX-{'a' * 3}: \rspoofed\r\n\r\n{evil}\x00body\r\n".encode()
    add(inbox, content, "anna@x.example")
    result = relay(*command)
    assert result.exit_code == 0
    assert not [c for c in result.stdout if not c.isprintable() and c != "\n"]


def test_raw_is_the_bytes_as_they_came(relay: Relay, inbox: Inbox) -> None:
    content = PLAIN + bytes(range(256)) + b"\r\n"
    add(inbox, content)
    assert relay("raw", "1").stdout_bytes == content


@pytest.mark.parametrize("verb", ["show", "raw"])
def test_no_such_message_is_exit_code_1_and_a_line(relay: Relay, inbox: Inbox, verb: str) -> None:
    result = relay(verb, "7")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "relay: no message 7 in the inbox\n"


@pytest.mark.parametrize("number", ["0", str(2**63), "abc"])
def test_what_is_no_number_of_a_message_is_a_usage_error(relay: Relay, number: str) -> None:
    assert relay("show", number).exit_code == 2


def test_clear_deletes_everything_and_says_how_much(relay: Relay, inbox: Inbox) -> None:
    add(inbox)
    add(inbox)
    result = relay("clear")
    assert (result.exit_code, result.stderr) == (0, "2 messages deleted\n")
    assert inbox.list() == []


@pytest.mark.parametrize("command", [("list",), ("show", "1"), ("raw", "1"), ("clear",)])
def test_an_inbox_that_cannot_be_read_is_one_line_and_exit_code_2(
    relay: Relay, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "inbox.db").write_bytes(b"no database " * 500)
    result: Any = relay(*command)
    assert result.exit_code == 2
    assert result.stderr.startswith("relay: ")
    assert result.stderr.count("\n") == 1
