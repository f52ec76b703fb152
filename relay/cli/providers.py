"""relay providers: the HTTP APIs configured, and what each would make of a message; nothing is sent.

In: the configuration, a message file, its recipients. Out: lines or JSON; never a key. Exit code 1 where no provider
can carry the message.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from relay.cli.common import config_path, fail, in_file, load, octets_of, operator_errors, print_json
from relay.mail.dialects import has_directives, read_directives, without_directives
from relay.mail.directives import NO_DIRECTIVES
from relay.mail.envelope import Envelope, Recipient
from relay.mail.errors import DirectiveError, MessageSyntaxError
from relay.mail.line_ends import fixed_line_ends
from relay.mail.message import header_block, header_fields
from relay.ports import DeliveryRequest
from relay.settings import Settings
from relay.transports.providers import build_provider
from relay.transports.providers.base import Provider, Refusal

app = typer.Typer(no_args_is_help=True, help="HTTP email APIs: what is configured, and what a message would lose.")

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output")]


@app.command("list")
def list_(ctx: typer.Context, json: JsonOption = False) -> None:
    """Configured providers, their API, and whether they call back."""
    settings = load(ctx)
    with operator_errors(), in_file(config_path(ctx)):
        found = [_described(settings, name, provider) for name, provider in _built(settings).items()]
    if json:
        return print_json({"providers": found})
    for one in found:
        hooks = f"calls back at /hooks/{one['name']}/..." if one["callbacks"] else "no callbacks"
        typer.echo(f"{one['name']}  {one['kind']}  {one['base_url']}  {hooks}")
    return None


@app.command()
def explain(
    ctx: typer.Context,
    message: Annotated[Path, typer.Argument(help="A message, header and all")],
    to: Annotated[list[str], typer.Option("--to", help="Envelope recipient; repeat for more")],
    sender: Annotated[str, typer.Option("--from", help="Envelope sender")] = "",
    json: JsonOption = False,
) -> None:
    """Per provider: whether it would carry the message, what would be lost, and in which calls."""
    settings = load(ctx)
    content = fixed_line_ends(octets_of(message))
    with operator_errors(), in_file(config_path(ctx)):
        providers = _built(settings)
    if not providers:
        fail("no [provider.NAME] is configured")
    request, content = _request(content, sender, to)
    found = [{"name": name, **_explained(provider, request, content)} for name, provider in providers.items()]
    if json:
        print_json({"providers": found})
    else:
        for one in found:
            _show(one)
    if not any(one["carried"] for one in found):
        raise typer.Exit(1)


def _built(settings: Settings) -> dict[str, Provider]:
    return {name: build_provider(name, provider) for name, provider in settings.provider.items()}


def _described(settings: Settings, name: str, provider: Provider) -> dict[str, Any]:
    return {
        "name": name,
        "kind": provider.kind,
        "base_url": provider.base_url,
        "callbacks": settings.provider[name].hook_token_file is not None,
        "routes": [route.name for route in settings.route if f"provider:{name}" in route.via],
    }


def _request(content: bytes, sender: str, to: list[str]) -> tuple[DeliveryRequest, bytes]:
    header, directives = header_block(content), NO_DIRECTIVES
    if has_directives(header):
        try:
            directives = read_directives(header_fields(header))
        except DirectiveError as error:
            fail(f"the relay itself would refuse it: {error}")
        content = without_directives(content)
    recipients = tuple(Recipient(address) for address in dict.fromkeys(to))
    envelope = Envelope(sender or None, recipients)
    return DeliveryRequest("explain", "", sender or None, recipients, "", envelope, directives=directives), content


def _explained(provider: Provider, request: DeliveryRequest, content: bytes) -> dict[str, Any]:
    try:
        rendering = provider.render(request, content)
    except MessageSyntaxError as error:
        return {"carried": False, "reply": f"550 5.6.0 {error}", "losses": [], "calls": []}
    if isinstance(rendering, Refusal):
        return {"carried": False, "reply": str(rendering.reply), "losses": sorted(rendering.losses), "calls": []}
    calls = [
        {
            "method": call.method,
            "url": call.url,
            "octets": len(call.body),
            "copies": [list(copy) for copy in call.copies],
            "prepares": call.prepares,
        }
        for call in rendering.requests
    ]
    return {"carried": True, "reply": "", "losses": sorted(rendering.losses), "calls": calls}


def _show(one: dict[str, Any]) -> None:
    losses = ", ".join(one["losses"])
    if not one["carried"]:
        typer.echo(f"{one['name']}: refused: {one['reply']}")
        return
    typer.echo(f"{one['name']}: {f'carried, without: {losses}' if losses else 'carried without loss'}")
    for call in one["calls"]:
        typer.echo(f"  {call['method']} {call['url']}  {call['octets']} octets")
        if call["prepares"]:
            typer.echo("    its answer decides on the calls that follow")
        for copy in call["copies"]:
            typer.echo(f"    {', '.join(copy)}")
