"""What `relay inbox verify` and `relay domain verify` say of signatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import typer

from relay.cli.common import print_json
from relay.signing.verify import Verdict

_WORDS = {True: "holds", False: "does not hold", None: "not checked"}


def report_verdicts(verdicts: Sequence[Verdict], as_json: bool) -> None:
    """A line, or an entry, a signature. Exit code 1 when there is none or one does not hold."""
    good = bool(verdicts) and all(verdict.holds is not False for verdict in verdicts)
    if as_json:
        print_json({"ok": good, "signatures": [asdict(verdict) for verdict in verdicts]})
    else:
        for verdict in verdicts:
            reason = f": {verdict.reason}" if verdict.reason else ""
            typer.echo(
                f"d={verdict.domain} s={verdict.selector} a={verdict.algorithm}  {_WORDS[verdict.holds]}{reason}"
            )
        if not verdicts:
            typer.echo("not signed")
    if not good:
        raise typer.Exit(1)
