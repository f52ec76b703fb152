"""What the nouns of the registry (account, credential, key) share: opening it, options, tables, durations."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from relay.cli.common import fail, load, operator_errors, print_json
from relay.mail.session import SenderRights
from relay.ports import SystemClock
from relay.store.registry_admin import RegistryAdmin
from relay.store.registry_records import Added

AccountOption = Annotated[str | None, typer.Option("--account", "-a", help="Account (tenant), created where missing")]
AccountFilter = Annotated[str | None, typer.Option("--account", "-a", help="Only this account's")]
SenderOption = Annotated[list[str] | None, typer.Option("--sender", help="Address it may send from; repeatable")]
DomainOption = Annotated[list[str] | None, typer.Option("--sender-domain", help="Domain it may send from; repeatable")]
NoteOption = Annotated[str, typer.Option("--note", help="A line for people")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output")]

_DURATION = re.compile(r"(\d{1,6})([smhd])\Z")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_GRACE: Final = 30 * 86400


@contextmanager
def opened(ctx: typer.Context) -> Iterator[RegistryAdmin]:
    """The registry of this configuration; an OperatorError ends the command with its one line and code 2."""
    var = load(ctx).server.var
    with operator_errors(), RegistryAdmin.open(var, SystemClock()) as admin:
        yield admin


def say(text: str) -> None:
    """A line for people, on standard error: standard output is for what a script wants."""
    typer.echo(text, err=True)


def say_added(what: str, added: Added, rights: SenderRights) -> None:
    if added.account_created:
        say(f"Account {added.account} did not exist and was created.")
    say(f"{what} {added.name} of account {added.account} may send as {rights}.")


def switch(found: bool, what: str, name: str, done: str) -> None:
    """Report an enable or disable; exit code 1 when there was nothing of that name."""
    if not found:
        fail(f"no {what} {name!r}; see `relay {what} list`", 1)
    say(f"{what.capitalize()} {name} is {done}; a running server follows within a second.")


def grace_seconds(text: str | None) -> float:
    """`90s`, `30m`, `24h` or `7d` in seconds; 0 for None. Ends the command with code 2 for anything else."""
    if text is None:
        return 0.0
    match = _DURATION.match(text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST_GRACE:
        fail(f"--grace {text!r}: use a number and s, m, h or d, 30d at most, such as 24h")
    return float(seconds)


def when(timestamp: float | None) -> str:
    """A time of the registry for people, in UTC; `-` for none."""
    return "-" if timestamp is None else f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%MZ}"


def state(disabled_at: float | None) -> str:
    return "enabled" if disabled_at is None else f"disabled {when(disabled_at)}"


def listing(records: Sequence[Any], as_json: bool, heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Records as JSON (times in epoch seconds) or as a table with aligned columns."""
    if as_json:
        print_json([dataclasses.asdict(record) for record in records])
        return
    table = (heading, *rows)
    widths = [max(len(row[column]) for row in table) for column in range(len(heading))]
    for row in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
