"""SPF macros: domain-specs and explanations, parsed once and expanded for one message.

In: text of a record, and the values of one check. Out: a tuple of parts, and the text they stand for.
Raises SpfSyntaxError for what the grammar does not allow; expanding raises only what the values raise.
Source: RFC 7208 §7.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

_MACRO: Final = re.compile(r"%\{([slodiphvcrt])(\d*)(r?)([-.+,/_=]*)\}", re.IGNORECASE | re.ASCII)
_ESCAPES: Final = {"%%": "%", "%_": " ", "%-": "%20"}
_LITERAL: Final = re.compile(r"[\x21-\x24\x26-\x7e]+")
_EXPLANATION_LITERAL: Final = re.compile(r"[\x20-\x24\x26-\x7e]+")
_TOP_LABEL: Final = re.compile(r"\.(?!\d+\.?\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.?\Z", re.IGNORECASE | re.ASCII)
_EXPLANATION_ONLY: Final = frozenset("crt")
_LONGEST_NAME: Final = 253
_LONGEST_EXPANSION: Final = 2048


class SpfSyntaxError(ValueError):
    """The record or explanation breaks the grammar; the text says where."""


@dataclass(frozen=True, slots=True)
class Macro:
    """`%{letter keep reverse delimiters}`; `keep` 0 keeps all parts."""

    letter: str
    keep: int
    reverse: bool
    delimiters: str
    escaped: bool

    def applied(self, value: str) -> str:
        """`value` split, turned round, cut from the left and joined again."""
        parts = re.split(f"[{re.escape(self.delimiters)}]", value)
        if self.reverse:
            parts.reverse()
        text = ".".join(parts[-self.keep :] if self.keep else parts)
        return quote(text, safe="-._~") if self.escaped else text


Parts = tuple[str | Macro, ...]
Values = Callable[[str], Awaitable[str]]  # the value of a macro letter


def parse_domain_spec(text: str) -> Parts:
    """A domain-spec: macros and visible characters, ending in a macro or a top label. Raises SpfSyntaxError."""
    parts = parse_macro_string(text)
    if not parts or not (isinstance(parts[-1], Macro) or _TOP_LABEL.search(text)):
        raise SpfSyntaxError(f"{text!r} is no domain name")
    return parts


def parse_macro_string(text: str) -> Parts:
    """A macro-string as modifiers hold it. Raises SpfSyntaxError."""
    return _parse(text, _LITERAL, explanation=False)


def parse_explanation(text: str) -> Parts:
    """An explain-string: blanks and the letters c, r and t are allowed too. Raises SpfSyntaxError."""
    return _parse(text, _EXPLANATION_LITERAL, explanation=True)


def _parse(text: str, literal: re.Pattern[str], *, explanation: bool) -> Parts:
    parts: list[str | Macro] = []
    at = 0
    while at < len(text):
        if match := literal.match(text, at):
            parts.append(match.group())
            at = match.end()
        elif escape := _ESCAPES.get(text[at : at + 2]):
            parts.append(escape)
            at += 2
        else:
            match = _MACRO.match(text, at)
            if match is None:
                raise SpfSyntaxError(f"bad macro or character in {text!r}")
            parts.append(_macro(match, explanation=explanation))
            at = match.end()
    return tuple(parts)


def _macro(match: re.Match[str], *, explanation: bool) -> Macro:
    letter, digits, reverse, delimiters = match.groups()
    # No value has more than 128 labels; cutting the digits keeps a hostile number small.
    keep = int(digits[:4]) if digits else 0
    if digits and not keep:
        raise SpfSyntaxError(f"{match.group()} keeps no part")
    if letter.lower() in _EXPLANATION_ONLY and not explanation:
        raise SpfSyntaxError(f"{match.group()} is for explanations only")
    return Macro(letter.lower(), keep, bool(reverse), delimiters or ".", letter.isupper())


async def expand(parts: Parts, values: Values) -> str:
    """The text with every macro replaced, cut where it grows out of bounds."""
    texts: list[str] = []
    length = 0
    for part in parts:
        text = part if isinstance(part, str) else part.applied(await values(part.letter))
        texts.append(text)
        length += len(text)
        if length > _LONGEST_EXPANSION:
            break
    return "".join(texts)[:_LONGEST_EXPANSION]


def fitted_name(name: str) -> str:
    """RFC 7208 §7.3: labels are dropped from the left until the name fits into DNS."""
    name = name.removesuffix(".")
    while len(name) > _LONGEST_NAME and "." in name:
        name = name.partition(".")[2]
    return name


def letters(parts: Sequence[str | Macro]) -> frozenset[str]:
    """The macro letters in use."""
    return frozenset(part.letter for part in parts if isinstance(part, Macro))
