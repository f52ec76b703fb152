"""relay top: what the server is doing, every second: rates, the queue, next hops, and what rests.

In: the counters of /metrics, the spools' counts on disk, `/admin/status` of each. Out: a screen, or one document with
`--once`. What does not answer is shown as `-` (no rates) or `no answer` (a spool's worker); the rest is still shown.
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

import typer

from relay.cli.common import load, operator_errors, print_json, reachable
from relay.cli.control import request
from relay.cli.queue_files import files, read
from relay.cli.sandbox import kept_offset
from relay.mail.errors import OperatorError
from relay.mail.reply import printable
from relay.ports import SystemClock
from relay.settings import Settings
from relay.store import spool_read

app = typer.Typer()

_COUNTER: Final = re.compile(r"^(relay_\w+_total)(\{[^}\n]*\})? ([0-9.eE+-]+)$", re.MULTILINE)
_RATES: Final = {
    "accepted": ("relay_accepted_recipients_total", ""),
    "delivered": ("relay_finished_recipients_total", 'state="delivered"'),
    "sent": ("relay_finished_recipients_total", 'state="sent"'),
    "deferred": ("relay_deliveries_total", 'outcome="deferred"'),
    "bounced": ("relay_finished_recipients_total", 'state="bounced"'),
}
_SECOND: Final = 1.0
_MOST_HOPS: Final = 15
_CLEAR: Final = "\x1b[H\x1b[J"


@dataclass(frozen=True, slots=True)
class Picture:
    """One look. `rates` are recipients a second, None when /metrics does not answer; `shut` has the seconds left."""

    rates: dict[str, float] | None
    queue: dict[str, int]
    oldest_seconds: float | None
    sessions: int
    next_hops: list[dict[str, Any]]
    shut: dict[str, float]
    silent_spools: list[int]


def totals(exposition: str) -> dict[str, float]:
    """The counters behind the rates, summed over their other labels."""
    found = [(name, labels, float(number)) for name, labels, number in _COUNTER.findall(exposition)]
    return {
        rate: sum(number for name, labels, number in found if name == wanted and label in labels)
        for rate, (wanted, label) in _RATES.items()
    }


def rates(before: dict[str, float] | None, after: dict[str, float] | None, seconds: float) -> dict[str, float] | None:
    """A second; None without two looks. A counter that began anew counts from nought."""
    if before is None or after is None or seconds <= 0:
        return None
    return {
        name: round((total - before[name] if total >= before[name] else total) / seconds, 1)
        for name, total in after.items()
    }


@app.command()
def top(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Look for one second, print, and end")] = False,
    json: Annotated[bool, typer.Option("--json", help="With --once: one JSON document on standard output")] = False,
    port_offset: Annotated[
        int | None, typer.Option(metavar="N", help="The one of `relay serve`; a sandbox knows its own")
    ] = None,
) -> None:
    """Live: recipients a second, the queue, next hops, what rests. Ctrl-C ends it."""
    settings, clock = load(ctx), SystemClock()
    offset = kept_offset(settings) if port_offset is None else port_offset
    before, since = _metrics(settings, offset), clock.monotonic()
    try:
        while True:
            time.sleep(_SECOND)
            after, now = _metrics(settings, offset), clock.monotonic()
            with operator_errors():
                picture = _look(settings, rates(before, after, now - since), clock.now())
            if once and json:
                return print_json(asdict(picture))
            typer.echo(("" if once else _CLEAR) + render(picture))
            if once:
                return None
            before, since = after, now
    except KeyboardInterrupt:
        return None


def _metrics(settings: Settings, offset: int) -> dict[str, float] | None:
    """None when nobody answers, or HTTP is off."""
    if not settings.http.enabled:
        return None
    connection = http.client.HTTPConnection(reachable(settings.http.address), settings.http.port + offset, timeout=5)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return totals(answer.read().decode(errors="replace")) if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _look(settings: Settings, speed: dict[str, float] | None, now: float) -> Picture:
    queue = {"queued": 0, "deferred": 0, "held": 0}
    oldest: list[float] = []
    hops: dict[str, list[int]] = {}
    shut: dict[str, float] = {}
    silent, sessions = [], {}
    for path in files(settings):
        counts = read(path, spool_read.counts)
        queue = {state: queue[state] + counts.recipients[state] for state in queue}
        oldest += [counts.oldest] if counts.oldest is not None else []
        status = _status(settings, int(path.stem))
        if status is None:
            silent.append(int(path.stem))
            continue
        sessions[status["pid"]] = status["sessions"]
        shut |= status["paused"] | status["open"] | status["silent"]
        for one in status["queues"]:
            waiting, running = hops.get(one["next_hop"], [0, 0])
            hops[one["next_hop"]] = [waiting + one["waiting"], running + one["running"]]
    busiest = sorted(hops.items(), key=lambda hop: (-sum(hop[1]), hop[0]))
    return Picture(
        speed,
        queue,
        round(now - min(oldest), 1) if oldest else None,
        sum(sessions.values()),
        [{"next_hop": name, "waiting": waiting, "running": running} for name, (waiting, running) in busiest],
        shut,
        silent,
    )


def _status(settings: Settings, spool: int) -> dict[str, Any] | None:
    try:
        code, answer = request(settings, "GET", "/admin/status", worker=spool)
    except OperatorError:
        return None
    return answer if code == 200 else None


def render(picture: Picture) -> str:
    """The screen, without the control sequence before it."""
    speed: Mapping[str, object] = picture.rates or dict.fromkeys(_RATES, "-")
    age = "-" if picture.oldest_seconds is None else f"{picture.oldest_seconds:.0f} s"
    lines = [
        "recipients/s  " + "  ".join(f"{name} {value}" for name, value in speed.items()),
        "queue         " + "  ".join(f"{name} {value}" for name, value in picture.queue.items()) + f"  oldest {age}",
        f"sessions      {picture.sessions}",
    ]
    lines += [f"spool {number}: no answer from its worker" for number in picture.silent_spools]
    lines += [f"shut          {printable(name)}  {left:.0f} s more" for name, left in sorted(picture.shut.items())]
    if picture.next_hops:
        lines.append(f"{'waiting':>8} {'running':>8}  next hop")
    for hop in picture.next_hops[:_MOST_HOPS]:
        lines.append(f"{hop['waiting']:>8} {hop['running']:>8}  {printable(hop['next_hop'])}")
    if len(picture.next_hops) > _MOST_HOPS:
        lines.append(f"and {len(picture.next_hops) - _MOST_HOPS} more")
    return "\n".join(lines)
