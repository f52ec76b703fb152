"""docs/reference/settings.md and commands.md: as the code has them."""

from __future__ import annotations

import re

import pytest
from reference_pages import FOLDER, MARKER, PAGES, by_hand, verbs

from relay.settings import RETRY_PROFILES


@pytest.mark.parametrize("page", PAGES)
def test_the_generated_part_is_what_the_code_says(page: str) -> None:
    """On failure: python tests/unit/docs/reference_pages.py"""
    text = (FOLDER / page).read_text(encoding="utf-8")
    assert text == f"{by_hand(page)}{MARKER}\n{PAGES[page]()}"


def test_no_setting_is_without_a_meaning() -> None:
    assert "|  |" not in PAGES["settings.md"]()


def test_the_retry_profiles_that_exist_without_a_definition_are_named() -> None:
    named = set(re.findall(r"`(\w+)` \(", by_hand("settings.md")))
    assert named == set(RETRY_PROFILES)


def test_the_exit_codes_name_verbs_that_exist() -> None:
    known = {path for path, _ in verbs()} | {" ".join(path.split()[:2]) for path, _ in verbs()}
    named = set(re.findall(r"`(relay [a-z]+(?: [a-z]+)?)`", by_hand("commands.md")))
    assert named
    assert named <= known
