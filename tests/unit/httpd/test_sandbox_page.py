"""docs/howto/sandbox.md says what the sandbox does: rules, ports, facts, requests and fields."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from relay.cli.config_text import sandbox_config
from relay.cli.init import SANDBOX_DOMAIN
from relay.cli.sandbox import write_facts
from relay.httpd.control_socket import control_path
from relay.httpd.inbox_entry import entry, full_entry
from relay.httpd.sandbox import LONGEST_WAIT, sandbox_router
from relay.mail.errors import OperatorError
from relay.ports import InboxMessage
from relay.settings import RetrySettings, Settings
from relay.smtpd import sandbox_rules
from relay.smtpd.sandbox_mx import SandboxMx
from relay.smtpd.sandbox_rules import SENDPOST_DOMAIN, Action, code_reply, rule_for
from relay.store.inbox import Inbox

PAGE = (Path(__file__).resolve().parents[3] / "docs/howto/sandbox.md").read_text(encoding="utf-8")
ROWS = {
    row[0].strip().strip("`"): "|".join(row[1:]).strip()
    for row in (line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| "))
}
WORDS = [action for action in get_args(Action) if action != "reply"]


def test_every_word_of_the_rules_has_its_row() -> None:
    assert [word for word in WORDS if word not in ROWS] == []


def test_the_page_names_just_the_words_that_work_after_the_final_dot() -> None:
    working = {f"data-{word}" for word in WORDS if rule_for(f"data-{word}@x.example")}
    assert set(re.findall(r"`(data-[a-z-]+)`", PAGE)) == working


def test_just_the_codes_on_the_page_are_rules() -> None:
    assert "codes 400-459 and 500-559" in ROWS["NNN"]
    codes = [code for code in range(1000) if rule_for(f"{code}@x.example")]
    assert codes == [*range(400, 460), *range(500, 560)]


def test_every_code_with_a_text_of_its_own_stands_with_it() -> None:
    for code in sandbox_rules._TEXTS:
        answer = code_reply(code)
        assert ROWS[str(code)] == f"{answer.status} {answer.text}"
    other = code_reply(599)
    assert ROWS["other"] == f"4.0.0 or {other.status} {other.text}"


def test_every_test_address_of_sendpost_stands_with_its_reply() -> None:
    for name, answer in sandbox_rules._SENDPOST.items():
        assert ROWS[f"{name}@{SENDPOST_DOMAIN}"].startswith(f"`{answer.code} {answer.status}`")


def test_the_seconds_on_the_page_are_those_of_the_built_in_mx() -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(SandboxMx).parameters.items()}
    assert f"for {defaults['silence']:.0f} seconds" in ROWS["timeout"]
    assert f"after {defaults['slowness']:.0f} seconds" in ROWS["slow"]


def test_ports_and_delays_are_those_of_the_sandbox_s_configuration(tmp_path: Path) -> None:
    data = tomllib.loads(sandbox_config(tmp_path, SANDBOX_DOMAIN, "localhost"))
    settings = Settings.model_validate(data)
    ports = {row.partition("|")[0].strip() for name, row in ROWS.items() if name.startswith("SMTP, ")}
    assert ports == {str(listener.port) for listener in settings.listener}
    assert ROWS["HTTP"].startswith(str(settings.http.port))
    *first, last = settings.retry_profile(settings.delivery.retry).delays
    delays = f"after {', '.join(f'{delay:.0f}' for delay in first)} and {last:.0f} seconds"
    assert delays in " ".join(PAGE.split())
    assert f"up to {RetrySettings(delays=(1,)).jitter:.0%}".replace("%", " %") in " ".join(PAGE.split())


def test_every_key_of_sandbox_json_is_explained(tmp_path: Path) -> None:
    settings = Settings.model_validate(tomllib.loads(sandbox_config(tmp_path, SANDBOX_DOMAIN, "localhost")))
    facts = write_facts(settings, {"username": "u", "password": "p", "api_key": "k"}, 0)
    names = set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| [^|]+\|", PAGE, re.MULTILINE))))
    assert set(facts) <= names


def test_every_request_and_parameter_of_the_inbox_has_its_row(tmp_path: Path) -> None:
    router = sandbox_router(Inbox(tmp_path), lambda key: None)
    for route in router.routes:
        for method in route.methods:  # type: ignore[attr-defined]
            assert f"{method} {route.path}".replace("{number}", "{id}") in ROWS  # type: ignore[attr-defined]
    listing = next(route for route in router.routes if route.name == "listing")  # type: ignore[attr-defined]
    for parameter in listing.dependant.query_params:  # type: ignore[attr-defined]
        assert parameter.name in ROWS
    assert f"({LONGEST_WAIT:.0f} at most)" in ROWS["wait"]


@pytest.mark.parametrize("content", [b"Subject: x\r\n\r\n", b"no message"])
def test_every_field_of_a_message_is_explained(content: bytes) -> None:
    message = InboxMessage(1, 0.0, None, (), None, None, "", 0)
    listed = set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| [^|]+\|", PAGE, re.MULTILINE))))
    assert set(entry(message)) <= listed
    prose = set(re.findall(r"`([a-z_]+)`", PAGE))
    assert set(full_entry(message, content)) <= prose


def test_the_longest_path_of_its_folder_is_right() -> None:
    found = re.search(r"folder's path may\s+have (\d+) octets at most", PAGE)
    assert found
    longest = Path("/" + "x" * (int(found[1]) - 1))
    control_path(longest / "run", 0)
    with pytest.raises(OperatorError):
        control_path(Path(f"{longest}x/run"), 0)
