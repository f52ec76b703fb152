"""`relay key`: API keys for the HTTP interfaces. Works beside a running server, which follows within a second.

The key alone goes to standard output, once; everything else to standard error.
Exit codes: 0 done, 1 no such key, 2 something to fix.
"""

from __future__ import annotations

from typing import Annotated

import typer

from relay.auth.api_keys import KEY_PREFIX, SCOPES, generate_key, unknown_scopes
from relay.cli.common import fail, print_json
from relay.cli.registry_verbs import (
    AccountFilter,
    AccountOption,
    DomainOption,
    JsonOption,
    NoteOption,
    SenderOption,
    listing,
    opened,
    say,
    say_added,
    state,
    switch,
    when,
)
from relay.store.registry_records import sender_rights

app = typer.Typer(help="API keys.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(metavar="ID", help=f"The id of `relay key list`, or {KEY_PREFIX}ID")]
ScopeOption = Annotated[list[str] | None, typer.Option("--scope", help="What it may do; repeatable; messages:*")]


@app.command()
def add(
    ctx: typer.Context,
    account: AccountOption = None,
    scope: ScopeOption = None,
    sender: SenderOption = None,
    sender_domain: DomainOption = None,
    note: NoteOption = "",
    as_json: JsonOption = False,
) -> None:
    """Create an API key and print it, once."""
    scopes = tuple(dict.fromkeys(scope or ("messages:*",)))
    unknown = unknown_scopes(scopes)
    if unknown:
        fail(f"--scope {unknown[0]!r} is none; use {', '.join(SCOPES)}, NOUN:* or *")
    key = generate_key()
    with opened(ctx) as admin:
        rights = sender_rights(sender or (), sender_domain or ())
        added = admin.add_api_key(key.id, key.digest, account, scopes, rights, note)
    say_added("Key", added, rights)
    if as_json:
        print_json({"id": key.id, "account": added.account, "scopes": scopes, "key": key.text})
    else:
        say("The key is shown this once and cannot be read back:")
        typer.echo(key.text)


@app.command("list")
def list_keys(ctx: typer.Context, account: AccountFilter = None, as_json: JsonOption = False) -> None:
    """List API keys by their public ids."""
    with opened(ctx) as admin:
        records = admin.api_keys(account)
    rows = [
        (
            record.id,
            record.account,
            " ".join(record.scopes),
            str(sender_rights(record.sender_addresses, record.sender_domains)),
            when(record.created_at),
            state(record.disabled_at),
            record.note,
        )
        for record in records
    ]
    listing(records, as_json, ("ID", "ACCOUNT", "SCOPES", "SENDERS", "CREATED", "STATE", "NOTE"), rows)


@app.command()
def disable(ctx: typer.Context, key_id: KeyArgument) -> None:
    """Refuse this key from now on."""
    with opened(ctx) as admin:
        switch(admin.set_api_key_disabled(_id(key_id), True), "key", _id(key_id), "disabled")


@app.command()
def enable(ctx: typer.Context, key_id: KeyArgument) -> None:
    """Accept this key again."""
    with opened(ctx) as admin:
        switch(admin.set_api_key_disabled(_id(key_id), False), "key", _id(key_id), "enabled")


def _id(text: str) -> str:
    """The id, also of a whole key pasted by mistake, whose secret is dropped here and printed nowhere."""
    return text.removeprefix(KEY_PREFIX).partition("_")[0]
