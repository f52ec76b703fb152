"""relay queue hold, release, cancel, retry, expire, reroute: by id or filter, through the running server.

In every spool there is. Many recipients are asked for some at a time, and changed some at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import typer

from relay.cli.common import fail, load, operator_errors, print_json
from relay.cli.control import refusal, request
from relay.cli.queue_files import database, files, spool
from relay.mail.reply import printable
from relay.settings import Settings

app = typer.Typer()

_AT_A_TIME: Final = 1000
_DURATION: Final = re.compile(r"(\d{1,9})([smhd])\Z", re.ASCII)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Ids = Annotated[list[str] | None, typer.Argument(help="Message ids, as in the 250 reply and in the log")]
Account = Annotated[str, typer.Option(help="Only messages of this account")]
Domain = Annotated[str, typer.Option(help="Only recipients of this domain")]
Sender = Annotated[str, typer.Option(help="Only messages with this reverse-path; <> is the empty one")]
Older = Annotated[str, typer.Option(help="Only messages received at least so long ago: 90s, 30m, 2h, 3d")]
InState = Annotated[
    Literal["queued", "deferred", "held"] | None, typer.Option("--state", help="Only recipients in this state")
]
All = Annotated[bool, typer.Option("--all", help="Everything unfinished, when nothing else narrows it")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and do nothing")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output")]


@app.command()
def hold(
    ctx: typer.Context,
    message_ids: Ids = None,
    account: Account = "",
    domain: Domain = "",
    sender: Sender = "",
    older: Older = "",
    state: InState = None,
    everything: All = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Keep waiting recipients back until they are released. Exit code 1 when there was none."""
    _act(load(ctx), "hold", message_ids, filters(account, domain, sender, older, state, everything), dry_run, json)


@app.command()
def release(
    ctx: typer.Context,
    message_ids: Ids = None,
    account: Account = "",
    domain: Domain = "",
    sender: Sender = "",
    older: Older = "",
    everything: All = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Let held recipients go, at once. Exit code 1 when there was none."""
    _act(load(ctx), "release", message_ids, filters(account, domain, sender, older, None, everything), dry_run, json)


@app.command()
def cancel(
    ctx: typer.Context,
    message_ids: Ids = None,
    account: Account = "",
    domain: Domain = "",
    sender: Sender = "",
    older: Older = "",
    state: InState = None,
    everything: All = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Give recipients up without a notice; what is being delivered right now is not touched."""
    _act(load(ctx), "cancel", message_ids, filters(account, domain, sender, older, state, everything), dry_run, json)


@app.command()
def retry(
    ctx: typer.Context,
    message_ids: Ids = None,
    account: Account = "",
    domain: Domain = "",
    sender: Sender = "",
    older: Older = "",
    state: InState = None,
    everything: All = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Try waiting recipients now; held ones stay held. Exit code 1 when none was waiting."""
    _act(load(ctx), "retry", message_ids, filters(account, domain, sender, older, state, everything), dry_run, json)


@app.command()
def expire(
    ctx: typer.Context,
    message_ids: Ids = None,
    account: Account = "",
    domain: Domain = "",
    sender: Sender = "",
    older: Older = "",
    state: InState = None,
    everything: All = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Give recipients up and tell their senders, who get a notice; what is being delivered right now is not touched."""
    _act(load(ctx), "expire", message_ids, filters(account, domain, sender, older, state, everything), dry_run, json)


@app.command()
def reroute(
    ctx: typer.Context,
    message_ids: Ids = None,
    via: Annotated[str, typer.Option(help="The way out from now on: direct, smarthost:NAME, provider:NAME")] = "",
    reset: Annotated[bool, typer.Option("--reset", help="Follow the routes again")] = False,
    account: Account = "",
    domain: Domain = "",
    sender: Sender = "",
    older: Older = "",
    state: InState = None,
    everything: All = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Send waiting recipients another way, and try them now; held ones stay held. Kept until they are final."""
    if bool(via) == reset:
        fail("queue reroute: say --via with a way out, or --reset to follow the routes again")
    chosen = filters(account, domain, sender, older, state, everything)
    _act(load(ctx), "reroute", message_ids, chosen, dry_run, json, extra={"via": via})


def filters(account: str, domain: str, sender: str, older: str, state: str | None, everything: bool) -> dict[str, Any]:
    """What was given, by the names of the control socket."""
    given = {
        "account": account,
        "domain": domain.removeprefix("@"),
        "sender": sender,
        "state": state,
        "all": everything,
    }
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value}
    if older:
        match = _DURATION.match(older)
        if not match or not 0 < int(match[1]) * _UNITS[match[2]] <= 1e9:
            fail(f"--older {older!r}: use a number and s, m, h or d, such as 2h")
        chosen["older"] = int(match[1]) * _UNITS[match[2]]
    return chosen


def _act(
    settings: Settings,
    verb: str,
    message_ids: list[str] | None,
    chosen: dict[str, Any],
    dry_run: bool,
    json: bool,
    extra: dict[str, Any] | None = None,
) -> None:
    if not message_ids and not chosen:
        fail(f"queue {verb}: name message ids, or a filter such as --domain, or --all")
    done, in_flight = 0, 0
    messages: list[dict[str, Any]] = []
    with operator_errors():
        for number, wanted in questions(settings, message_ids or [], chosen):
            for answer in _pages(settings, number, verb, wanted | {"dry_run": dry_run} | (extra or {})):
                done += answer["recipients"]
                in_flight += answer["in_flight"]
                messages += answer["messages"]
    if json:
        print_json({"recipients": done, "in_flight": in_flight, "dry_run": dry_run, "messages": messages})
    else:
        _tell(verb, messages, dry_run)
        words = "recipients" + (" would be touched" if dry_run else "")
        typer.echo(f"{done} {words}" + (f"; {in_flight} being delivered, not touched" if in_flight else ""), err=True)
    if not done:
        raise typer.Exit(1)


def _tell(verb: str, messages: list[dict[str, Any]], dry_run: bool) -> None:
    for message in messages:
        for one in message["recipients"]:
            what = "being delivered, not touched" if one["in_flight"] else f"would {verb}" if dry_run else verb
            typer.echo(f"{message['id']}  {printable(one['address'])}  {one['state']}  {what}")


def _pages(settings: Settings, number: int, verb: str, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    while True:
        status, answer = request(settings, "POST", f"/admin/queue/{verb}", wanted, worker=number)
        if status != 200:
            fail(refusal(status, answer))
        yield answer
        if answer["after"] is None:
            return
        wanted = wanted | {"after": answer["after"]}


def questions(
    settings: Settings, message_ids: list[str], chosen: dict[str, Any]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Spool and what to ask it: ids some at a time; those of a spool that is not there are nobody's."""
    there = files(settings)
    if not message_ids:
        yield from ((int(path.stem), chosen) for path in there)
        return
    by_spool: dict[int, list[str]] = {}
    for message_id in dict.fromkeys(message_ids):
        by_spool.setdefault(spool(message_id), []).append(message_id)
    for number, ids in by_spool.items():
        if database(settings, number) in there:
            for start in range(0, len(ids), _AT_A_TIME):
                yield number, chosen | {"ids": ids[start : start + _AT_A_TIME]}
