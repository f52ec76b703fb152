"""relay queue: what waits and why (read beside the server), and what the operator does about it (through it)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import apsw
import typer

from relay.cli.common import fail, load, operator_errors, print_json
from relay.cli.control import request
from relay.mail.errors import StoreError
from relay.settings import Settings
from relay.store import spool_read
from relay.store.ids import spool_of, to_number
from relay.store.spool import SpoolPaths, open_read_only

app = typer.Typer(no_args_is_help=True, help="Look at what waits, and act on it.")

_LARGEST: Final = 2**63 - 1  # what SQLite counts to
_AT_A_TIME: Final = 1000
_Answer = TypeVar("_Answer")

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output")]
Ids = Annotated[list[str], typer.Argument(help="Message ids, as in the 250 reply and in the log")]


@app.command("list")
def list_(
    ctx: typer.Context,
    account: Annotated[str, typer.Option(help="Only this account")] = "",
    domain: Annotated[str, typer.Option(help="Only messages waiting for this recipient domain")] = "",
    limit: Annotated[int, typer.Option(min=1, max=_LARGEST, help="At most so many messages a spool")] = 100,
    json: JsonOption = False,
) -> None:
    """Unfinished messages, oldest first."""
    settings = load(ctx)
    with operator_errors():
        messages = [
            message
            for path in _files(settings)
            for message in _read(
                path, lambda spool: list(spool_read.listing(spool, account=account, domain=domain, limit=limit))
            )
        ]
    if json:
        return print_json({"messages": messages})
    for message in messages:
        typer.echo(f"{message['id']}  {message['received_at']}  {message['size']:>9}  {message['from'] or '<>'}")
        for recipient in message["recipients"]:
            if recipient["state"] in ("queued", "deferred", "held"):
                typer.echo(
                    f"    {recipient['state']:<9} {recipient['address']}  {_next(recipient)}{recipient['reply']}"
                )
    typer.echo(f"{len(messages)} unfinished", err=True)
    return None


def _next(recipient: dict[str, Any]) -> str:
    return f"next {recipient['next_at'][11:19]}  " if recipient["next_at"] and recipient["attempts"] else ""


@app.command()
def show(ctx: typer.Context, message_id: str, json: JsonOption = False) -> None:
    """Everything known of one message: recipients, attempts, events. Exit code 1 when there is none."""
    settings = load(ctx)
    with operator_errors():
        path = _file_of(settings, message_id)
        message = _read(path, lambda spool: spool_read.describe(spool, to_number(message_id))) if path else None
    if message is None:
        fail(f"no message {message_id}", 1)
    if json:
        return print_json(message)
    typer.echo(
        f"{message['id']}  from {message['from'] or '<>'}  account {message['account'] or '-'}  "
        f"{message['size']} octets  received {message['received_at']}"
    )
    for recipient in message["recipients"]:
        typer.echo(
            f"  {recipient['state']:<9} {recipient['address']}  attempts {recipient['attempts']}  "
            f"{_next(recipient)}{recipient['reply']}"
        )
    for attempt in message["attempts"]:
        typer.echo(f"  attempt {attempt['started_at']} {attempt['transport']} {attempt['host']} {attempt['tls']}")
    for event in message["events"]:
        index = event["recipient"]
        address = "" if index is None else message["recipients"][index]["address"]
        typer.echo(f"  event   {event['at']} {event['kind']} {address} {event['reply']}".rstrip())
    return None


@app.command()
def retry(ctx: typer.Context, message_ids: Ids, json: JsonOption = False) -> None:
    """Try waiting recipients of these messages now. Exit code 1 when none was waiting."""
    _act(load(ctx), "retry", message_ids, json)


@app.command()
def cancel(ctx: typer.Context, message_ids: Ids, json: JsonOption = False) -> None:
    """Give these messages up without a notice; what is being delivered right now is not touched."""
    _act(load(ctx), "cancel", message_ids, json)


def _act(settings: Settings, verb: str, message_ids: list[str], json: bool) -> None:
    done = 0
    with operator_errors():
        for spool, ids in _by_spool(settings, message_ids):
            status, answer = request(settings, "POST", f"/admin/queue/{verb}", {"ids": ids}, worker=spool)
            if status != 200:
                fail(f"the server answered {status}: {answer['error']['message']}")
            done += int(answer["recipients"])
    if json:
        print_json({"recipients": done})
    else:
        typer.echo(f"{done} recipients", err=True)
    if not done:
        raise typer.Exit(1)


def _by_spool(settings: Settings, message_ids: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Ids by the spool they live in, some at a time; those of a spool that is not there are nobody's."""
    there = _files(settings)
    by_spool: dict[int, list[str]] = {}
    for message_id in message_ids:
        by_spool.setdefault(_spool(message_id), []).append(message_id)
    for spool, ids in by_spool.items():
        if _database(settings, spool) in there:
            yield from ((spool, ids[start : start + _AT_A_TIME]) for start in range(0, len(ids), _AT_A_TIME))


def _files(settings: Settings) -> list[Path]:
    """Databases of all spools there are, whichever worker has them now. Raises StoreError."""
    folder = settings.server.var / "spool"
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".db")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot read it ({error.strerror}); run this as the server's user or as root"
        ) from error


def _read(path: Path, question: Callable[[apsw.Connection], _Answer]) -> _Answer:
    """What `question` finds in a spool. Raises StoreError."""
    with closing(open_read_only(path)) as connection:
        try:
            return question(connection)
        except apsw.Error as error:
            raise StoreError(f"{path}: cannot read the spool: {error}; try again, or restore it from a copy") from error


def _spool(message_id: str) -> int:
    try:
        return spool_of(message_id)
    except ValueError:
        raise StoreError(
            f"{message_id!r} is no message id; it has 16 hex digits, as in `250 2.0.0 Ok: queued as`"
        ) from None


def _database(settings: Settings, spool: int) -> Path:
    return SpoolPaths(settings.server.var / "spool", spool).database


def _file_of(settings: Settings, message_id: str) -> Path | None:
    """The database a message lives in; None where there is no such spool. Raises StoreError."""
    path = _database(settings, _spool(message_id))
    return path if path in _files(settings) else None
