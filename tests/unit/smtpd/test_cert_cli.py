"""relay cert: what is shown of each certificate, and the exit code."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tls_kit import DAY, NOW, Setting
from typer.testing import CliRunner, Result

from relay.cli.main import app

TODAY = (time.time() - NOW) / DAY


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """A configuration with a main pair for its host and one more, both good for months."""
    setting = Setting(tmp_path)
    setting.write("main", "mail.example.com", days=TODAY + 60.5)
    setting.write("shop", "*.shop.example", "shop.example", days=TODAY + 90.5)
    lines = ['[server]\nhostname = "mail.example.com"', "[tls]"]
    lines += [f'certificate = "{tmp_path}/main.pem"', f'key = "{tmp_path}/main.key"']
    lines += ["[[tls.certificates]]", f'certificate = "{tmp_path}/shop.pem"', f'key = "{tmp_path}/shop.key"']
    for name, tls in (("submission", "starttls"), ("submissions", "implicit"), ("printers", "none")):
        lines += ["[[listener]]", f'name = "{name}"', "port = 0", f'tls = "{tls}"']
    (tmp_path / "relay.toml").write_text("\n".join(lines))
    return setting


def run(setting: Setting, *options: str) -> Result:
    return CliRunner().invoke(app, ["--config", str(setting.folder / "relay.toml"), "cert", *options])


def as_json(setting: Setting) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(setting, "--json").stdout)["certificates"]
    return found


def test_each_certificate_is_shown_with_what_it_is_for(setting: Setting) -> None:
    done = run(setting)
    assert (done.exit_code, done.stderr) == (0, "")
    heading, main, shop = done.stdout.splitlines()
    assert heading.split() == ["CERTIFICATE", "NAMES", "ISSUER", "KEY", "EXPIRES", "DAYS", "LISTENERS", "STATE"]
    for word in ("main.pem", "mail.example.com", "trustme", "ECDSA", " 60 ", "submission, submissions", "ok"):
        assert word in main
    assert "*.shop.example, shop.example" in shop
    assert "printers" not in done.stdout


def test_json_says_the_same_to_programs(setting: Setting) -> None:
    main, shop = as_json(setting)
    assert (main["main"], shop["main"]) == (True, False)
    assert main["names"] == ["mail.example.com"]
    assert (main["days_left"], main["state"], main["problem"]) == (60, "ok", "")
    assert main["listeners"] == ["submission", "submissions"]
    assert shop["expires"] == pytest.approx(time.time() + 90.5 * DAY, abs=3600)


def test_one_that_expires_soon_is_warned_of_with_exit_code_1(setting: Setting) -> None:
    setting.write("shop", "shop.example", days=TODAY + 5.5)
    done = run(setting)
    assert done.exit_code == 1
    assert "expires soon" in done.stdout
    assert "shop.pem expires in 5 days; see why it was not renewed" in done.stderr


@pytest.mark.parametrize(("warning", "code"), [(5, 0), (6, 1), (0, 0)])
def test_how_soon_is_a_setting(setting: Setting, warning: int, code: int) -> None:
    setting.write("main", "mail.example.com", days=TODAY + 5.5)
    config = setting.folder / "relay.toml"
    config.write_text(config.read_text().replace("[tls]", f"[tls]\nexpiry_warning = {warning}"))
    assert run(setting).exit_code == code


def test_one_that_has_expired_is_not_valid(setting: Setting) -> None:
    setting.write("main", "mail.example.com", days=TODAY - 1.5)
    done = run(setting)
    assert done.exit_code == 1
    assert "main.pem: it has expired" in done.stderr
    assert as_json(setting)[0]["days_left"] == -2


def test_one_that_cannot_be_used_is_shown_beside_the_others_with_exit_code_2(setting: Setting) -> None:
    (setting.folder / "main.key").write_bytes((setting.folder / "shop.key").read_bytes())
    done = run(setting)
    assert done.exit_code == 2
    assert "KEY_VALUES_MISMATCH" in done.stderr
    assert [one["state"] for one in as_json(setting)] == ["unusable", "ok"]


def test_a_host_name_that_no_certificate_lists_is_warned_of(setting: Setting) -> None:
    setting.write("main", "other.example.com", days=TODAY + 60)
    done = run(setting)
    assert done.exit_code == 0
    assert "no certificate lists mail.example.com (server.hostname)" in done.stderr
