"""relay route: the ways out as the running workers see them, and those that rest used again at once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from relay.cli.common import fail, load, operator_errors, print_json
from relay.cli.control import refusal, request
from relay.cli.queue_files import files
from relay.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Routes that rest, and next hops that are not dialled.")

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output")]


@app.command("list")
def list_(ctx: typer.Context, json: JsonOption = False) -> None:
    """Routes and their ways out; which of these rest, and which next hops are not dialled, for how long."""
    settings = load(ctx)
    routes: list[dict[str, Any]] = [
        {"name": one.name, "match": one.match.model_dump(exclude_unset=True), "via": one.via} for one in settings.route
    ]
    with operator_errors():
        workers = [{"spool": number, **_ask(settings, "GET", "/admin/route", number)} for number in _spools(settings)]
    if json:
        return print_json({"routes": routes, "spools": workers})
    for route in routes:
        typer.echo(f"route {route['name']}: {_conditions(route['match'])} -> {', '.join(route['via'])}")
    for name in sorted({one["name"] for worker in workers for one in worker["candidates"]}):
        rests = {w["spool"]: one["rests"] for w in workers for one in w["candidates"] if one["name"] == name}
        typer.echo(f"  {name}  {_rest(rests)}")
    for name in sorted({name for worker in workers for name in worker["open"]}):
        seconds = {w["spool"]: w["open"][name] for w in workers if name in w["open"]}
        typer.echo(f"  {name}  not dialled for {max(seconds.values()):.0f} s more{_where(seconds)}")
    for name in sorted({name for worker in workers for name in worker["silent"]}):
        seconds = {w["spool"]: w["silent"][name] for w in workers if name in w["silent"]}
        typer.echo(
            f"  {name}  silent: others go first, one message tries it in {max(seconds.values()):.0f} s{_where(seconds)}"
        )
    return None


@app.command()
def resume(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="As `relay route list` names them")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that rest or are not dialled")] = False,
    json: JsonOption = False,
) -> None:
    """Use a resting way out, or a next hop that is not dialled, again at once. Exit code 1 when none of them rested.

    What was put off because of it keeps its time; `relay queue retry` makes it due.
    """
    if bool(names) == everything:
        fail("route resume: name what is to be used again, or say --all")
    settings, resumed = load(ctx), set()
    with operator_errors():
        for number in _spools(settings):
            for name in names or _shut(_ask(settings, "GET", "/admin/route", number)):
                if _ask(settings, "POST", "/admin/route/resume", number, {"route": name})["resumed"]:
                    resumed.add(name)
    if json:
        print_json({"resumed": sorted(resumed)})
    else:
        for name in sorted(resumed):
            typer.echo(f"{name}  used again")
        typer.echo(f"{len(resumed)} used again", err=True)
    if not resumed:
        raise typer.Exit(1)


def _spools(settings: Settings) -> list[int]:
    return [int(path.stem) for path in files(settings)]


def _ask(settings: Settings, method: str, path: str, number: int, body: Any = None) -> dict[str, Any]:
    status, answer = request(settings, method, path, body, worker=number)
    if status != 200:
        fail(refusal(status, answer))
    found: dict[str, Any] = answer
    return found


def _shut(worker: dict[str, Any]) -> list[str]:
    resting = [one["name"] for one in worker["candidates"] if one["rests"] is not None]
    return resting + list(worker["open"]) + list(worker["silent"])


def _rest(rests: dict[int, float | None]) -> str:
    resting = {number: seconds for number, seconds in rests.items() if seconds is not None}
    return f"rests for {max(resting.values()):.0f} s more{_where(resting)}" if resting else "in use"


def _where(seconds: dict[int, float]) -> str:
    return f" (spool {', '.join(map(str, sorted(seconds)))})"


def _conditions(match: dict[str, Any]) -> str:
    return "; ".join(f"{name} {', '.join(values)}" for name, values in match.items()) or "everything"
