"""relay cert: the certificates of the configuration, whom they are for, and how long they last.

It reads and checks the files as the server does when they change, so what is refused there is refused here. Exit codes:
0 all are good, 1 one expires soon or is not valid, 2 one cannot be used, or something else to fix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from relay.cli.common import load, print_json
from relay.cli.registry_verbs import listing, when
from relay.mail.certificate import Certificate
from relay.ports import SystemClock
from relay.settings import Settings
from relay.smtpd.tls_certificates import pair_or_reason
from relay.smtpd.tls_names import covers
from relay.smtpd.tls_pair import PairFiles, pair_files

app = typer.Typer()


@dataclass(frozen=True, slots=True)
class _Looked:
    """A pair of files and what was found; `problem` in the words of the log, empty when all is well."""

    files: PairFiles
    facts: Certificate | None
    state: str
    problem: str
    days: int | None


@app.command("cert")
def cert(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document; times in epoch seconds")] = False,
) -> None:
    """The certificates clients get, with names, issuer and days left. Exit code 1 when one expires soon."""
    settings = load(ctx)
    found = [_look(files, settings.tls.expiry_warning, SystemClock().now()) for files in pair_files(settings)]
    listeners = [one.name for one in settings.listener if one.tls != "none"]
    if as_json:
        shown = [_as_json(one, main=one is found[0], listeners=listeners) for one in found]
        print_json({"warning_days": settings.tls.expiry_warning, "certificates": shown})
    else:
        listing([], False, _HEADING, [_row(one, listeners) for one in found])
    for words in _warnings(settings, found):
        typer.echo(f"warning: {words}", err=True)
    raise typer.Exit(max(_CODES[one.state] for one in found))


_HEADING = ("CERTIFICATE", "NAMES", "ISSUER", "KEY", "EXPIRES", "DAYS", "LISTENERS", "STATE")
_CODES = {"ok": 0, "expires soon": 1, "not valid": 1, "unusable": 2}


def _look(files: PairFiles, warning_days: int, now: float) -> _Looked:
    pair = pair_or_reason(files)
    if isinstance(pair, str):
        return _Looked(files, None, "unusable", pair, None)
    facts, days = pair.facts, pair.facts.days_left(now)
    if reason := facts.unfit(now):
        return _Looked(files, facts, "not valid", f"{files.certificate}: {reason}", days)
    if days < warning_days:
        problem = f"{files.certificate} expires in {days} days; see why it was not renewed (docs/howto/tls.md)"
        return _Looked(files, facts, "expires soon", problem, days)
    return _Looked(files, facts, "ok", "", days)


def _warnings(settings: Settings, found: list[_Looked]) -> list[str]:
    warnings = [one.problem for one in found if one.problem]
    names = [name for one in found if one.facts for name in one.facts.names]
    if not covers(names, settings.hostname):
        warnings.append(f"no certificate lists {settings.hostname} (server.hostname): clients that check refuse it")
    return warnings


def _row(one: _Looked, listeners: list[str]) -> tuple[str, ...]:
    file, users = str(one.files.certificate), ", ".join(listeners) or "-"
    if one.facts is None:
        return (file, "-", "-", "-", "-", "-", users, one.state)
    facts = one.facts
    names = ", ".join(facts.names) or "-"
    return (file, names, facts.issuer, facts.key_type, when(facts.expires), str(one.days), users, one.state)


def _as_json(one: _Looked, *, main: bool, listeners: list[str]) -> dict[str, Any]:
    facts = one.facts
    return {
        "certificate": str(one.files.certificate),
        "key": str(one.files.key),
        "main": main,
        "state": one.state,
        "problem": one.problem,
        "names": facts.names if facts else [],
        "issuer": facts.issuer if facts else None,
        "key_type": facts.key_type if facts else None,
        "serial": facts.serial if facts else None,
        "chain": facts.chain if facts else None,
        "starts": facts.starts if facts else None,
        "expires": facts.expires if facts else None,
        "days_left": one.days,
        "listeners": listeners,
    }
