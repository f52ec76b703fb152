"""What every verb shares: finding the configuration, failing in one line, printing JSON.

Exit codes: 0 done, 1 the answer is no (not found, not verified, refused), 2 usage or something to fix.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer

from relay.mail.errors import OperatorError, SettingsError
from relay.settings import Settings, load_settings

SYSTEM_CONFIG = Path("/etc/sendrelay/relay.toml")
LOCAL_CONFIG = Path("var/relay.toml")
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def fail(message: object, code: int = 2) -> NoReturn:
    """Say one line on standard error and exit."""
    typer.echo(f"relay: {message}", err=True)
    raise typer.Exit(code)


@contextmanager
def operator_errors() -> Iterator[None]:
    """Turn an OperatorError into its one line and exit code 2."""
    try:
        yield
    except OperatorError as error:
        fail(error)
    except UnicodeEncodeError:
        fail("an argument is not in UTF-8; write it anew on a terminal that is")


def octets_of(file: Path) -> bytes:
    """What is in a file the operator named."""
    try:
        return file.read_bytes()
    except OSError as error:
        fail(f"{file}: cannot read it ({error.strerror}); check the path")


@contextmanager
def in_file(path: Path) -> Iterator[None]:
    """Name the configuration in front of a SettingsError about it."""
    try:
        yield
    except SettingsError as error:
        if str(error).startswith(str(path)):
            raise
        raise SettingsError(f"{path}: {error}") from error


def load(ctx: typer.Context) -> Settings:
    """The settings of this command: `--config`, then $RELAY_CONFIG, /etc/sendrelay/relay.toml, ./var/relay.toml."""
    with operator_errors():
        return load_settings(config_path(ctx))


def config_path(ctx: typer.Context) -> Path:
    """Raises SettingsError when no configuration can be found."""
    given = (ctx.find_root().obj or {}).get("config") or os.environ.get("RELAY_CONFIG")
    if given:
        return Path(given)
    for candidate in (SYSTEM_CONFIG, LOCAL_CONFIG):
        if candidate.is_file() and candidate.stat().st_uid in (0, os.geteuid()):
            return candidate
    raise SettingsError(f"no configuration; pass --config FILE or create {SYSTEM_CONFIG} with `relay init`")


def reachable(address: str) -> str:
    """Where a client on this machine finds what listens on `address`."""
    return _ANY_ADDRESS.get(address, address)


def print_json(value: Any) -> None:
    """One JSON document on standard output, indented for people, stable for programs."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")
