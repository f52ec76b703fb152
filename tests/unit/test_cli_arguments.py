"""What an operator mistypes is answered in one line with exit code 2, by every verb, and never by a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from relay.cli.main import app

SEND = ("send", "--username", "app", "--password-file", "{folder}/password")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*SEND, "\n"), r"'\n': control character in address"),
        ((*SEND, "anna"), "'anna': address has no @domain"),
        ((*SEND, "anna@a.example", "--from", "["), "'[': address has no @domain"),
        ((*SEND, "anna@a.example", "--eml", "/nowhere/x"), "/nowhere/x: cannot read it (No such file or directory)"),
        ((*SEND, "anna@a.example", "--text", "\udcff"), "an argument is not in UTF-8"),
        (
            ("send", "a@a.example", "--username", "app", "--password-file", "/dev/null"),
            "/dev/null: its first line is no",
        ),
        (
            ("send", "a@a.example", "--username", "app", "--password-file", "{folder}"),
            "cannot read it (Is a directory)",
        ),
        (("account", "disable", "\udcff"), "an argument is not in UTF-8"),
        (("key", "disable", "\udcff"), "an argument is not in UTF-8"),
        (("suppression", "remove", "\udcff"), "an argument is not in UTF-8"),
        (("providers", "explain", "/nowhere/x", "--to", "a@a.example"), "/nowhere/x: cannot read it"),
    ],
)
def test_a_mistyped_argument_is_told_in_one_line(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    (tmp_path / "var").mkdir(mode=0o700)
    (tmp_path / "password").write_text("secret\n")
    config = tmp_path / "relay.toml"
    config.write_text(f'[server]\nvar = "{tmp_path / "var"}"\n[[listener]]\nname = "submission"\nport = 1587\n')
    words = [word.replace("{folder}", str(tmp_path)) for word in arguments]
    done = CliRunner().invoke(app, ["--config", str(config), *words])
    assert done.exit_code == 2, done.output
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_subject_of_several_lines_becomes_one(tmp_path: Path) -> None:
    """Nobody listens there: the message was made, and the connection refused."""
    (tmp_path / "password").write_text("secret\n")
    config = tmp_path / "relay.toml"
    config.write_text(f'[server]\nvar = "{tmp_path / "var"}"\n[[listener]]\nname = "submission"\nport = 1\n')
    words = [word.replace("{folder}", str(tmp_path)) for word in (*SEND, "anna@a.example", "--subject", "a\nb")]
    done = CliRunner().invoke(app, ["--config", str(config), *words])
    assert (done.exit_code, "is the server running?" in done.stderr) == (1, True)
