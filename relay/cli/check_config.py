"""relay check-config: whether the configuration can be served, and what is in force, before anything is restarted."""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli.common import config_path, in_file, load, operator_errors, print_json
from relay.in_force import check_files
from relay.policy.routing import RouteFacts, choose_route
from relay.settings import Settings
from relay.signing.keys import KeyStore
from relay.store.registry import REGISTRY_FILE, Registry

app = typer.Typer()


@app.command("check-config")
def check_config(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Every setting in force as one JSON document")] = False,
) -> None:
    """Check the configuration and the files it names. Exit code 2 with one line that names what to fix."""
    settings = load(ctx)
    with operator_errors():
        path = config_path(ctx)
        with in_file(path):
            warnings = _warnings(settings)
    if as_json:
        print_json({"file": str(path), "warnings": warnings, "settings": settings.model_dump(mode="json")})
        return
    typer.echo(f"{path} is right.")
    for listener in settings.listener:
        typer.echo(f"  {listener.name}: {listener.place} {listener.role}, TLS {listener.tls}")
        for peer in listener.peer:
            typer.echo(f"    user:{peer.user}: account {peer.account}, sends as {', '.join(peer.senders)}")
    for device in settings.device:
        where = f"{', '.join(device.network)} on {', '.join(device.listeners)}"
        typer.echo(f"  device:{device.name}: {where}: account {device.account}, sends as {', '.join(device.senders)}")
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def _warnings(settings: Settings) -> list[str]:
    """What can be served but hardly is what was meant. Raises OperatorError for what cannot be served."""
    check_files(settings)
    warnings = []
    if not settings.listener:
        warnings.append("no [[listener]]: nothing is listened on")
    if "." not in settings.hostname and not settings.sandbox.enabled:
        warnings.append(
            f"server.hostname is {settings.hostname!r}; receivers want a public name such as mail.example.com"
        )
    if not KeyStore(settings.server.var / "keys").domains():
        warnings.append("no DKIM keys: mail leaves unsigned; `relay domain add DOMAIN` makes one")
    if not settings.inbound.domains and any(listener.role == "mx" for listener in settings.listener):
        warnings.append(
            "[inbound] domains is empty: listeners with role = 'mx' take mail of authenticated clients only"
        )
    warnings += _account_warnings(settings)
    return warnings if settings.sandbox.enabled else warnings + _inbound_warnings(settings)


def _account_warnings(settings: Settings) -> list[str]:
    """Raises StoreError."""
    registry = Registry(settings.server.var / REGISTRY_FILE)
    registry.refresh()
    registry.close()
    bound = [(f"device {one.name!r}", one.account) for one in settings.device]
    bound += [(f"peer {one.user!r}", one.account) for listener in settings.listener for one in listener.peer]
    return [
        f"{who}: there is no enabled account {account!r}, so it cannot send; `relay account add {account}` makes one"
        for who, account in bound
        if not registry.has_account(account)
    ]


def _inbound_warnings(settings: Settings) -> list[str]:
    """A domain whose mail we take and whose MX we are comes back to us, unless a route says where it goes."""
    return [
        f"mail for {domain} that port 25 takes goes to its MX in DNS; where that is this server it loops:"
        f" give it a [[route]] with match.recipient_domain = [{domain!r}]"
        for domain in settings.inbound.domains
        if choose_route(settings.route, RouteFacts("", "", domain.lower())).via[0] == "direct"
    ]
