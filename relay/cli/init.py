"""relay init: the folders, certificates, keys and first credential a server needs. A second run changes nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from relay.auth.api_keys import generate_key
from relay.auth.passwords import generate_password, hash_password
from relay.auth.scram import scram_verifier
from relay.cli.certificates import make_certificates
from relay.cli.common import SYSTEM_CONFIG, fail, operator_errors
from relay.cli.config_text import OPENSSL_CONFIG, sandbox_config, shipped_config
from relay.cli.sandbox import SANDBOX_FILE, read_secrets, write_facts
from relay.cli.serve import shifted
from relay.mail.errors import OperatorError
from relay.mail.session import SenderRights
from relay.ports import SystemClock
from relay.settings import Settings, load_settings
from relay.signing.keys import KeyStore
from relay.store.registry_admin import RegistryAdmin

SANDBOX_DOMAIN = "sandbox.example"
_LOCAL_NAMES = ["localhost", "127.0.0.1", "::1"]

app = typer.Typer()


@app.command()
def init(
    ctx: typer.Context,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="A try-out on loopback ports, complete and running")
    ] = False,
    var: Annotated[Path | None, typer.Option("--var", help="Folder for data; default /var/lib/sendrelay")] = None,
    port_offset: Annotated[int, typer.Option(help="With --sandbox: what `relay serve` adds to every port")] = 0,
) -> None:
    """Prepare a server: configuration, certificates, and for the sandbox a credential, an API key and a DKIM key."""
    with operator_errors():
        try:
            if sandbox:
                settings = init_sandbox((var or Path("var")).absolute(), port_offset)
                typer.echo(
                    f"Sandbox ready in {settings.server.var}; start it with `relay --config "
                    f"{settings.server.var / 'relay.toml'} serve`",
                    err=True,
                )
            else:
                path = init_server(ctx.find_root().obj.get("config") or os.environ.get("RELAY_CONFIG"), var)
                typer.echo(
                    f"Configuration in {path}; next: `relay credential add USERNAME`, `relay domain add DOMAIN`, "
                    "`relay check-config`, `relay serve`",
                    err=True,
                )
        except OSError as error:
            fail(f"{error.filename}: {error.strerror}; run as the server's user, or choose --var FOLDER")


def init_server(config: str | None, var: Path | None) -> Path:
    """The configuration files (never overwritten), their folder, and a certificate. Raises OperatorError."""
    path = Path(config) if config else SYSTEM_CONFIG
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(shipped_config(var), encoding="utf-8")
        path.with_name("openssl.cnf").write_text(OPENSSL_CONFIG, encoding="utf-8")
    elif var is not None:
        raise OperatorError(f"{path} exists; change server.var there instead of passing --var")
    settings = load_settings(path)
    _private_folder(settings.server.var)
    make_certificates(settings.server.var / "certs", [settings.hostname, *_LOCAL_NAMES])
    return path


def init_sandbox(var: Path, port_offset: int = 0) -> Settings:
    """Everything `make run` needs under `var`. Raises OperatorError."""
    _private_folder(var)
    config = var / "relay.toml"
    if not config.exists():
        config.write_text(sandbox_config(var, SANDBOX_DOMAIN, "localhost"), encoding="utf-8")
    settings = load_settings(config)
    make_certificates(var / "certs", _LOCAL_NAMES)
    keys = KeyStore(var / "keys")
    if settings.sandbox.domain not in keys.domains():
        keys.add(settings.sandbox.domain)
    write_facts(shifted(settings, port_offset), read_secrets(var) or _first_secrets(settings), port_offset)
    return settings


def _first_secrets(settings: Settings) -> dict[str, Any]:
    """A credential and an API key in the registry; their clear text, which nobody else will ever see again."""
    username, password, key = f"app@{settings.sandbox.domain}", generate_password(), generate_key()
    with RegistryAdmin.open(settings.server.var, SystemClock()) as registry:
        if any(record.username == username for record in registry.credentials()):
            raise OperatorError(
                f"{settings.server.var}: {SANDBOX_FILE} is gone but its credential is not; "
                "delete the folder, or choose another with VAR=FOLDER"
            )
        note, iterations = "made by relay init --sandbox", settings.auth.scram_iterations
        verifier = scram_verifier(password, username, registry.scram_secret(), iterations)
        registry.add_credential(username, None, hash_password(password), SenderRights(), note, verifier)
        registry.add_api_key(key.id, key.digest, None, ("*",), SenderRights(), "made by relay init --sandbox")
    return {"username": username, "password": password, "api_key": key.text}


def _private_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
