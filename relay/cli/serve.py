"""relay serve: bind the ports, become the server's user, and run until told to stop.

Exit codes: 0 stopped as told, 2 something to fix (a taken port, a bad setting, an unreadable file).
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from relay.cli.common import config_path, in_file, operator_errors
from relay.cli.sandbox import examples, kept_offset, read_secrets, write_facts
from relay.in_force import InForce
from relay.mail.errors import OperatorError, SettingsError
from relay.ports import SystemClock
from relay.settings import ListenerSettings, Settings, load_settings
from relay.smtpd.listener import bind
from relay.smtpd.unix_socket import bind_unix
from relay.store.registry import REGISTRY_FILE
from relay.store.registry_admin import RegistryAdmin
from relay.store.spool_files import in_use
from relay.telemetry.systemd import InheritedSocket, inherited_sockets

if TYPE_CHECKING:
    from relay.app import Sockets

app = typer.Typer()

_PREDECESSOR_SECONDS: Final = 5.0


@app.command()
def serve(
    ctx: typer.Context,
    port_offset: Annotated[
        int | None, typer.Option(help="Add this to every port of the configuration; without it a sandbox keeps its own")
    ] = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C; SIGHUP reads configuration, certificates and keys again."""
    with operator_errors():
        path = config_path(ctx).absolute()
        offset = kept_offset(load_settings(path)) if port_offset is None else port_offset
        in_force = InForce(lambda: shifted(load_settings(path), offset))
        settings = in_force.settings
        _prepare_var(settings)
        metrics = _share_metrics(settings)
        # Imported late: what counts across processes has to know before prometheus-client is loaded.
        from relay import supervisor

        _await_predecessor(settings)
        sockets = _bind_all(settings)
        if settings.server.user:
            supervisor.drop_privileges(settings.server.user)
        upgrade_registry(settings.server.var)
        if metrics is not None:
            _make_empty(metrics)
        with in_file(path):
            code = supervisor.serve(in_force, sockets, _announcement(settings, offset))
    raise typer.Exit(code)


def shifted(settings: Settings, offset: int) -> Settings:
    """Every port moved by `offset`; port 0 stays the system's choice. Raises SettingsError."""
    if not offset:
        return settings
    data = settings.model_dump(exclude_unset=True)
    for listener in data["listener"]:
        listener["port"] = listener.get("port", 0) and listener["port"] + offset
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


def _await_predecessor(settings: Settings) -> None:
    """Workers outlive a supervisor that was killed for a moment, and have the ports and the spools until then."""
    begun, folder = time.monotonic(), settings.server.var / "spool"
    held = in_use(folder)
    if held is None:
        return
    print(f"relay: waits until the server before this one has ended and lets go of {held}", file=sys.stderr)
    while in_use(folder) is not None and time.monotonic() - begun < _PREDECESSOR_SECONDS:
        time.sleep(0.1)


def upgrade_registry(var: Path) -> None:
    """The workers read the newest schema alone; by the server's user, before the first of them. Raises StoreError."""
    if (var / REGISTRY_FILE).exists():
        RegistryAdmin.open(var, SystemClock()).close()


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
    smtp = {listener.name: _given(given, listener.name) or [_bind(listener)] for listener in settings.listener}
    http = settings.http
    wanted = _given(given, "http") or ([bind(http.address, http.port, "http")] if http.enabled else [])
    unknown = {one.name for one in given} - {*smtp, "http"}
    if unknown:
        raise OperatorError(
            f"systemd passes a socket called {min(unknown)!r}; give it a listener's name (FileDescriptorName=)"
        )
    return Sockets(smtp, wanted)


def _bind(listener: ListenerSettings) -> socket.socket:
    what = f"listener {listener.name!r}"
    return bind_unix(listener, what) if listener.path else bind(listener.address, listener.port, what)


def _given(sockets: tuple[InheritedSocket, ...], name: str) -> list[Any]:
    return [one.socket for one in sockets if one.name == name]


def _announcement(settings: Settings, port_offset: int) -> Callable[[], None]:
    """What to do once it serves: the sandbox writes its facts and prints its examples."""
    secrets = read_secrets(settings.server.var) if settings.sandbox.enabled else {}
    if not secrets:
        return lambda: None

    def announce() -> None:
        facts = write_facts(settings, secrets, port_offset)
        print(examples(facts, _command()), flush=True)

    return announce


def _command() -> str:
    """The command a user would type again."""
    called = Path(sys.argv[0])
    return os.path.relpath(called) if called.is_absolute() else str(called)
