"""Templates of operators: text and JSON with placeholders, checked once and filled for every message.

In: text with `{name}`, or JSON whose strings are such text. Out: the text or the value with the placeholders filled.
Raises TemplateError, one line with a suggestion, at compiling only. Pure; what is filled in is never read again, so a
message cannot say anything in the template's own words. `{{` and `}}` are braces.

A string that is one placeholder alone takes its value as it is: text, list, object or true. Where a value is absent its
key or element goes, with `{name!}` the object around it; what has lost everything goes too.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

_PIECE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_LONGEST: Final = 65_536


class TemplateError(ValueError):
    """A template that cannot be used; the text says where and what to write."""


class _Absent:
    """There is nothing to say."""


class _Gone(Exception):  # noqa: N818 - control flow, no error
    """A demanded value is absent, so the object around it goes."""


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class Slot:
    """One placeholder. `demanded`: without it the object around it is not written."""

    name: str
    demanded: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A string in pieces."""

    pieces: tuple[str | Slot, ...]

    @property
    def alone(self) -> Slot | None:
        """The placeholder, where the string is nothing else."""
        only = self.pieces[0] if len(self.pieces) == 1 else None
        return only if isinstance(only, Slot) else None

    @property
    def slots(self) -> Iterator[Slot]:
        return (piece for piece in self.pieces if isinstance(piece, Slot))

    def fill(self, values: Mapping[str, Any]) -> Any:
        """The text; a value as it is, or ABSENT, for a placeholder alone. Raises _Gone inside `fill` below."""
        alone = self.alone
        if alone is None:
            return "".join(piece if isinstance(piece, str) else written(values[piece.name]) for piece in self.pieces)
        value = values[alone.name]
        if value is ABSENT and alone.demanded:
            raise _Gone
        return value


def written(value: Any) -> str:
    """A value inside other text."""
    if value is ABSENT:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(value) if isinstance(value, list) else str(value)


def compile_text(text: str, known: Collection[str], single: Collection[str] = ()) -> Text:
    """`single`: placeholders that have to stand alone in their string."""
    pieces: list[str | Slot] = []
    position = 0
    for match in _PIECE.finditer(text):
        pieces.append(text[position : match.start()])
        position = match.end()
        if match[1] is not None:
            pieces.append(_slot(match[1], known))
        elif len(match[0]) == 2:
            pieces.append(match[0][0])
        else:
            raise TemplateError(f"a {match[0]} alone in {_shown(text)}; write {match[0] * 2} for the character itself")
    found = Text(tuple(_joined([*pieces, text[position:]])))
    if found.alone is None:
        for slot in found.slots:
            if slot.name in single:
                raise TemplateError(f"{{{slot.name}}} has to stand alone in its string, found {_shown(text)}")
            if slot.demanded:
                raise TemplateError(f"{{{slot.name}!}} has to stand alone in its string; leave out the ! elsewhere")
    return found


def _slot(name: str, known: Collection[str]) -> Slot:
    bare = name.removesuffix("!")
    if bare not in known:
        near = difflib.get_close_matches(bare, known, n=1)
        hint = f"did you mean {{{near[0]}}}?" if near else f"known here: {', '.join(sorted(known))}"
        raise TemplateError(f"no placeholder {_shown('{' + name + '}')}; {hint}")
    return Slot(bare, bare != name)


def _joined(pieces: Sequence[str | Slot]) -> Iterator[str | Slot]:
    """Neighbouring texts as one, empty ones left out."""
    text = ""
    for piece in pieces:
        if isinstance(piece, str):
            text += piece
            continue
        if text:
            yield text
        text = ""
        yield piece
    if text:
        yield text


def compile_json(text: str, known: Collection[str], single: Collection[str] = ()) -> Any:
    """JSON with a Text for every string that has placeholders."""
    if len(text) > _LONGEST:
        raise TemplateError(f"longer than {_LONGEST} characters")
    try:
        tree = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise TemplateError(f"no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise TemplateError("no JSON: nested too deep") from None
    return _compiled(tree, "", known, single)


def _compiled(tree: Any, where: str, known: Collection[str], single: Collection[str]) -> Any:
    if isinstance(tree, dict):
        return {key: _compiled(child, f"{where}/{key}", known, single) for key, child in tree.items()}
    if isinstance(tree, list):
        return [_compiled(child, f"{where}/{place}", known, single) for place, child in enumerate(tree)]
    if not isinstance(tree, str):
        return tree
    try:
        found = compile_text(tree, known, single)
    except TemplateError as error:
        raise TemplateError(f"at {where or 'the top'}: {error}") from None
    return found if any(found.slots) else "".join(piece for piece in found.pieces if isinstance(piece, str))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise TemplateError(f"the key {twice!r} stands twice in one object; leave one out")
    return found


def _no_constant(word: str) -> NoReturn:
    raise TemplateError(f"{word} is no JSON; write a number or null")


def texts_of(tree: Any) -> Iterator[Text]:
    """Every string with placeholders of what `compile_json` made."""
    if isinstance(tree, Text):
        yield tree
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from texts_of(child)


def slots_of(tree: Any) -> Iterator[Slot]:
    """Every placeholder."""
    for text in texts_of(tree):
        yield from text.slots


def demands(tree: Any) -> Iterator[tuple[str, frozenset[str]]]:
    """Every `{name!}` with all placeholders of the object that goes with it."""
    if isinstance(tree, dict):
        around = frozenset(slot.name for slot in slots_of(tree))
        for child in tree.values():
            yield from ((name, around) for name in _demanded(child))
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from demands(child)


def _demanded(tree: Any) -> Iterator[str]:
    """Down to the next object."""
    if isinstance(tree, Text):
        yield from (slot.name for slot in tree.slots if slot.demanded)
    elif isinstance(tree, list):
        for child in tree:
            yield from _demanded(child)


def fill(tree: Any, values: Mapping[str, Any]) -> Any:
    """What is left of the template with these values, or ABSENT."""
    try:
        return _filled(tree, values)
    except _Gone:
        return ABSENT


def _filled(tree: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(tree, Text):
        return tree.fill(values)
    if isinstance(tree, dict):
        try:
            found = {key: value for key, child in tree.items() if (value := _filled(child, values)) is not ABSENT}
        except _Gone:
            return ABSENT
        return found if found or not tree else ABSENT
    if isinstance(tree, list):
        rest = [value for child in tree if (value := _filled(child, values)) is not ABSENT]
        return rest if rest or not tree else ABSENT
    return tree


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
