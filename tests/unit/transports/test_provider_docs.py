"""docs/providers says what the code does: every option, loss, capability, limit and error code stands there."""

from __future__ import annotations

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


def rows(text: str) -> dict[str, list[str]]:
    """Table rows by their first cell, backquotes taken off."""
    lines = (line.strip("|").split("|") for line in text.splitlines() if line.startswith("|"))
    cells = ([cell.strip() for cell in line] for line in lines)
    return {row[0].strip("`"): row for row in cells}


def page(kind: str) -> str:
    return (FOLDER / f"{kind}.md").read_text(encoding="utf-8")


def test_every_common_setting_stands_on_the_common_page() -> None:
    """None more, none less."""
    table = COMMON.partition("| setting of")[2].partition("\n\n")[0]

    assert [name for name in rows(table) if name != "---"] == list(ProviderSettings.model_fields)


def test_every_loss_is_defined() -> None:
    """One row each."""
    table = COMMON.partition("## What a message may lose")[2].partition("\n## ")[0]

    assert set(rows(table)) - {"loss", "---"} == {str(loss) for loss in Loss}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_provider_has_a_page_that_the_others_lead_to(kind: str) -> None:
    """With how to set it up, what its limits are, and what its answers do."""
    text = page(kind)

    assert text.startswith(f"# {KINDS[kind].title}\n")
    assert f"[{KINDS[kind].title}]({kind}.md)" in COMMON
    assert f'kind = "{kind}"' in text
    for heading in ("## Set-up", "## How a message is carried", "## Limits", "## What each answer does to the mail"):
        assert f"\n{heading}\n" in text
    can = KINDS[kind].capabilities
    for octets in filter(None, (can.attachment_octets, can.message_octets)):
        assert f"{octets:,} octets" in text


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
