"""relay queue: what waits and why (read beside the server); what is done about it is in queue_act.py."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from relay.cli import queue_act
from relay.cli.common import fail, load, operator_errors, print_json
from relay.cli.control import request
from relay.cli.explain import explain
from relay.cli.options import words_of
from relay.cli.queue_files import file_of, files, read
from relay.mail.errors import OperatorError
from relay.mail.reply import printable
from relay.ports import SystemClock
from relay.settings import Settings
from relay.store import spool_read
from relay.store.ids import to_number

app = typer.Typer(no_args_is_help=True, help="Look at what waits, and act on it.")

_LARGEST: Final = 2**63 - 1  # what SQLite counts to

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output")]


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
            for path in files(settings)
            for message in read(
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


def _way(recipient: dict[str, Any]) -> str:
    """Where an operator sent it another way."""
    return f"via {recipient['via']}  " if recipient["via"] else ""


@app.command()
def show(ctx: typer.Context, message_id: str, json: JsonOption = False) -> None:
    """Everything known of one message: recipients, attempts, events. Exit code 1 when there is none."""
    settings = load(ctx)
    with operator_errors():
        path = file_of(settings, message_id)
        message = read(path, lambda spool: spool_read.describe(spool, to_number(message_id))) if path else None
    if message is None:
        fail(f"no message {message_id}", 1)
    if json:
        return print_json(message)
    typer.echo(
        f"{message['id']}  from {message['from'] or '<>'}  account {message['account'] or '-'}  "
        + "  ".join([f"{message['size']} octets", f"received {message['received_at']}", *words_of(message["options"])])
    )
    for recipient in message["recipients"]:
        typer.echo(
            f"  {recipient['state']:<9} {recipient['address']}  attempts {recipient['attempts']}  "
            f"{_next(recipient)}{_way(recipient)}{recipient['reply']}"
        )
    for attempt in message["attempts"]:
        typer.echo(f"  attempt {attempt['started_at']} {attempt['transport']} {attempt['host']} {attempt['tls']}")
    for event in message["events"]:
        index = event["recipient"]
        address = "" if index is None else message["recipients"][index]["address"]
        typer.echo(f"  event   {event['at']} {event['kind']} {address} {event['reply']}".rstrip())
    return None


@app.command("explain")
def explain_(ctx: typer.Context, message_id: str, json: JsonOption = False) -> None:
    """What was decided about one message and why, what holds it now, when it goes next.

    Exit code 1 when there is none.
    """
    settings = load(ctx)
    with operator_errors():
        path = file_of(settings, message_id)
        message = read(path, lambda spool: spool_read.describe(spool, to_number(message_id))) if path else None
    if path is None or message is None:
        fail(f"no message {message_id}", 1)
    found = explain(message, SystemClock().now(), _status(settings, int(path.stem)))
    if json:
        return print_json(found)
    for line in found["record"]:
        typer.echo(f"{line['at'][:23]}Z  {printable(line['what'])}")
    for one in found["recipients"]:
        typer.echo(f"now: {printable(one['address'])} is {one['state']}: {printable(one['now'])}")
    if found["server"] != "running":
        typer.echo("no server answers; this is what the spool knows", err=True)
    return None


def _status(settings: Settings, spool: int) -> dict[str, Any] | None:
    """What the worker says of its routes; None where none answers."""
    try:
        code, answer = request(settings, "GET", "/admin/status", worker=spool)
    except OperatorError:
        return None
    return answer if code == 200 else None


app.registered_commands += queue_act.app.registered_commands
