"""Installed distributions that bring a provider: what is found, what stops the start, and what wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.mail.errors import SettingsError
from relay.transports.providers import provider_classes
from relay.transports.providers.resend import Resend

OWN = "from relay.transports.providers.resend import Resend\n\n\nclass Own(Resend):\n    kind = {kind!r}\n"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, entry: str, code: str = "") -> None:
    """As pip leaves it behind, in a folder of its own."""
    info = folder / "acme_mail-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-mail\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sendrelay.providers]\nacme = {entry}\n")
    (folder / f"{folder.name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Named so that no other test has imported its module."""
    found = tmp_path / f"acme_{abs(hash(request.node.name))}"
    found.mkdir()
    return found


def test_a_kind_of_an_installed_distribution_is_known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(provider_classes())
    install(folder, monkeypatch, f"{folder.name}:Own", OWN.format(kind="acme"))
    assert set(provider_classes()) - before == {"acme"}


def test_a_kind_of_the_house_is_not_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(folder, monkeypatch, f"{folder.name}:Own", OWN.format(kind="resend"))
    assert provider_classes()["resend"] is Resend


@pytest.mark.parametrize(
    ("entry", "code", "words"),
    [
        ("no_such_module_here:Own", "", r"provider kind 'acme' cannot be loaded: .*; repair or remove it"),
        ("{module}:Missing", "", r"provider kind 'acme' cannot be loaded"),
        ("{module}:Own", "raise RuntimeError('at import')", r"'acme' cannot be loaded: at import"),
        ("{module}:Own", "Own = 7", r"entry point '.*:Own' is no Provider; repair or remove the distribution"),
        ("{module}:Own", "class Own: ...", r"is no Provider"),
    ],
)
def test_one_that_cannot_be_used_stops_the_start_with_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, entry: str, code: str, words: str
) -> None:
    install(folder, monkeypatch, entry.format(module=folder.name), code)
    with pytest.raises(SettingsError, match=words):
        provider_classes()
