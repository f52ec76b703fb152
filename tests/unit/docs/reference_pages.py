"""The generated part of docs/reference: settings.md from the settings, commands.md from the command line, providers.md
from the adapters.

`python tests/unit/docs/reference_pages.py` writes them; the tests compare. What stands above the marker in a page is
written by hand and kept.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from relay.cli.main import app
from relay.settings import Settings
from relay.transports.providers import provider_classes
from relay.transports.providers.base import Capabilities

FOLDER = Path(__file__).resolve().parents[3] / "docs/reference"
MARKER = "<!-- From here on generated: python tests/unit/docs/reference_pages.py -->\n"
_MANY = {
    "listener": "[[listener]]",
    "route": "[[route]]",
    "limit": "[[limit]]",
    "tls.certificates": "[[tls.certificates]]",
}
_NAMED = {
    "retry": "[retry.NAME]",
    "smarthost": "[smarthost.NAME]",
    "smarthost.oauth": "[smarthost.NAME.oauth]",
    "provider": "[provider.NAME]",
    "provider.oauth": "[provider.NAME.oauth]",
    "contacts": "[contacts.NAME]",
}


# --- settings ------------------------------------------------------------------------------------------------


def settings_tables() -> str:
    """One table a section, in the order of the file."""
    sections = list(_sections(Settings, ""))
    return "\n".join(_table(title, model) for title, model in sections)


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        inner = _model_of(field.annotation)
        if inner is None:
            continue
        whole = f"{path}{name}"
        yield _MANY.get(whole) or _NAMED.get(whole) or f"[{whole}]", inner
        yield from _sections(inner, f"{whole}.")


def _model_of(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *get_args(annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _table(title: str, model: type[BaseModel]) -> str:
    doc = inspect.cleandoc(model.__doc__ or "")
    lines = [f"## `{title}`", "", doc, "", "| key | default | values | meaning |", "|---|---|---|---|"]
    for key, field in model.model_fields.items():
        if _model_of(field.annotation) is None:
            lines.append(f"| `{key}` | {_default(field)} | {_values(field)} | {_escaped(field.description or '')} |")
    return "\n".join([*lines, ""])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default()
    if value is None:
        return "empty"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{json.dumps(value, default=str)}`"


def _values(field: FieldInfo) -> str:
    annotation = field.annotation
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    return _escaped(_type_name(annotation) + _bounds(field))


def _type_name(annotation: Any) -> str:
    names: dict[Any, str] = {str: "text", int: "number", float: "number", bool: "`true`, `false`", Path: "path"}
    if annotation in names:
        return names[annotation]
    if get_origin(annotation) is tuple:
        return f"list of {_type_name(_bare(get_args(annotation)[0]))}"
    if get_origin(annotation) is dict:
        return "table"
    inner = next((a for a in get_args(annotation) if a is not type(None)), str)
    return _type_name(_bare(inner))


def _bare(annotation: Any) -> Any:
    """Without the constraints of Annotated."""
    return annotation.__origin__ if hasattr(annotation, "__metadata__") else annotation


def _bounds(field: FieldInfo) -> str:
    signs = {"ge": "from", "gt": "above", "le": "to"}
    found = [
        f" {word} {getattr(item, name)}"
        for item in field.metadata
        for name, word in signs.items()
        if getattr(item, name, None) is not None
    ]
    return "".join(found)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


# --- commands ------------------------------------------------------------------------------------------------


def command_sections() -> str:
    """One section a verb, in the order of `relay --help`."""
    return "\n".join(_verb(path, command) for path, command in verbs())


def verbs() -> Iterator[tuple[str, Any]]:
    """Every verb as (`relay queue list`, its command)."""
    yield from _walk("relay", typer.main.get_command(app))


def _walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from _walk(f"{path} {name}", child)


def _verb(path: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    synopsis = " ".join([path, *map(_argument, arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"## `{path}`", "", f"    {synopsis}", "", inspect.cleandoc(command.help or ""), ""]
    rows = [f"| `{_argument(p)}` | {_escaped(p.help)} |" for p in arguments if p.help]
    hints = get_type_hints(inspect.unwrap(command.callback))
    rows += [f"| {_option(p, hints[p.name])} | {_escaped(p.help or '')}{_shown_default(p)} |" for p in options]
    if rows:
        lines += ["| | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name).upper().removesuffix("...")
    return f"{name}..." if parameter.nargs == -1 else name


def _option(parameter: Any, annotation: Any) -> str:
    kinds = {*get_args(annotation), annotation}
    words = {bool: "", int: " N", float: " SECONDS", Path: " FILE"}
    value = next((word for kind, word in words.items() if kind in kinds), " TEXT")
    return ", ".join(f"`{name}{value}`" for name in parameter.opts)


def _shown_default(parameter: Any) -> str:
    value = parameter.default
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return f" (default `{value}`)" if plain and value != "" else ""


# --- providers -----------------------------------------------------------------------------------------------

_CAPABILITIES = {
    "raw_mime": "takes raw MIME",
    "separate_envelope": "envelope independent of To and Cc",
    "envelope_sender": "own reverse-path",
    "attachment_octets": "attachments, decoded",
    "message_octets": "whole message",
    "recipients_per_call": "recipients a call",
    "per_recipient_result": "result for each recipient",
    "custom_headers": "custom headers",
    "tags": "tags",
    "inline_images": "inline images",
    "idempotency": "repetition recognised (idempotency)",
    "tracking": "tracking",
    "smtputf8": "local parts beyond ASCII",
    "sender": "From",
    "dkim": "our DKIM signature",
    "polling": "told when asked (`poll`)",
    "asked": 'can be asked whether it has a message (`in_doubt = "query"`)',
}


def provider_tables() -> str:
    """What each vendor can say, then the options of each."""
    kinds = [kind for _, kind in sorted(provider_classes().items())]
    lines = ["## What each vendor can say", ""]
    lines += ["| | " + " | ".join(kind.title for kind in kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for field in dataclasses.fields(Capabilities):
        cells = [_capability(field.name, getattr(kind.capabilities, field.name)) for kind in kinds]
        lines.append(f"| {_CAPABILITIES[field.name]} | " + " | ".join(cells) + " |")
    for kind in kinds:
        lines += ["", f'## `[provider.NAME]` with `kind = "{kind.kind}"`', ""]
        lines += [f"[{kind.title}](../providers/{kind.kind}.md). API: `{kind.default_base_url}`.", ""]
        lines += ["| option | default | values | meaning |", "|---|---|---|---|"]
        lines += _option_rows(kind.Options, "")
    return "\n".join([*lines, ""])


def _option_rows(model: type[BaseModel], path: str) -> Iterator[str]:
    """A table inside is written as `table.key`."""
    for key, option in model.model_fields.items():
        inner = _model_of(option.annotation)
        values = "a list of losses" if path + key == "accept" else "table" if inner else _values(option)
        yield f"| `{path}{key}` | {_default(option)} | {values} | {_escaped(option.description or '')} |"
        if inner is not None:
            yield from _option_rows(inner, f"{path}{key}.")


def _capability(name: str, value: Any) -> str:
    if name.endswith("_octets"):
        return f"{value // 1_048_576} MB" if value else "-"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


# --- pages ---------------------------------------------------------------------------------------------------

PAGES = {"settings.md": settings_tables, "commands.md": command_sections, "providers.md": provider_tables}


def by_hand(page: str) -> str:
    """What a person wrote: the page down to the marker."""
    head, marker, _ = (FOLDER / page).read_text(encoding="utf-8").partition(MARKER)
    assert marker, f"{page} has lost its marker line"
    return head


def main() -> None:
    for page, render in PAGES.items():
        text = f"{by_hand(page)}{MARKER}\n{render()}"
        (FOLDER / page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
