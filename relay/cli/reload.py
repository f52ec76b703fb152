"""relay reload: let the running server follow its changed configuration, certificates and keys, and say what changed.

The configuration is checked before the server is asked. Exit codes: 0 every worker follows, 1 the server did not, 2
something to fix.
"""

from __future__ import annotations

import time
from typing import Final

import typer

from relay.cli.common import config_path, fail, in_file, load, operator_errors
from relay.cli.control import request
from relay.in_force import changes, check_files, merged, read_snapshot
from relay.mail.errors import OperatorError
from relay.settings import Settings

app = typer.Typer()

_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.1


@app.command()
def reload(ctx: typer.Context) -> None:
    """Follow the changed configuration without a restart: sessions and deliveries go on."""
    wanted = load(ctx)
    with operator_errors():
        running = read_snapshot(wanted)
        wanted = _with_ports_of(running, wanted)
        found, target = changes(running, wanted), merged(running, wanted)
        with in_file(config_path(ctx)):
            check_files(target)
        request(running, "POST", "/admin/reload", worker=0)
        if not _followed(target):
            fail("the server still runs by the old configuration; its log says why", 1)
    for key in found.live:
        typer.echo(f"changed: {key}")
    if not found.live:
        typer.echo("no setting changed; certificates, keys and passwords were read again")
    for key in found.restart:
        typer.echo(f"needs a restart: {key}", err=True)


def _with_ports_of(running: Settings, wanted: Settings) -> Settings:
    """`serve --port-offset` moved every port by the same number: no change of the file."""
    moved = {one.port - other.port for one, other in zip(running.listener, wanted.listener, strict=False) if one.port}
    offset = moved.pop() if len(moved) == 1 and len(running.listener) == len(wanted.listener) else 0
    if not offset or running.http.port - wanted.http.port != offset:
        return wanted
    return wanted.model_copy(
        update={
            "listener": tuple(
                one.model_copy(update={"port": one.port and one.port + offset}) for one in wanted.listener
            ),
            "http": wanted.http.model_copy(update={"port": wanted.http.port + offset}),
        }
    )


def _followed(target: Settings) -> bool:
    """Whether every worker says so before the patience ends."""
    waiting = set(range(target.server.worker_count))
    end = time.monotonic() + _SECONDS
    while waiting and time.monotonic() < end:
        for worker in tuple(waiting):
            try:
                status, answer = request(target, "GET", "/admin/configuration", worker=worker)
            except OperatorError:
                continue  # it is being started again, and will follow from its first moment
            if status == 200 and answer.get("digest") == target.digest:
                waiting.discard(worker)
        time.sleep(_LOOK_SECONDS if waiting else 0)
    return not waiting
