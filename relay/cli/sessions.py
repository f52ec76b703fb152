"""relay sessions: which clients cannot send, what they do wrong, and what to change; and which ones need tolerance.

Asked of the running workers, for all of it is in their memory alone.

Exit codes: 0 done, 1 no such session, 2 usage or something to fix.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from relay.cli.common import fail, load, operator_errors, print_json
from relay.cli.control import refusal, request
from relay.cli.queue_files import files
from relay.mail.errors import OperatorError
from relay.mail.reply import printable
from relay.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Clients that cannot send, and why; and what is tolerated of whom.")

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output")]


@app.command("list")
def list_(
    ctx: typer.Context,
    peer: Annotated[str, typer.Option(help="Only of this address")] = "",
    username: Annotated[str, typer.Option(help="Only of this login")] = "",
    symptom: Annotated[str, typer.Option(help="Only with this finding, such as wrong_password")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest")] = 50,
    json: JsonOption = False,
) -> None:
    """Sessions that failed lately, the newest first: who, how often, what was wrong."""
    settings = load(ctx)
    with operator_errors():
        answers = ask_all(settings, "/admin/sessions")
    found = [one for answer in answers for one in answer["sessions"] if _wanted(one, peer, username, symptom)]
    found = sorted(found, key=lambda one: -one["at"])[:limit]
    if json:
        return print_json({"sessions": [_with_times(one) for one in found]})
    for one in found:
        who = f"{one['peer']}  {one['username']}" if one["username"] else one["peer"]
        typer.echo(f"{one['id']}  {_clock(one['at'])}  {one['times']:>4}x  {one['listener']}  {printable(who)}")
        typer.echo(f"    {one['findings'][0]['symptom']}: {printable(one['findings'][0]['happened'])}")
    typer.echo(f"{len(found)} failed" + ("; `relay sessions show ID` says what to change" if found else ""), err=True)
    return None


@app.command()
def show(ctx: typer.Context, session_id: str, json: JsonOption = False) -> None:
    """One failed session: what the client did, what to change, and the last it said and was told.

    Exit code 1 when it is not remembered.
    """
    settings = load(ctx)
    if not session_id.replace("-", "").isalnum() or not session_id.isascii():
        fail(f"no session {printable(session_id)}", 1)
    with operator_errors():
        found = _find(settings, session_id)
    if found is None:
        fail(f"no session {session_id}; see `relay sessions list`", 1)
    if json:
        return print_json(_with_times(found))
    for line in _page(found):
        typer.echo(line)
    return None


@app.command()
def devices(ctx: typer.Context, json: JsonOption = False) -> None:
    """Which clients need something tolerated (`listener.tolerate`), the last heard of first."""
    settings = load(ctx)
    with operator_errors():
        answers = ask_all(settings, "/admin/devices")
    found = _merged([one for answer in answers for one in answer["devices"]])
    if json:
        return print_json({"devices": [_with_times(one) for one in found]})
    for one in found:
        who = f"{one['peer']}  {one['username'] or '-'}  {one['helo'] or '-'}"
        typer.echo(f"{_clock(one['at'])}  {one['times']:>6}x  {one['what']:<17}  {one['listener']}  {printable(who)}")
    typer.echo(f"{len(found)} needs", err=True)
    return None


def ask_all(settings: Settings, path: str) -> list[Any]:
    """The answer of every worker once. Raises OperatorError where one does not answer."""
    answers: dict[int, Any] = {}
    for worker in [int(file.stem) for file in files(settings)] or [0]:
        status, answer = request(settings, "GET", path, worker=worker)
        if status != 200:
            raise OperatorError(refusal(status, answer))
        answers[answer["pid"]] = answer
    return list(answers.values())


def _find(settings: Settings, session_id: str) -> dict[str, Any] | None:
    for file in files(settings):
        status, answer = request(settings, "GET", f"/admin/sessions/{session_id}", worker=int(file.stem))
        if status == 200:
            found: dict[str, Any] = answer
            return found
        if status != 404:
            raise OperatorError(refusal(status, answer))
    return None


def _merged(devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What several workers know of one client."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for one in sorted(devices, key=lambda one: -one["at"]):
        key = (one["peer"], one["username"] or "", one["listener"], one["what"])
        first = found.setdefault(key, {**one, "times": 0})
        first["times"] += one["times"]
        first["first_at"] = min(first["first_at"], one["first_at"])
    return list(found.values())


def _wanted(one: dict[str, Any], peer: str, username: str, symptom: str) -> bool:
    named = any(finding["symptom"] == symptom for finding in one["findings"])
    return (
        (not peer or one["peer"] == peer) and (not username or one["username"] == username) and (not symptom or named)
    )


def _page(one: dict[str, Any]) -> Iterator[str]:
    since = f", {one['times']} times since {_clock(one['first_at'])}" if one["times"] > 1 else ""
    yield f"{one['id']}  {_clock(one['at'])}{since}"
    yield f"client    {one['peer']}  HELO {printable(one['helo']) or '-'}  login {printable(one['username'] or '-')}"
    yield f"listener  {one['listener']}  TLS {one['tls'] or 'none'}  {one['seconds']:.1f} s"
    for finding in one["findings"]:
        yield ""
        yield f"{finding['symptom']}: {printable(finding['happened'])}"
        yield f"  change: {printable(finding['change'])}"
    if one["transcript"]:
        yield ""
    for line in one["transcript"]:
        yield f"  {printable(line)}"


def _with_times(one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "at": _stamp(one["at"]), "first_at": _stamp(one["first_at"])}


def _stamp(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}"
