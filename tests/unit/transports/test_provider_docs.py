"""docs/providers says what the code does: every option, loss, capability, limit and error code stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sendpost_setting import read, result

from relay.delivery.verdict import goes_elsewhere
from relay.mail.outcome import Sent
from relay.mail.parts import Loss
from relay.settings import ProviderSettings
from relay.transports.providers import provider_classes
from relay.transports.providers.sendpost import ATTACHMENT_OCTETS, SendPost

FOLDER = Path(__file__).resolve().parents[3] / "docs/providers"
COMMON = (FOLDER / "README.md").read_text(encoding="utf-8")
KINDS = provider_classes()
WORDS = {True: "yes", False: "no"}


def rows(text: str) -> dict[str, list[str]]:
    """Table rows by their first cell, backquotes taken off."""
    lines = (line.strip("|").split("|") for line in text.splitlines() if line.startswith("|"))
    cells = ([cell.strip() for cell in line] for line in lines)
    return {row[0].strip("`"): row for row in cells}


def page(kind: str) -> str:
    return (FOLDER / f"{kind}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_option_of_an_adapter_stands_on_its_page(kind: str) -> None:
    """With its default."""
    found = rows(page(kind))
    options = KINDS[kind].Options.model_fields

    for name, field in options.items():
        default = found[name][1]
        if isinstance(field.default, tuple):
            assert re.findall(r"`([^`]+)`", default) == [str(item) for item in field.default]
        else:
            assert default == {False: "`false`", True: "`true`", "": "empty"}[field.default]
    table = page(kind).partition("## Options")[2].partition("\n## ")[0]
    assert set(rows(table)) - {"option", "---"} == set(options)


def test_every_common_setting_stands_on_the_common_page() -> None:
    """None more, none less."""
    table = COMMON.partition("| setting of")[2].partition("\n\n")[0]

    assert [name for name in rows(table) if name != "---"] == list(ProviderSettings.model_fields)


def test_every_loss_is_defined() -> None:
    """One row each."""
    table = COMMON.partition("## What a message may lose")[2].partition("\n## ")[0]

    assert set(rows(table)) - {"loss", "---"} == {str(loss) for loss in Loss}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_matrix_says_what_the_capabilities_say(kind: str) -> None:
    """The column of the vendor, row by row in the order of Capabilities."""
    table = rows(COMMON.partition("## What each vendor can say")[2].partition("\n## ")[0])
    column = table[""].index(KINDS[kind].title)
    shown = [row[column] for first, row in table.items() if first not in ("", "---")]
    can = KINDS[kind].capabilities
    wanted = [getattr(can, name) for name in can.__slots__]

    assert shown == [_shown(name, value) for name, value in zip(can.__slots__, wanted, strict=True)]
    assert f"{KINDS[kind].title}]({kind}.md)" in COMMON


def _shown(name: str, value: object) -> str:
    if name == "attachment_octets":
        assert isinstance(value, int)
        return f"{value // 1_048_576} MB"
    return WORDS[value] if isinstance(value, bool) else str(value)


def test_sendposts_error_codes_stand_with_what_they_do() -> None:
    """The reply in the table is the reply of the code."""
    found = rows(page("sendpost"))

    for code in range(6):
        outcome = read([result("a@example.net", code)], ("a@example.net",))["a@example.net"]
        cell = found[str(code)][2]
        assert isinstance(outcome, Sent) or f"{outcome.reply.code} {outcome.reply.status}" in cell
        assert ("next candidate" in cell) == goes_elsewhere(outcome)


def test_sendposts_limits_and_path_stand_on_the_page() -> None:
    """As the adapter has them."""
    assert f"{ATTACHMENT_OCTETS:,} octets" in page("sendpost")
    assert f"{SendPost.default_base_url}/subaccount/email/" in page("sendpost")
