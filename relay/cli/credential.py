"""`relay credential`: SMTP user names and passwords. Works beside a running server, which follows within a second.

The password alone goes to standard output, once; everything else to standard error. Passwords are never arguments.
Exit codes: 0 done, 1 no such credential, 2 something to fix.
"""

from __future__ import annotations

import getpass
import sys
from functools import partial
from typing import Annotated, get_args

import typer

from relay.auth.passwords import LONGEST_PASSWORD, generate_password, hash_password, password_problem
from relay.auth.scram import scram_verifier
from relay.cli.common import fail, load, print_json
from relay.cli.registry_verbs import (
    AccountFilter,
    AccountOption,
    DomainOption,
    JsonOption,
    NoteOption,
    SenderOption,
    grace_seconds,
    listing,
    opened,
    say,
    say_added,
    state,
    switch,
    when,
)
from relay.settings import LoginTolerance
from relay.store.registry_admin import RegistryAdmin
from relay.store.registry_records import sender_rights

app = typer.Typer(help="SMTP user names and passwords.", no_args_is_help=True)

_TOLERANCES = ", ".join(get_args(LoginTolerance))
UsernameArgument = Annotated[str, typer.Argument(metavar="USERNAME", help="identifier, or identifier@account.domain")]
StdinOption = Annotated[bool, typer.Option("--password-stdin", help="Take the password from standard input")]


@app.command()
def add(
    ctx: typer.Context,
    username: UsernameArgument,
    account: AccountOption = None,
    sender: SenderOption = None,
    sender_domain: DomainOption = None,
    priority: Annotated[int, typer.Option(help="Highest MT-PRIORITY its mail may ask for, 0 to 9")] = 0,
    note: NoteOption = "",
    password_stdin: StdinOption = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="For logins by token or certificate alone: one that nobody learns")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Create a credential and print its password, once."""
    if no_password and password_stdin:
        fail("--no-password and --password-stdin exclude each other; leave one away")
    with opened(ctx) as admin:
        rights = sender_rights(sender or (), sender_domain or (), priority)
        password = _password(password_stdin)
        verifier = _verifier(ctx, admin, username, password)
        added = admin.add_credential(username, account, hash_password(password), rights, note, verifier)
    say_added("Credential", added, rights)
    _show(added.name, added.account, None if password_stdin or no_password else password, as_json)


@app.command("list")
def list_credentials(ctx: typer.Context, account: AccountFilter = None, as_json: JsonOption = False) -> None:
    """List credentials."""
    with opened(ctx) as admin:
        records = admin.credentials(account)
    rows = [
        (
            record.username,
            record.account,
            str(sender_rights(record.sender_addresses, record.sender_domains)),
            str(record.priority),
            when(record.created_at),
            when(record.rotated_at),
            state(record.disabled_at),
            "yes" if record.scram else "no",
            ", ".join(record.tolerate) or "-",
            record.note,
        )
        for record in records
    ]
    heading = (
        "USERNAME",
        "ACCOUNT",
        "SENDERS",
        "PRIORITY",
        "CREATED",
        "ROTATED",
        "STATE",
        "SCRAM",
        "TOLERATES",
        "NOTE",
    )
    listing(records, as_json, heading, rows)


@app.command()
def disable(ctx: typer.Context, username: UsernameArgument) -> None:
    """Refuse this credential from now on; its name stays taken."""
    with opened(ctx) as admin:
        switch(admin.set_credential_disabled(username, True), "credential", username, "disabled")


@app.command()
def enable(ctx: typer.Context, username: UsernameArgument) -> None:
    """Accept this credential again, with the password it had."""
    with opened(ctx) as admin:
        switch(admin.set_credential_disabled(username, False), "credential", username, "enabled")


@app.command()
def priority(
    ctx: typer.Context,
    username: UsernameArgument,
    highest: Annotated[int, typer.Argument(metavar="HIGHEST", help="0 to 9; 0: none above the ordinary")],
) -> None:
    """Let its mail ask for an MT-PRIORITY (RFC 6710) up to this one."""
    with opened(ctx) as admin:
        found = admin.set_priority(username, highest)
    switch(found, "credential", username, f"allowed priorities up to {highest}")


@app.command()
def tolerate(
    ctx: typer.Context,
    username: UsernameArgument,
    what: Annotated[list[str] | None, typer.Argument(metavar="[WHAT]...", help=f"{_TOLERANCES}; none: strict")] = None,
) -> None:
    """Let clients of this credential do so much wrong, from their next login on (docs/howto/devices.md)."""
    with opened(ctx) as admin:
        found = admin.set_tolerate(username, what or ())
    switch(found, "credential", username, f"allowed {', '.join(what or ()) or 'nothing wrong'}")


@app.command()
def rotate(
    ctx: typer.Context,
    username: UsernameArgument,
    grace: Annotated[str | None, typer.Option(help="Keep the present password valid this long: 24h, 7d")] = None,
    password_stdin: StdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give a credential a new password and print it, once. Without --grace the present one ends at once."""
    seconds = grace_seconds(grace)
    with opened(ctx) as admin:
        password = _password(password_stdin)
        rehash = partial(_rehash, password, seconds > 0)
        record = admin.rotate_credential(username, rehash, seconds, _verifier(ctx, admin, username, password))
    if record is None:
        fail(f"no credential {username!r}; see `relay credential list`", 1)
    ends = f"at {when(record.old_password_until)}" if record.old_password_until else "now"
    say(f"Credential {record.username} has a new password; the one before ends {ends}.")
    _show(record.username, record.account, None if password_stdin else password, as_json)


def _rehash(password: str, beside_present: bool, present: str) -> str:
    return hash_password(password, beside=present if beside_present else None)


def _verifier(ctx: typer.Context, admin: RegistryAdmin, username: str, password: str) -> str | None:
    """What SCRAM needs of a password; None where SCRAM is off or cannot take it."""
    auth = load(ctx).auth
    if auth.scram == "off":
        return None
    return scram_verifier(password, username, admin.scram_secret(), auth.scram_iterations)


def _password(from_stdin: bool) -> str:
    """A random one, or the first line of standard input (asked for without echo on a terminal)."""
    if not from_stdin:
        return generate_password()
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
    else:
        line = sys.stdin.buffer.readline(LONGEST_PASSWORD + 3)
        password = line.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")
    problem = password_problem(password)
    if problem:
        fail(problem)
    return password


def _show(username: str, account: str, password: str | None, as_json: bool) -> None:
    if as_json:
        shown = {"username": username, "account": account}
        print_json(shown if password is None else {**shown, "password": password})
    elif password is not None:
        say("The password is shown this once and cannot be read back:")
        typer.echo(password)
