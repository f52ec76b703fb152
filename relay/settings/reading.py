"""Reading the file. Raises SettingsError: one line with file, key and fix."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relay.mail.errors import SettingsError
from relay.settings.whole import Settings
from relay.settings.words import in_words


def load_settings(path: Path) -> Settings:
    """Read and check a TOML file. Raises SettingsError: one line with file, key and fix."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows begin a file with a mark
    except OSError as error:
        raise SettingsError(f"{path}: cannot read it ({error.strerror}); check the path and its owner") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from error
    if "\0" in text:
        raise SettingsError(f"{path}: holds NUL octets, as UTF-16 text and damaged files do; save it as UTF-8")
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not valid TOML: {_syntax(error)}") from error
    if (key := _nul_in(document)) is not None:
        raise SettingsError(f"{path}: {key}: holds a NUL, which no file name can; take it out")
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise SettingsError(f"{path}: {in_words(error, document, Settings)}") from error


def _nul_in(value: Any, key: str = "") -> str | None:
    """Where a NUL stands, or None."""
    if isinstance(value, str):
        return key if "\0" in value else None
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = (_nul_in(one, f"{key}.{name}".removeprefix(".")) for name, one in inside)
    return next((one for one in found if one is not None), None)


def _syntax(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    if not isinstance(error, tomllib.TOMLDecodeError):  # Python's own limits
        return "a number is too long, or a date is none"
    hint = (
        "; text stands in quotes, and true and false are lower case" if str(error).startswith("Invalid value") else ""
    )
    return f"{error}{hint}"
