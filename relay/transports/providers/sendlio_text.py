"""Texts for Sendlio, whose content is a Blade template: what it would expand is written so that it arrives as it was.

In: a subject, a page or a text. Out: the block's code, and whether something in it is expanded all the same. Pure.
In a page `@` and `{{` become character references, which every mail program reads back and no template engine knows. In
style, script and comments there are no references: there `@media` becomes Blade's own `@@media`, and `{{` is a loss.
Sources: seeds/sendlio.txt (the sample's `{{ @$recipient->first_name }}`); Blade's documentation of `@` and `@@`.
"""

from __future__ import annotations

import html
import re
from typing import Final

TEXT_BEGINS: Final = '<pre style="white-space:pre-wrap">'
TEXT_ENDS: Final = "</pre>"

# An end that is missing is the end of the page.
_LITERAL: Final = re.compile(
    r"<!--.*?(?:-->|\Z)|<(style|script|title|textarea|xmp)\b.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL
)
_EXPANDED: Final = re.compile(r"\{\{|\{!!|<\?|@(?:end)?(?:verbatim|php)\b|@@\w", re.IGNORECASE)
_DIRECTIVE: Final = re.compile(r"(?<!\w)@(?=\w)")
_NO_PAGE: Final = re.compile(r"<\?")
_REFERENCES: Final = str.maketrans({"@": "&#64;"})


def expands(subject: str) -> bool:
    """Whether a text that may hold no references would be changed."""
    return bool(_EXPANDED.search(subject) or _DIRECTIVE.search(subject))


def code_of(page: str) -> tuple[str, bool]:
    """The page as a block, and whether something of it is expanded."""
    pieces: list[str] = []
    lost, end = False, 0
    for found in _LITERAL.finditer(page):
        plain, literal = page[end : found.start()], found.group()
        lost = lost or bool(_NO_PAGE.search(plain) or _EXPANDED.search(literal))
        pieces += [_referenced(plain), _DIRECTIVE.sub("@@", literal)]
        end = found.end()
    lost = lost or bool(_NO_PAGE.search(page[end:]))
    return "".join((*pieces, _referenced(page[end:]))), lost


def code_of_text(text: str) -> str:
    """A page that shows the text."""
    return f"{TEXT_BEGINS}{_referenced(html.escape(text, quote=False))}{TEXT_ENDS}"


def _referenced(text: str) -> str:
    text = text.translate(_REFERENCES)
    return text.replace("{{", "&#123;&#123;").replace("{!!", "&#123;!!")
