"""What is wrong in a table of the configuration, in words that stand in the file: key, value and fix.

In: a ValidationError, the table that was checked and the model that checked it. Out: one line. Values of `*_file`
settings and of options are not shown: a secret may have been written there.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError

_LONGEST: Final = 80  # letters of a value that are shown
_FEW: Final = 10  # settings of a table that are listed although the one that was meant is known
_SCALARS: Final = (str, int, float)
_SECRET: Final = re.compile(r"(_file|password|secret|token|key)$")
_NO_NUMBER: Final = "write a whole number, without quotes"
_WORDS: Final = {
    "missing": "is missing; set it",
    "string_type": 'write text in quotes, such as "text"',
    "path_type": 'write the path of a file in quotes, such as "/a/path"',
    "int_type": _NO_NUMBER,
    "int_parsing": _NO_NUMBER,
    "int_parsing_size": "is too large; write a smaller whole number",
    "int_from_float": _NO_NUMBER,
    "float_type": "write a number, without quotes",
    "float_parsing": "write a number, without quotes",
    "finite_number": "write a number that has an end",
    "bool_type": "write true or false, without quotes",
    "bool_parsing": "write true or false, without quotes",
    "literal_error": "write {expected}",
    "enum": "write {expected}",
    "greater_than": "write more than {gt}",
    "greater_than_equal": "write {ge} at the least",
    "less_than": "write less than {lt}",
    "less_than_equal": "write {le} at the most",
    "string_too_short": "is empty; write something, or take the line out",
    "string_too_long": "write {max_length} letters at the most",
    "string_pattern_mismatch": "has letters that cannot stand there",
    "too_short": "is empty; write one at the least, or take the line out",
    "too_long": "write {max_length} at the most",
    "value_error": "{error}",
}
_CONTAINERS: Final = ("tuple_type", "list_type", "dict_type", "model_type", "model_attributes_type")


def in_words(error: ValidationError, table: Mapping[str, Any], model: type[BaseModel], prefix: str = "") -> str:
    """The first of what is wrong. `prefix` is the key of `table` in the file; empty for the whole file."""
    first = error.errors(include_url=False)[0]
    kind, location = first["type"], _in_file(first["loc"], table, first["type"])
    key = ".".join(part for part in (prefix, *_shown_parts(location, table)) if part)
    value = _at(location, table)
    if kind == "extra_forbidden":
        return f"{key}: unknown setting; {_instead(str(location[-1]), location[:-1], model)}"
    if kind in _CONTAINERS:
        said = _container(location, model, prefix)
    elif kind in _WORDS:
        said = _WORDS[kind].format(**first.get("ctx", {}))
    else:
        said = first["msg"]
    hidden = prefix or kind == "missing" or kind in _CONTAINERS or not location
    shown = "" if hidden else _found(str(_named(location)), value)
    return f"{key}: {said}{shown}" if key else f"{said}{shown}"


def _in_file(location: tuple[int | str, ...], table: Any, kind: str) -> tuple[int | str, ...]:
    """Without what stands for a branch of a type and not for anything in the file."""
    found: list[int | str] = []
    for part in location:
        if isinstance(table, Mapping) and part in table:
            table = table[str(part)]
        elif isinstance(table, list | tuple) and isinstance(part, int) and part < len(table):
            table = table[part]
        elif kind != "missing" or part is not location[-1]:
            continue
        found.append(part)
    return tuple(found)


def _at(location: tuple[int | str, ...], table: Any) -> Any:
    for part in location:
        try:
            table = table[part]
        except (KeyError, IndexError, TypeError):
            return None
    return table


def _named(location: tuple[int | str, ...]) -> int | str:
    return next((part for part in reversed(location) if isinstance(part, str)), "")


def _shown_parts(location: tuple[int | str, ...], table: Any) -> Iterator[str]:
    """Tables of an array by name, or counted from 1; a value in a list is not counted, for it is shown."""
    for part in location:
        table = _at((part,), table)
        if isinstance(part, str):
            yield part
        elif isinstance(table, Mapping):
            name = table.get("name")
            yield name if isinstance(name, str) and name else f"#{part + 1}"


def _found(name: str, value: Any) -> str:
    one_by_one = value if isinstance(value, list | tuple) else [value]
    if _SECRET.search(name) or not all(isinstance(one, _SCALARS) for one in one_by_one):
        return ""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool | list | tuple) else str(value)
    return f" (found {text if len(text) <= _LONGEST else text[:_LONGEST] + '...'})"


def _instead(name: str, parents: tuple[int | str, ...], model: type[BaseModel]) -> str:
    fields = list(getattr(_inside(parents, model), "model_fields", ()))
    near = difflib.get_close_matches(name, fields, n=1)
    known = f"known: {', '.join(fields)}" if not near or len(fields) <= _FEW else ""
    return f"did you mean {near[0]!r}? {known}".rstrip() if near else f"remove it; {known}"


def _container(location: tuple[int | str, ...], model: type[BaseModel], prefix: str) -> str:
    """How a list or a table is written there, as TOML has them."""
    header = ".".join(part for part in (prefix, *(part for part in location if isinstance(part, str))) if part)
    wanted, parent = _inside(location, model), _inside(location[:-1], model)
    if get_origin(wanted) is tuple:
        inside = get_args(wanted)[0]
        if _model_in(inside):
            return f"there may be several; write [[{header}]] above the settings of each"
        return 'write a list in brackets, such as ["one", "other"]'
    if get_origin(parent) is dict and _model_in(wanted):
        return f"each has a name; write [{header.rpartition('.')[0]}.NAME] above its settings"
    if get_origin(parent) is tuple and _model_in(wanted):
        return f"write [[{header}]] above the settings of each"
    if get_origin(wanted) is dict and _model_in(get_args(wanted)[1]):
        return f"each has a name; write [{header}.NAME] above its settings"
    return f"write [{header}] in a line of its own, and its settings below"


def _inside(location: tuple[int | str, ...], model: Any) -> Any:
    """The type of what stands at `location`."""
    for part in location:
        model = _model_in(model) or model
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(str(part))
            model = field.annotation if field else None
        else:
            model = next((one for one in reversed(get_args(model)) if one is not Ellipsis), None)
    return _model_in(model) or model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation is, or may be beside None."""
    if get_origin(annotation) in (tuple, dict):
        return None
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None
