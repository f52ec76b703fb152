"""Every relative link of every page leads somewhere, and every page can be reached from docs/README.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import DOCS, ROOT, prose

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`\n]*`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_NOT_IN_AN_ANCHOR = re.compile(r"[^\w\- ]")

PAGES = sorted({*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "certs").glob("*.md")})


def links(path: Path) -> Iterator[tuple[Path, str]]:
    """Relative links as (file, anchor)."""
    for target in _LINK.findall(_CODE.sub("", prose(path.read_text(encoding="utf-8")))):
        if "://" not in target and not target.startswith("mailto:"):
            file, _, anchor = target.partition("#")
            yield (path.parent / file).resolve() if file else path, anchor


def anchors(path: Path) -> set[str]:
    """As GitHub and most renderers make them."""
    headings = _HEADING.findall(prose(path.read_text(encoding="utf-8")))
    return {_NOT_IN_AN_ANCHOR.sub("", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    broken = [
        f"{file.relative_to(ROOT)}#{anchor}"
        for file, anchor in links(path)
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert broken == []


def test_every_page_can_be_reached_from_the_table_of_contents() -> None:
    reached: set[Path] = set()
    waiting = [DOCS / "README.md"]
    while waiting:
        path = waiting.pop()
        if path not in reached and path.suffix == ".md" and path.exists():
            reached.add(path)
            waiting += [file for file, _ in links(path)]
    assert [str(path.relative_to(ROOT)) for path in PAGES if path not in reached] == []


def test_every_page_of_docs_stands_in_the_table_of_contents_itself() -> None:
    listed = {file for file, _ in links(DOCS / "README.md")}
    assert {path for path in DOCS.rglob("*.md") if path != DOCS / "README.md"} <= listed
