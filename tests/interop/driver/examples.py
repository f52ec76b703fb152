"""Examples: `make run` as a user types it, and what it prints for pasting, run literally as printed."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

from driver.dkimcheck import DkimRecords
from driver.farend import FarEnd, check_envelope, check_trace
from driver.sandbox import Sandbox, wait_until_served
from driver.table import Table
from driver.workplace import CheckError, Workplace

RECIPIENT = "someone@example.com"


def run_examples(table: Table, workplace: Workplace, offset: int) -> None:
    """Over a sandbox that `make run` itself prepares and starts."""
    var = workplace.run / "make-run"
    venv = workplace.relay.parent.parent
    # The virtual environment that is to be tested is there already: make has nothing to install.
    make = ["make", "-o", f"{venv}/.installed", "run", f"VENV={venv}", f"VAR={var}", f"PORT_OFFSET={offset}"]
    with workplace.daemon("make-run", make) as process:
        log = workplace.logs / "make-run.log"
        sandbox = wait_until_served(var, process, log)
        far_end = FarEnd(sandbox, DkimRecords.of(sandbox.var, sandbox.domain))
        printed = _printed(log)
        for name in ("swaks", "curl", "Python"):
            table.check(
                name, "the example `make run` prints", lambda name=name: _send(workplace, far_end, name, printed)
            )
        table.check(
            "make run", "the commands it prints to see what arrived", lambda: _look(workplace, sandbox, printed)
        )


def _printed(log: Path) -> Mapping[str, str]:
    """The indented blocks of the announcement by the line above each, ready for a shell."""
    text = log.read_text()
    blocks = re.findall(r"(?m)^([A-Z]?[a-z][\w ,]*):\n\n((?:  .*\n|\n(?=  ))+)", text)
    return {name: textwrap.dedent(block) for name, block in blocks}


def _send(workplace: Workplace, far_end: FarEnd, name: str, printed: Mapping[str, str]) -> str:
    known = {entry["id"] for entry in far_end.sandbox.listing()}
    workplace.program(f"example-{name.lower()}", ["bash", "-euc", printed[name]])
    (message,) = far_end.collect([RECIPIENT], known)
    check_envelope([message], far_end.sandbox.username, [RECIPIENT])
    check_trace(message)
    far_end.check_signed(message)
    if f"Subject: Hello from {name}\r\n".encode() not in message.raw:
        raise CheckError(f"no Subject of the example in {message.raw[:400]!r}")
    return "signed"


def _look(workplace: Workplace, sandbox: Sandbox, printed: Mapping[str, str]) -> str:
    commands = printed["What arrived, signed"].splitlines()
    said = [workplace.program("example-look", ["bash", "-euc", command]) for command in commands]
    for command, answer in zip(commands, said, strict=True):
        if RECIPIENT not in answer:
            raise CheckError(f"`{command}` says {answer[:200]!r}")
    return f"{len(commands)} commands"
