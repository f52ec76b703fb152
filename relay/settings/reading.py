"""Reading the file. Raises SettingsError: one line with file, key and fix."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ValidationError,
)

from relay.mail.errors import SettingsError
from relay.settings.whole import Settings


def load_settings(path: Path) -> Settings:
    """Read and check a TOML file. Raises SettingsError: one line with file, key and fix."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: cannot read it ({error.strerror}); check the path and its owner") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from error
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # beside its own error: an integer too long, brackets too deep
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise SettingsError(f"{path}: not valid TOML: {reason}") from error
    if (key := _nul_in(document)) is not None:
        raise SettingsError(f"{path}: {key}: holds a NUL, which no file name can; take it out")
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise SettingsError(f"{path}: {explain(error)}") from error


def _nul_in(value: Any, key: str = "") -> str | None:
    """Where a NUL stands, or None."""
    if isinstance(value, str):
        return key if "\0" in value else None
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = (_nul_in(one, f"{key}.{name}".removeprefix(".")) for name, one in inside)
    return next((one for one in found if one is not None), None)


def explain(error: ValidationError) -> str:
    """The first of what is wrong, in one line: key and fix."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "settings"
    if first["type"] == "extra_forbidden":
        suggestion = difflib.get_close_matches(str(first["loc"][-1]), _known_keys(first["loc"][:-1]), n=1)
        hint = f"did you mean {suggestion[0]!r}?" if suggestion else "remove it, or see config/relay.toml"
        return f"{key}: unknown setting; {hint}"
    message = first["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(first["input"], dict) else f" (found {first['input']!r})"
    return f"{key}: {message}{shown}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Settings
    for part in location:
        if isinstance(part, int):
            continue
        fields = getattr(model, "model_fields", None)
        if fields is None or part not in fields:
            continue  # the name of a table such as [smarthost.NAME]
        model = _model_in(fields[part].annotation)
    return list(getattr(model, "model_fields", ()))


def _model_in(annotation: Any) -> Any:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
