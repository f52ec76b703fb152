"""`relay suppression`: the addresses an account does not write to any more.

Exit codes: 0 done, 1 not on the list, 2 something to fix.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import typer

from relay.cli.common import fail, load, operator_errors
from relay.cli.registry_verbs import AccountFilter, JsonOption, listing, say, when
from relay.mail.address import parse_address
from relay.mail.errors import AddressSyntaxError
from relay.mail.reply import printable
from relay.ports import Suppression, SuppressionReason, SystemClock
from relay.store.suppressions import Suppressions

app = typer.Typer(help="Addresses an account does not write to any more.", no_args_is_help=True)

AccountName = Annotated[str, typer.Option("--account", "-a", help="Account whose list it is")]
Addresses = Annotated[list[str], typer.Argument(metavar="ADDRESS...")]
Days = Annotated[int, typer.Option("--days", min=0, help="Days until it is forgotten; 0: never")]
_FORMULA: Final = ("=", "+", "-", "@")
_FIELDS: Final = ("account", "address", "reason", "words", "created_at", "expires_at")
_REASONS: Final[tuple[SuppressionReason, ...]] = get_args(SuppressionReason)


@contextmanager
def _opened(ctx: typer.Context) -> Iterator[Suppressions]:
    with operator_errors():
        store = Suppressions(load(ctx).server.var, SystemClock())
        try:
            yield store
        finally:
            store.close()


@app.command("list")
def list_entries(ctx: typer.Context, account: AccountFilter = None, as_json: JsonOption = False) -> None:
    """List what is suppressed, and why."""
    with _opened(ctx) as store:
        found = store.entries(account)
    rows = [(one.account, one.address, one.reason, when(one.created_at), when(one.expires_at)) for one in found]
    listing(found, as_json, ("ACCOUNT", "ADDRESS", "REASON", "SINCE", "UNTIL"), rows)


@app.command()
def add(
    ctx: typer.Context, addresses: Addresses, account: AccountName = "default", note: str = "", days: Days = 0
) -> None:
    """Put addresses on the list."""
    now = SystemClock.now()
    until = now + days * 86_400 if days else None
    words = printable(note, 200)
    entries = [Suppression(account, _address(one), "manual", words, now, until) for one in addresses]
    with _opened(ctx) as store:
        store.add(entries)
    say(f"{len(entries)} on the list of account {account}; a running server follows at once.")


@app.command()
def remove(ctx: typer.Context, addresses: Addresses, account: AccountName = "default") -> None:
    """Take addresses off the list."""
    with _opened(ctx) as store:
        missing = [one for one in addresses if not store.remove(account, one)]
    if missing:
        fail(f"not on the list of account {account}: {', '.join(missing)}", 1)
    say(f"{len(addresses)} taken off the list of account {account}.")


@app.command("export")
def export_entries(ctx: typer.Context, account: AccountFilter = None) -> None:
    """Write the list as CSV, as `import` reads it."""
    with _opened(ctx) as store:
        found = store.entries(account)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_FIELDS)
    writer.writerows(
        (
            one.account,
            _as_text(one.address),
            one.reason,
            _as_text(one.words),
            _stamp(one.created_at),
            _stamp(one.expires_at),
        )
        for one in found
    )


@app.command("import")
def import_entries(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV with a heading that names address, and what of the rest there is")],
    account: AccountName = "default",
) -> None:
    """Put the addresses of a CSV file on the list, all or none."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            entries = [_entry(number, row, account) for number, row in enumerate(csv.DictReader(lines), 2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        fail(f"{file}: cannot read it ({error}); give a CSV file in UTF-8")
    with _opened(ctx) as store:
        changed = store.add(entries)
    say(f"{len(entries)} addresses read, {changed} new or changed.")


def _entry(number: int, row: dict[str, Any], account: str) -> Suppression:
    """One line; raises nothing but ends the command with its number."""
    word = row.get("reason") or "manual"
    reason = next((one for one in _REASONS if one == word), None)
    if reason is None:
        fail(f"line {number}: reason {printable(word)!r}; use {', '.join(_REASONS)}")
    if not row.get("address"):
        fail(f"line {number}: no address; the first line has to name the columns, one of them address")
    try:
        created, expires = _seconds(row.get("created_at")), _seconds(row.get("expires_at"))
    except ValueError:
        fail(f"line {number}: a time is not as 2026-11-25T10:00:00Z")
    address = _address(_without_mark(row["address"].strip()), f"line {number}: ")
    words = printable(_without_mark(row.get("words") or ""), 300)
    return Suppression(row.get("account") or account, address, reason, words, created or SystemClock.now(), expires)


def _address(text: str, where: str = "") -> str:
    try:
        parse_address(text)
    except AddressSyntaxError as error:
        fail(f"{where}{printable(text)}: {error}")
    return text


def _as_text(cell: str) -> str:
    """A spreadsheet takes a cell that begins so for a formula: an address may, and a peer's words."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _without_mark(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def _stamp(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _seconds(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None
