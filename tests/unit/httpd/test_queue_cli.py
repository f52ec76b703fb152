"""`relay queue` without a server: what it refuses before it asks anybody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from relay.cli.main import app

Relay = Callable[..., Result]
NO_IDS = ["", "1", "../../run/0", "f000000000000000", "00000000000000001", "000000000000000G", "\uff11" * 16]


@pytest.fixture
def relay(tmp_path: Path) -> Relay:
    config = tmp_path / "relay.toml"
    config.write_text(f'[server]\nvar = "{tmp_path}"\n')

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["--config", str(config), "queue", *arguments])

    return run


@pytest.mark.parametrize("verb", ["show", "explain", "hold", "release", "retry", "cancel"])
@pytest.mark.parametrize("message_id", [*NO_IDS, "1" * 16 + "\n"])
def test_what_is_no_id_is_one_line_that_says_how_one_looks(relay: Relay, verb: str, message_id: str) -> None:
    result = relay(verb, message_id)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "it has 16 hex digits" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["hold", "release", "retry", "cancel"])
@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--domain", ""), ("--json", "--account", "")])
def test_a_verb_that_is_not_told_which_says_what_to_name(relay: Relay, verb: str, options: tuple[str, ...]) -> None:
    result = relay(verb, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"relay: queue {verb}: name message ids, or a filter such as --domain, or --all\n"


@pytest.mark.parametrize("older", ["2", "h", "0s", "-1h", "2w", "1h\n", "999999999d", "\uff12h"])
def test_an_age_that_is_none_is_one_line_with_an_example(relay: Relay, older: str) -> None:
    result = relay("cancel", "--older", older)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "use a number and s, m, h or d, such as 2h" in result.stderr


@pytest.mark.parametrize("limit", ["0", "-1", str(2**63)])
def test_a_limit_out_of_range_is_a_usage_error(relay: Relay, limit: str) -> None:
    assert relay("list", "--limit", limit).exit_code == 2


def test_before_the_first_start_the_queue_is_empty_and_knows_nothing(relay: Relay) -> None:
    result = relay("list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "0 unfinished\n")
    for verb in ("show", "retry", "cancel"):
        assert relay(verb, "0" * 16).exit_code == 1


@pytest.mark.parametrize("command", [("list",), ("show", "0" * 16), ("retry", "0" * 16)])
def test_a_spool_that_may_not_be_read_is_no_empty_queue(relay: Relay, tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "spool").write_text("")
    result = relay(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot read it (Not a directory); run this as the server's user" in result.stderr


@pytest.mark.parametrize("command", [("list",), ("show", "0" * 16)])
def test_a_file_that_is_no_spool_is_one_line(relay: Relay, tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "0.db").write_bytes(b"no database " * 500)
    result = relay(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("relay: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("list",), ("cancel", "--all")])
def test_a_stranger_s_file_in_the_spool_folder_is_stepped_over(
    relay: Relay, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "copy of 0.db").write_bytes(b"")
    result = relay(*command)
    assert result.exit_code in (0, 1)
    assert result.exception is None or isinstance(result.exception, SystemExit)
