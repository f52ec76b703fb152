"""relay contacts: what marketing platforms have yet to hear, and whom they have to forget.

`status` reads the spools beside the server; the other verbs go through the running server, to every spool there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from relay.cli.common import fail, load, operator_errors, print_json
from relay.cli.control import refusal, request
from relay.cli.queue_files import files, read
from relay.cli.registry_verbs import when
from relay.mail.address import parse_address
from relay.mail.errors import AddressSyntaxError
from relay.mail.reply import printable
from relay.settings import Settings
from relay.store import contacts as outbox

app = typer.Typer(no_args_is_help=True, help="Marketing platforms: what they have yet to hear, and whom to forget.")

_MOST_SHOWN: Final = 50

Name = Annotated[str, typer.Argument(help="NAME of [contacts.NAME]")]
Address = Annotated[str, typer.Argument(help="Whom the platforms have to forget")]
Yes = Annotated[bool, typer.Option("--yes", help="What waits is never told, erasures included")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output")]


@app.command()
def status(ctx: typer.Context, json: Json = False) -> None:
    """How many contacts wait for each platform, since when and why, and who was given up. Exit code 1 for any."""
    settings = load(ctx)
    with operator_errors():
        found = _added_up(settings)
        lost = [one for path in files(settings) for one in read(path, lambda file: outbox.given_up(file, _MOST_SHOWN))]
    if json:
        print_json({"contacts": found, "given_up": lost[:_MOST_SHOWN]})
    else:
        _show(found, lost[:_MOST_SHOWN])
    if any(one["given_up"] for one in found):
        raise typer.Exit(1)


@app.command()
def erase(ctx: typer.Context, address: Address) -> None:
    """Have every configured platform erase a person; what waits to be told of them is dropped first."""
    try:
        parse_address(address)
    except AddressSyntaxError as error:
        fail(f"{printable(address)}: {error}")
    settings = load(ctx)
    names: dict[str, None] = {}
    for answer in _ask(settings, "erase", {"address": address}):
        names |= dict.fromkeys(answer["names"])
    if not names:
        fail("the running server has no [contacts.NAME]; add one and `relay reload`, or erase the person there by hand")
    typer.echo(
        f"{printable(address)}: to be erased at {', '.join(names)}; `relay contacts status` says when it is done"
    )


@app.command()
def retry(ctx: typer.Context, name: Name) -> None:
    """Tell everything that waits or was given up, now. Exit code 1 when there was nothing."""
    _count(load(ctx), "retry", name, "due now")


@app.command()
def forget(ctx: typer.Context, name: Name, yes: Yes = False) -> None:
    """Drop everything that waits for a platform, such as one that is configured no more. Exit code 1 for nothing."""
    if not yes:
        fail(f"contacts forget {name}: what waits is never told, erasures included; say --yes if that is meant")
    _count(load(ctx), "forget", name, "dropped")


def _added_up(settings: Settings) -> list[dict[str, Any]]:
    """By platform over all spools; configured ones first, with nothing waiting too."""
    found = {name: _nothing(name, one.kind) for name, one in settings.contacts.items()}
    for path in files(settings):
        for one in read(path, outbox.summary):
            sum_ = found.setdefault(one["name"], _nothing(one["name"], ""))
            for key in ("waiting", "given_up", "erasures"):
                sum_[key] += one[key]
            sum_["oldest"] = min(filter(None, (sum_["oldest"], one["oldest"])))
            sum_["words"] = sum_["words"] or one["words"]
    return list(found.values())


def _nothing(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "kind": kind, "waiting": 0, "given_up": 0, "erasures": 0, "oldest": None, "words": ""}


def _show(found: list[dict[str, Any]], lost: list[dict[str, str]]) -> None:
    if not found:
        typer.echo("no [contacts.NAME] is configured, and nothing waits")
    for one in found:
        kind = one["kind"] or "configured no more"
        typer.echo(f"{one['name']}  {kind}  {one['waiting']} waiting, {one['given_up']} given up")
        if one["oldest"] is not None:
            typer.echo(f"  since {when(one['oldest'])}, {one['erasures']} to be erased")
        if one["words"]:
            typer.echo(f"  {printable(one['words'])}")
    for each in lost:
        typer.echo(f"given up: {each['name']}  {printable(each['address'])}  {printable(each['words'])}")


def _count(settings: Settings, verb: str, name: str, words: str) -> None:
    number = sum(answer["contacts"] for answer in _ask(settings, verb, {"name": name}))
    typer.echo(f"{number} contacts {words}")
    if not number:
        raise typer.Exit(1)


def _ask(settings: Settings, verb: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    with operator_errors():
        for path in files(settings):
            code, answer = request(settings, "POST", f"/admin/contacts/{verb}", body, worker=int(path.stem))
            if code != 200:
                fail(refusal(code, answer))
            yield answer
