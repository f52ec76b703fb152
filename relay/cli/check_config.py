"""relay check-config: whether the configuration can be served, and what is in force, before anything is restarted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relay.cli.common import config_path, load, operator_errors, print_json
from relay.httpd.control_socket import control_path
from relay.mail.errors import SettingsError
from relay.settings import Settings
from relay.signing.keys import KeyStore
from relay.smtpd.listener import server_tls_context

app = typer.Typer()


@app.command("check-config")
def check_config(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Every setting in force as one JSON document")] = False,
) -> None:
    """Check the configuration and the files it names. Exit code 2 with one line that names what to fix."""
    settings = load(ctx)
    with operator_errors():
        warnings = _warnings(settings)
        path = config_path(ctx)
    if as_json:
        print_json({"file": str(path), "warnings": warnings, "settings": settings.model_dump(mode="json")})
        return
    typer.echo(f"{path} is right.")
    for listener in settings.listener:
        typer.echo(f"  {listener.name}: {listener.address}:{listener.port} {listener.role}, TLS {listener.tls}")
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def _warnings(settings: Settings) -> list[str]:
    """What can be served but hardly is what was meant. Raises OperatorError for what cannot be served."""
    _check_files(settings)
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
    return warnings


def _check_files(settings: Settings) -> None:
    control_path(settings.server.var / "run", settings.server.worker_count - 1)
    if any(listener.tls != "none" for listener in settings.listener):
        server_tls_context(settings)
    files: dict[str, Path | None] = {}
    for name, smarthost in settings.smarthost.items():
        files[f"smarthost.{name}.ca_file"] = smarthost.ca_file
        files[f"smarthost.{name}.password_file"] = smarthost.password_file
    for name, provider in settings.provider.items():
        files[f"provider.{name}.ca_file"] = provider.ca_file
        files[f"provider.{name}.api_key_file"] = provider.api_key_file
    for key, path in files.items():
        if path is not None:
            _readable(key, path)


def _readable(key: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise SettingsError(f"{key}: cannot read {path} ({error.strerror}); check the path and its owner") from error
