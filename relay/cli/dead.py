"""relay dead: messages that bounced or expired and whose text is kept: listed, shown, exported, sent again.

Looking reads the spools beside the server; sending again goes through it.
"""

from __future__ import annotations

import json as json_words
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from relay.cli.common import fail, load, operator_errors, print_json
from relay.cli.control import refusal, request
from relay.cli.queue_act import Account, Domain, DryRun, Ids, Json, Older, Sender, filters, questions
from relay.cli.queue_files import file_of, files, read
from relay.mail.errors import StoreError
from relay.mail.message import header_block
from relay.mail.reply import printable
from relay.settings import Settings
from relay.store import dead as letters
from relay.store import spool_read
from relay.store.ids import to_number
from relay.store.spool_verbs import Selection

app = typer.Typer(no_args_is_help=True, help="What bounced or expired, while its text is kept (spool.dead_letters).")

_PAGE: Final = 1000
All = Annotated[bool, typer.Option("--all", help="All dead letters, when nothing else narrows it")]


@app.command("list")
def list_(
    ctx: typer.Context,
    account: Account = "",
    domain: Domain = "",
    sender: Sender = "",
    older: Older = "",
    after: Annotated[str, typer.Option(help="Only what comes after this message id: the next page")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many a spool")] = 100,
    json: Json = False,
) -> None:
    """Dead letters, oldest first, with the failed recipients and why. `--older` counts from when it ended."""
    settings = load(ctx)
    chosen = _selection(None, filters(account, domain, sender, older, None, False))
    with operator_errors():
        start = to_number(after) if after and file_of(settings, after) else 0
        found = [one for path in files(settings) for one in _walk(path, chosen, start, limit)]
    if json:
        return print_json({"letters": found})
    for one in found:
        again = f"  sent again as {one['again']}" if one["again"] else ""
        typer.echo(f"{one['id']}  {one['ended_at'][:19]}Z  {one['size']:>9}  {printable(one['from'] or '<>')}{again}")
        for who in one["recipients"]:
            typer.echo(f"    {who['state']:<9} {printable(who['address'])}  {printable(who['reply'])}")
    typer.echo(f"{len(found)} dead letters", err=True)
    return None


@app.command()
def show(ctx: typer.Context, message_id: str, json: Json = False) -> None:
    """One dead letter: envelope, reasons and the header of its text. Exit code 1 when there is none."""
    settings = load(ctx)
    with operator_errors():
        found = _letter(settings, message_id)
    if found is None:
        fail(f"no dead letter {message_id}", 1)
    sidecar, content = found
    header = header_block(content).decode("utf-8", "replace").splitlines()
    if json:
        return print_json(sidecar | {"header": header})
    print_json(sidecar)
    for line in header:
        typer.echo(printable(line))
    return None


@app.command()
def export(
    ctx: typer.Context,
    to: Annotated[Path, typer.Option("--to", help="Folder for ID.eml and ID.json, readable by you alone")],
    message_ids: Ids = None,
    account: Account = "",
    domain: Domain = "",
    sender: Sender = "",
    older: Older = "",
    everything: All = False,
) -> None:
    """Write letters as .eml, each with a .json of the envelope and the reasons. Exit code 1 when there was none."""
    settings = load(ctx)
    chosen = _chosen("export", message_ids, filters(account, domain, sender, older, None, everything))
    count = 0
    with operator_errors():
        for path in files(settings):
            for one in _walk(path, chosen, 0, None):
                found = _letter(settings, one["id"])
                if found is not None:
                    _write(to, one["id"], *found)
                    count += 1
    typer.echo(f"{count} letters written to {to}", err=True)
    if not count:
        raise typer.Exit(1)


@app.command()
def reinject(
    ctx: typer.Context,
    message_ids: Ids = None,
    to: Annotated[list[str] | None, typer.Option("--to", help="Instead of the failed recipients; repeatable")] = None,
    account: Account = "",
    domain: Domain = "",
    sender: Sender = "",
    older: Older = "",
    everything: All = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make a new message of each letter, for the recipients that failed; once for each. Exit code 1 when none was."""
    settings = load(ctx)
    chosen = filters(account, domain, sender, older, None, everything)
    _chosen("reinject", message_ids, chosen)
    found: list[dict[str, Any]] = []
    with operator_errors():
        for number, wanted in questions(settings, message_ids or [], chosen):
            found += _reinject(settings, number, wanted | {"to": to or [], "dry_run": dry_run})
    if json:
        print_json({"dry_run": dry_run, "letters": found})
    else:
        for one in found:
            typer.echo(f"{one['id']}  {_what(one, dry_run)}  {printable(', '.join(one['to']))}")
    done = sum(one["earlier"] is None if dry_run else one["new"] is not None for one in found)
    typer.echo(f"{done} {'would be ' if dry_run else ''}sent again", err=True)
    if not done:
        raise typer.Exit(1)


def _what(one: dict[str, Any], dry_run: bool) -> str:
    if one["earlier"]:
        return f"was sent again before, as {one['earlier']}"
    if dry_run:
        return "would be sent again"
    return f"again as {one['new']}" if one["new"] else f"not sent again: {one['refused'] or 'its text is gone'}"


def _reinject(settings: Settings, number: int, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    while True:
        status, answer = request(settings, "POST", "/admin/dead/reinject", wanted, worker=number)
        if status != 200:
            fail(refusal(status, answer))
        yield from answer["letters"]
        if answer["after"] is None:
            return
        wanted = wanted | {"after": answer["after"]}


def _chosen(verb: str, message_ids: list[str] | None, given: dict[str, Any]) -> Selection:
    if not message_ids and not given:
        fail(f"dead {verb}: name message ids, or a filter such as --domain, or --all")
    return _selection(message_ids, given)


def _selection(message_ids: list[str] | None, given: dict[str, Any]) -> Selection:
    before = time.time() - given["older"] if "older" in given else None
    words = {name: given.get(name, "") for name in ("account", "domain", "sender")}
    with operator_errors():
        for message_id in message_ids or ():
            _number(message_id)
    return Selection(ids=tuple(message_ids or ()), before=before, **words)


def _number(message_id: str) -> int:
    try:
        return to_number(message_id)
    except ValueError as error:
        raise StoreError(f"{error}; it has 16 hex digits") from None


def _walk(path: Path, chosen: Selection, after: int, limit: int | None) -> Iterator[dict[str, Any]]:
    """A page at a time, so that the spool is never read for long."""
    left, place = limit, after
    while left is None or left > 0:
        page = _PAGE if left is None else min(left, _PAGE)
        found, following = read(path, partial(letters.find, selection=chosen, after=place, limit=page))
        yield from found
        if following is None:
            return
        left, place = (None if left is None else left - len(found)), following


def _letter(settings: Settings, message_id: str) -> tuple[dict[str, Any], bytes] | None:
    """The facts and the text. Raises StoreError."""
    path, number = file_of(settings, message_id), _number(message_id)
    if path is None:
        return None
    found = read(path, lambda spool: letters.letter(spool, number))
    if found is None:
        return None
    told = read(path, lambda spool: spool_read.describe(spool, number)) or {}
    failed = [one for one in told.get("recipients", []) if one["state"] in ("bounced", "expired")]
    sidecar = {
        "id": found.id,
        "account": found.account,
        "username": found.username,
        "from": found.envelope.reverse_path,
        "to": [one.address for one in found.envelope.recipients],
        "envid": found.envelope.envid,
        "received_at": told.get("received_at"),
        "message_id": found.client_message_id,
        "tags": list(found.tags),
        "again": found.again,
        "reasons": [{name: one[name] for name in ("address", "state", "attempts", "reply")} for one in failed],
    }
    if found.content is not None:
        return sidecar, found.content
    body = path.with_suffix(".bodies") / message_id[-2:] / message_id
    try:
        return sidecar, body.read_bytes()
    except OSError as error:
        raise StoreError(f"{body}: cannot read it: {error.strerror}; run this as the server's user") from error


def _write(folder: Path, message_id: str, sidecar: dict[str, Any], content: bytes) -> None:
    """Both 0600, never over a file that is there. Raises StoreError."""
    facts = json_words.dumps(sidecar, indent=2, ensure_ascii=False).encode()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for ending, written in ((".eml", content), (".json", facts + b"\n")):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(folder / f"{message_id}{ending}", flags, 0o600), "wb") as file:
                file.write(written)
    except FileExistsError as error:
        raise StoreError(f"{error.filename}: is there already; name another folder") from error
    except OSError as error:
        raise StoreError(f"{folder}: cannot write there: {error.strerror}; check owner and disk") from error
