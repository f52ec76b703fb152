"""config/relay.toml: what the settings say, and every commented line fit to be switched on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from relay.cli.config_text import sandbox_config, shipped_config
from relay.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
_SETTING = re.compile(r"^# (?=\[|[a-z_0-9]+ = )", re.MULTILINE)


def test_the_shipped_file_is_the_one_the_settings_render() -> None:
    assert (ROOT / "config/relay.toml").read_text(encoding="utf-8") == shipped_config()


def test_the_shipped_file_changes_nothing_but_the_four_standard_ports() -> None:
    settings = Settings.model_validate(tomllib.loads(shipped_config()))
    assert [(listener.port, listener.tls) for listener in settings.listener] == [
        (25, "starttls"),
        (587, "starttls"),
        (2525, "starttls"),
        (465, "implicit"),
    ]
    assert settings.model_copy(update={"listener": ()}) == Settings()


def test_every_commented_setting_can_be_switched_on_and_is_the_default() -> None:
    settings = Settings.model_validate(tomllib.loads(_SETTING.sub("", shipped_config())))
    assert set(settings.model_fields_set) == set(Settings.model_fields)
    examples = {"account", "listener", "route", "limit", "retry", "smarthost", "provider"}
    for name in set(Settings.model_fields) - examples:
        assert getattr(settings, name) == getattr(Settings(), name), name


def test_a_data_folder_given_to_init_is_the_only_difference() -> None:
    settings = Settings.model_validate(tomllib.loads(shipped_config(Path("/srv/mail"))))
    assert settings.server.var == Path("/srv/mail")
    assert settings.server.model_copy(update={"var": Settings().server.var}) == Settings().server


def test_the_sandbox_listens_on_loopback_only() -> None:
    settings = Settings.model_validate(tomllib.loads(sandbox_config(Path("/x"), "sandbox.example", "localhost")))
    assert {listener.address for listener in settings.listener} == {"127.0.0.1"}
    assert settings.http.address == "127.0.0.1"
    assert settings.sandbox.enabled
