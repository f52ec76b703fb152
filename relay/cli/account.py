"""`relay account`: tenants. `relay credential add --account NAME` creates one too; here they are named and closed.

Exit codes: 0 done, 1 no such account, 2 something to fix.
"""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli.registry_verbs import JsonOption, listing, opened, say, state, switch, when

app = typer.Typer(help="Accounts (tenants).", no_args_is_help=True)

AccountArgument = Annotated[str, typer.Argument(metavar="ACCOUNT")]


@app.command()
def add(
    ctx: typer.Context,
    account: AccountArgument,
    display_name: Annotated[str, typer.Option("--name", help="Name for people")] = "",
) -> None:
    """Create an account."""
    with opened(ctx) as admin:
        admin.add_account(account, display_name)
    say(f"Account {account} is created.")


@app.command("list")
def list_accounts(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List accounts."""
    with opened(ctx) as admin:
        records = admin.accounts()
    rows = [(one.id, one.display_name, when(one.created_at), state(one.disabled_at)) for one in records]
    listing(records, as_json, ("ACCOUNT", "NAME", "CREATED", "STATE"), rows)


@app.command()
def disable(ctx: typer.Context, account: AccountArgument) -> None:
    """Refuse every credential and API key of the account from now on."""
    with opened(ctx) as admin:
        switch(admin.set_account_disabled(account, True), "account", account, "disabled")


@app.command()
def enable(ctx: typer.Context, account: AccountArgument) -> None:
    """Accept the account's credentials and keys again, but for those that are disabled themselves."""
    with opened(ctx) as admin:
        switch(admin.set_account_disabled(account, False), "account", account, "enabled")
