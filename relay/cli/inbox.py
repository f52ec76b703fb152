"""relay inbox: what the sandbox's MX took, read beside the server. Exit code 1 where there is no such message."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from relay.cli.common import fail, load, operator_errors, print_json
from relay.cli.verdicts import report_verdicts
from relay.httpd.inbox_entry import entry, full_entry
from relay.httpd.inbox_watch import InboxWatch
from relay.ports import InboxMessage
from relay.signing.keys import KeyStore
from relay.signing.records import dkim_value
from relay.signing.verify import verify as signatures_of
from relay.store.inbox import Inbox

app = typer.Typer(no_args_is_help=True, help="Look at the mail the sandbox took.")

_LARGEST_ID: Final = 2**63 - 1
_POLL_SECONDS: Final = 0.1

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output")]
Number = Annotated[int, typer.Argument(min=1, max=_LARGEST_ID, help="The message's number, from `relay inbox list`")]


@app.command("list")
def list_(
    ctx: typer.Context,
    to: Annotated[str, typer.Option(help="Only messages for this recipient address")] = "",
    limit: Annotated[int, typer.Option(min=1, max=_LARGEST_ID, help="The newest so many")] = 50,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until there is one")] = 0.0,
    json: JsonOption = False,
) -> None:
    """Messages, newest last. Exit code 1 when there is none."""
    inbox = Inbox(load(ctx).server.var)
    with operator_errors():
        messages = _waited(InboxWatch(inbox, to=to, limit=limit), wait)
    entries = [entry(message) for message in messages]
    if json:
        print_json({"messages": entries})
    for one in () if json else entries:
        signed = "signed" if one["signed"] else "unsigned"
        recipients, subject = ", ".join(one["rcpt_to"]), one["subject"] or "(no subject)"
        _say(f"{one['id']:>5}  {one['received_at'][11:19]}  {signed:<8}  {recipients}  {subject}")
    if not entries:
        raise typer.Exit(1)


@app.command()
def show(ctx: typer.Context, number: Number, json: JsonOption = False) -> None:
    """One message: its envelope, who signed it, its header, its text, and what is attached."""
    inbox = Inbox(load(ctx).server.var)
    with operator_errors():
        message, content = inbox.get(number), inbox.raw(number)
    if message is None or content is None:
        fail(f"no message {number} in the inbox", 1)
    full = full_entry(message, content)
    if json:
        return print_json(full)
    _say(
        f"from    {full['mail_from'] or '<>'}\nto      {', '.join(full['rcpt_to'])}\nover    {full['tls'] or 'no TLS'}"
    )
    _say(f"signed  {', '.join(map(_signature, full['signed'])) or 'no'}\nat      {full['received_at']}\n")
    for name, value in full["headers"]:
        _say(f"{name}: {value}")
    _say(f"\n{_text(full, content)}")
    for attachment in full["attachments"]:
        name = attachment["filename"] or "(no name)"
        _say(f"attached: {name}  {attachment['content_type']}  {attachment['size']} octets")
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
def verify(ctx: typer.Context, number: Number, json: JsonOption = False) -> None:
    """Whether the DKIM signatures of a message hold, by dkimpy and this server's own public keys.

    Exit code 1 when one does not, or there is none.
    """
    settings = load(ctx)
    with operator_errors():
        content = Inbox(settings.server.var).raw(number)
        store = KeyStore(settings.server.var / "keys")
    if content is None:
        fail(f"no message {number} in the inbox", 1)
    own = {key.dns_name: dkim_value(key) for domain in store.domains() for key in store.keys(domain)}
    report_verdicts(signatures_of(content, own), json)


@app.command()
def clear(ctx: typer.Context) -> None:
    """Delete everything in the inbox."""
    with operator_errors():
        deleted = Inbox(load(ctx).server.var).clear()
    typer.echo(f"{deleted} messages deleted", err=True)


def _say(text: str) -> None:
    """A mail may say anything, but not command the terminal it is shown on."""
    typer.echo("".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text))


def _signature(signature: dict[str, str]) -> str:
    return f"d={signature.get('d', '?')} s={signature.get('s', '?')} a={signature.get('a', '?')}"


def _text(full: dict[str, Any], content: bytes) -> str:
    """The text, else the HTML, else the whole message where its parts cannot be told apart."""
    shown = full["text"] if full["text"] is not None else full["html"]
    if "problem" in full:
        shown = f"({full['problem']}; here is all of it)\n{content.decode('utf-8', 'replace')}"
    return (shown or "").replace("\r\n", "\n").rstrip("\n")


def _waited(watch: InboxWatch, seconds: float) -> Sequence[InboxMessage]:
    end = time.monotonic() + seconds
    while not (found := watch.look()) and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    return found
