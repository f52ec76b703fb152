"""The command `relay`: one file a noun, put together here."""

from __future__ import annotations

from typing import Annotated

import typer

from relay import __version__
from relay.cli import (
    account,
    cert,
    check_config,
    client_cert,
    contacts,
    credential,
    dead,
    domain,
    inbox,
    init,
    key,
    providers,
    queue,
    reload,
    route,
    send,
    serve,
    sessions,
    suppression,
    top,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Sendrelay: an SMTP relay server with an API bridge.",
    epilog="Exit codes: 0 done, 1 the answer is no (not found, refused), 2 usage or something to fix.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sendrelay {__version__}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", help="Default: $RELAY_CONFIG, /etc/sendrelay/relay.toml, var/relay.toml"),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it and exit")
    ] = False,
) -> None:
    """What stands before the verb."""
    ctx.obj = {"config": config}


for verb in (init, serve, reload, check_config, cert, send, top):
    app.registered_commands += verb.app.registered_commands
for name, noun in (
    ("credential", credential),
    ("client-cert", client_cert),
    ("domain", domain),
    ("queue", queue),
    ("route", route),
    ("providers", providers),
    ("contacts", contacts),
    ("dead", dead),
    ("sessions", sessions),
    ("inbox", inbox),
    ("account", account),
    ("suppression", suppression),
    ("key", key),
):
    app.add_typer(noun.app, name=name)
