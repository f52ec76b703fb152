"""config/relay.toml: what the settings say, and every commented line fit to be switched on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from relay.cli.config_text import OPENSSL_CONFIG, sandbox_config, shipped_config
from relay.cli.init import init_server
from relay.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
_SETTING = re.compile(r"^# (?=\[|[a-z_0-9]+ = )", re.MULTILINE)


def test_the_shipped_file_is_the_one_the_settings_render() -> None:
    assert (ROOT / "config/relay.toml").read_text(encoding="utf-8") == shipped_config()
    assert (ROOT / "config/openssl.cnf").read_text(encoding="utf-8") == OPENSSL_CONFIG


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
    examples = {
        "account",
        "device",
        "issuer",
        "site",
        "listener",
        "route",
        "limit",
        "retry",
        "smarthost",
        "provider",
        "contacts",
    }
    settings = settings.model_copy(update={"tls": settings.tls.model_copy(update={"certificates": ()})})
    for name in set(Settings.model_fields) - examples:
        assert getattr(settings, name) == getattr(Settings(), name), name


def test_init_writes_both_files_and_touches_the_folder_of_a_configuration_that_exists_no_more(tmp_path: Path) -> None:
    """In a container the folder belongs to root and init does not."""
    config, openssl = tmp_path / "etc/relay.toml", tmp_path / "etc/openssl.cnf"
    assert init_server(str(config), tmp_path / "var") == config
    assert openssl.read_text() == OPENSSL_CONFIG
    openssl.unlink()
    init_server(str(config), None)
    assert [path.name for path in config.parent.iterdir()] == ["relay.toml"]


def test_a_data_folder_given_to_init_is_the_only_difference() -> None:
    settings = Settings.model_validate(tomllib.loads(shipped_config(Path("/srv/mail"))))
    assert settings.server.var == Path("/srv/mail")
    assert settings.server.model_copy(update={"var": Settings().server.var}) == Settings().server


def test_the_sandbox_listens_on_loopback_only() -> None:
    settings = Settings.model_validate(tomllib.loads(sandbox_config(Path("/x"), "sandbox.example", "localhost")))
    assert {listener.address for listener in settings.listener} == {"127.0.0.1"}
    assert settings.http.address == "127.0.0.1"
    assert settings.sandbox.enabled
