"""relay serve: bind the ports, become the server's user, and run until told to stop.

Exit codes: 0 stopped as told, 2 something to fix (a taken port, a bad setting, an unreadable file).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli.common import config_path, operator_errors
from relay.cli.sandbox import examples, read_secrets, write_facts
from relay.in_force import InForce
from relay.mail.errors import OperatorError, SettingsError
from relay.settings import Settings, load_settings
from relay.smtpd.listener import bind
from relay.telemetry.systemd import InheritedSocket, inherited_sockets

if TYPE_CHECKING:
    from relay.app import Sockets

app = typer.Typer()


@app.command()
def serve(
    ctx: typer.Context,
    port_offset: Annotated[int, typer.Option(help="Add this to every port of the configuration")] = 0,
) -> None:
    """Run the server until SIGTERM or Ctrl-C; SIGHUP reads configuration, certificates and keys again."""
    with operator_errors():
        path = config_path(ctx).absolute()
        in_force = InForce(lambda: shifted(load_settings(path), port_offset))
        settings = in_force.settings
        _prepare_var(settings)
        metrics = _share_metrics(settings)
        # Imported late: what counts across processes has to know before prometheus-client is loaded.
        from relay import supervisor

        sockets = _bind_all(settings)
        if settings.server.user:
            supervisor.drop_privileges(settings.server.user)
        if metrics is not None:
            _make_empty(metrics)
        code = supervisor.serve(in_force, sockets, _announcement(settings))
    raise typer.Exit(code)


def shifted(settings: Settings, offset: int) -> Settings:
    """Every port moved by `offset`; port 0 stays the system's choice. Raises SettingsError."""
    if not offset:
        return settings
    data = settings.model_dump(exclude_unset=True)
    for listener in data["listener"]:
        listener["port"] += offset if listener["port"] else 0
    data["http"] = settings.http.model_dump() | {"port": settings.http.port + offset}
    try:
        return Settings.model_validate(data)
    except ValueError as error:
        raise SettingsError(f"--port-offset {offset}: a port leaves 1..65535; use a smaller offset") from error


def _prepare_var(settings: Settings) -> None:
    """Raises SettingsError for a data folder that cannot be used."""
    var = settings.server.var
    try:
        var.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(var, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise SettingsError(
            f"server.var: cannot use {var} ({error.strerror}); create it for the server's user, or change the setting"
        ) from error


def _share_metrics(settings: Settings) -> Path | None:
    """Several workers count together through files in the folder returned."""
    if settings.server.worker_count == 1:
        return None
    folder = settings.server.var / "run" / "metrics"
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    return folder


def _make_empty(folder: Path) -> None:
    """Counts start at zero with the server, in files of the user it runs as. Raises SettingsError."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise SettingsError(
            f"server.var: cannot make {folder} ({error.strerror}); let {folder.parent} belong to the server's user"
        ) from error


def _bind_all(settings: Settings) -> Sockets:
    """Every port before any worker starts; those systemd bound for us are taken over by name."""
    from relay.app import Sockets

    given = inherited_sockets(os.environ, os.getpid())
    smtp = {
        listener.name: _given(given, listener.name)
        or [bind(listener.address, listener.port, f"listener {listener.name!r}")]
        for listener in settings.listener
    }
    http = settings.http
    wanted = _given(given, "http") or ([bind(http.address, http.port, "http")] if http.enabled else [])
    unknown = {one.name for one in given} - {*smtp, "http"}
    if unknown:
        raise OperatorError(
            f"systemd passes a socket called {min(unknown)!r}; give it a listener's name (FileDescriptorName=)"
        )
    return Sockets(smtp, wanted)


def _given(sockets: tuple[InheritedSocket, ...], name: str) -> list[Any]:
    return [one.socket for one in sockets if one.name == name]


def _announcement(settings: Settings) -> Callable[[], None]:
    """What to do once it serves: the sandbox writes its facts and prints its examples."""
    secrets = read_secrets(settings.server.var) if settings.sandbox.enabled else {}
    if not secrets:
        return lambda: None

    def announce() -> None:
        facts = write_facts(settings, secrets)
        print(examples(facts, _command()), flush=True)

    return announce


def _command() -> str:
    """The command a user would type again."""
    called = Path(sys.argv[0])
    return os.path.relpath(called) if called.is_absolute() else str(called)
