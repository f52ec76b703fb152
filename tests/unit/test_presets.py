"""Presets of smarthosts: what they fill in; that the operator's word counts; that the page shows what the code has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relay.mail.errors import SettingsError
from relay.presets import PRESETS
from relay.settings import Settings, SmarthostSettings, load_settings

PAGE = Path(__file__).resolve().parents[2] / "docs/howto/smarthosts.md"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_smarthost_over_tls_with_its_source(name: str) -> None:
    found = SmarthostSettings.model_validate({"preset": name})
    preset = PRESETS[name]
    assert (found.host, found.port, found.tls) == (preset.host, preset.port, preset.tls)
    assert (found.message_size, found.recipients) == (preset.message_size, preset.recipients)
    assert (found.connections, found.rate, found.dialect) == (preset.connections, preset.rate, preset.dialect)
    assert found.verify
    assert preset.source.startswith("https://")
    assert preset.tls == ("implicit" if preset.port == 465 else "starttls")


def test_what_the_operator_sets_counts_also_where_it_takes_a_limit_away() -> None:
    own = {"host": "smtp.example.net", "port": 2525, "rate": "", "connections": 0, "recipients": 20}
    found = SmarthostSettings.model_validate({"preset": "office365", **own})
    assert {key: getattr(found, key) for key in own} == own
    assert found.message_size == PRESETS["office365"].message_size


def test_what_is_in_force_reads_back_as_it_is() -> None:
    """Workers get the settings as JSON."""
    given = Settings.model_validate({"smarthost": {"a": {"preset": "office365", "rate": ""}, "b": {"preset": "ses"}}})
    assert Settings.model_validate(json.loads(given.model_dump_json())) == given


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('preset = "offce365"', r"relay.toml: smarthost.a: no preset 'offce365'; did you mean 'office365'\?"),
        ('preset = "zzz"', r"smarthost.a: no preset 'zzz'; known: brevo, gmail, "),
        ("port = 25", r"smarthost.a: host is missing; set it, or preset to one of brevo, gmail, "),
        ("preset = 7", r"smarthost.a.preset: write text in quotes"),
    ],
)
def test_a_mistake_is_told_with_file_key_and_fix(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(f"[smarthost.a]\n{line}\n")
    with pytest.raises(SettingsError, match=words):
        load_settings(file)


def test_a_rate_is_a_limit_of_the_smarthosts_own() -> None:
    tables = {"smarthost": {"a": {"preset": "office365"}, "b": {"host": "b.example"}}}
    given = Settings.model_validate({**tables, "limit": [{"name": "x", "rate": "1/second"}]})
    assert [(one.name, one.rate, one.match.candidate) for one in given.rate_limits] == [
        ("x", "1/second", ()),
        ("smarthost:a", "30/minute", ("smarthost:a",)),
    ]


def test_the_page_lists_every_preset_as_the_code_has_it() -> None:
    rows = [line.strip("|").split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if "](https" in line]
    shown = [tuple(cell.strip() for cell in row) for row in rows]
    assert shown == [
        (
            f"`{name}`",
            f"{one.host}:{one.port} {one.tls}",
            f"`{one.username}`" if one.username else "",
            one.credentials,
            f"{one.message_size:,}" if one.message_size else "",
            str(one.recipients or ""),
            str(one.connections or ""),
            one.rate,
            f"[{one.title}]({one.source})",
        )
        for name, one in PRESETS.items()
    ]
