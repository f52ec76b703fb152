"""relay inbox: what the sandbox's MX took, read beside the server. Exit code 1 where there is no such message."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from relay.cli.common import fail, load, operator_errors, print_json
from relay.mail.message import first_value, header_block, header_fields
from relay.ports import InboxMessage
from relay.store.inbox import Inbox

app = typer.Typer(no_args_is_help=True, help="Look at the mail the sandbox took.")

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output")]
Number = Annotated[int, typer.Argument(help="The message's number, from `relay inbox list`")]


@app.command("list")
def list_(
    ctx: typer.Context,
    to: Annotated[str, typer.Option(help="Only messages for this recipient address")] = "",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many")] = 50,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until there is one")] = 0.0,
    json: JsonOption = False,
) -> None:
    """Messages, newest last. Exit code 1 when there is none."""
    inbox = Inbox(load(ctx).server.var)
    with operator_errors():
        messages = _waited(lambda: inbox.list(to=to, limit=limit), wait)
    if json:
        print_json({"messages": [described(message) for message in messages]})
    for message in () if json else messages:
        subject = first_value(message.header, "subject") or "(no subject)"
        signed = "signed" if first_value(message.header, "dkim-signature") else "unsigned"
        typer.echo(f"{message.id:>5}  {_time(message)[11:19]}  {signed:<8}  {', '.join(message.rcpt_to)}  {subject}")
    if not messages:
        raise typer.Exit(1)


@app.command()
def show(ctx: typer.Context, number: Number, json: JsonOption = False) -> None:
    """One message: its envelope, its header, and its text."""
    inbox = Inbox(load(ctx).server.var)
    with operator_errors():
        message, content = inbox.get(number), inbox.raw(number)
    if message is None or content is None:
        fail(f"no message {number} in the inbox", 1)
    if json:
        headers = [[field.name, field.text] for field in header_fields(header_block(content))]
        return print_json(described(message) | {"headers": headers})
    typer.echo(f"from {message.mail_from or '<>'}\nto   {', '.join(message.rcpt_to)}\nover {message.tls or 'no TLS'}\n")
    typer.echo(content.decode("utf-8", "replace").replace("\r\n", "\n"))
    return None


@app.command()
def raw(ctx: typer.Context, number: Number) -> None:
    """The bytes of one message, as they came, on standard output."""
    with operator_errors():
        content = Inbox(load(ctx).server.var).raw(number)
    if content is None:
        fail(f"no message {number} in the inbox", 1)
    sys.stdout.buffer.write(content)


@app.command()
def clear(ctx: typer.Context) -> None:
    """Delete everything in the inbox."""
    with operator_errors():
        typer.echo(f"{Inbox(load(ctx).server.var).clear()} messages deleted", err=True)


def described(message: InboxMessage) -> dict[str, Any]:
    """A message without its bytes, as JSON has it."""
    return {
        "id": message.id,
        "received_at": _time(message),
        "mail_from": message.mail_from,
        "rcpt_to": list(message.rcpt_to),
        "subject": first_value(message.header, "subject"),
        "tls": message.tls,
        "size": message.size,
        "signed": first_value(message.header, "dkim-signature") is not None,
    }


def _time(message: InboxMessage) -> str:
    return datetime.fromtimestamp(message.received_at, UTC).isoformat(timespec="milliseconds")


def _waited(look: Callable[[], Sequence[InboxMessage]], seconds: float) -> Sequence[InboxMessage]:
    end = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < end:
        time.sleep(0.1)
    return found
