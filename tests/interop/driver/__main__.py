"""python -m driver: starts the sandbox, drives every client, prints the table; exit code 1 when anything failed."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from driver.clients import Clients
from driver.content import Contents, run_contents
from driver.dkimcheck import DkimRecords
from driver.examples import run_examples
from driver.farend import FarEnd
from driver.inbox import run_inbox
from driver.letters import Letters, run_ports, run_samples
from driver.nexthop import run_everything_once, run_postfix_client, run_smarthost
from driver.refusals import Refusals, run_refusals
from driver.sandbox import free_offset, running_sandbox
from driver.seeds import Seeds, run_seeds
from driver.table import Table
from driver.workplace import CheckError, Workplace

SDK_CHECK = Path(__file__).resolve().parent.parent / "sendpost_sdk/run"
SECTIONS = ("seeds", "samples", "ports", "refusals", "inbox", "examples", "postfix", "smarthost", "sdk")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/interop/run", description="Real mail programs against the relay.")
    parser.add_argument("--relay", type=Path, default=Path(".venv/bin/relay"), help="the command to test")
    parser.add_argument("--work", type=Path, default=Path("interop-work"), help="folder for packages, programs, logs")
    parser.add_argument("--offset", type=int, default=20_000, help="first port offset to try")
    parser.add_argument("--section", action="append", choices=SECTIONS, help="only this part; may be repeated")
    parser.add_argument("--only", default="", help="only checks whose client or name contains this")
    return parser.parse_args()


def run_clients(table: Table, workplace: Workplace, offset: int, sections: set[str]) -> None:
    """Everything that needs one sandbox."""
    with running_sandbox(workplace, "sandbox", offset) as sandbox:
        clients = Clients(workplace, sandbox)
        far_end = FarEnd(sandbox, DkimRecords.of(sandbox.var, sandbox.domain))
        letters = Letters(far_end)
        if "seeds" in sections:
            run_seeds(table, Seeds(clients, far_end))
        if "samples" in sections:
            run_samples(table, letters, clients)
        if "ports" in sections:
            run_ports(table, letters, clients)
        if "refusals" in sections:
            run_refusals(table, Refusals(clients, letters.sender))
            run_contents(table, Contents(clients, far_end))
        if "inbox" in sections:
            run_inbox(table, clients, far_end)
        if "postfix" in sections:
            run_postfix_client(table, clients, far_end, offset)
        run_everything_once(table, far_end)


def run_sdk_check(table: Table, workplace: Workplace) -> None:
    """SendPost's own SDK against the relay's bridge; a check of its own that lives beside this one."""

    def check() -> str:
        said = workplace.program("sendpost-sdk", [SDK_CHECK, "--relay", workplace.relay], timeout=300)
        return said.strip().splitlines()[-1] if said.strip() else ""

    if SDK_CHECK.exists():
        table.check("SendPost SDK", "requests compared with the bridge's", check)


def run_all(table: Table, workplace: Workplace, offset: int, sections: set[str]) -> None:
    first = free_offset(offset)
    second = free_offset(first + 100)
    if sections - {"examples", "smarthost", "sdk"}:
        table.group("sandbox", lambda: run_clients(table, workplace, first, sections))
    if "examples" in sections:
        table.group("make run", lambda: run_examples(table, workplace, second))
    if "smarthost" in sections:
        table.group("smarthost", lambda: run_smarthost(table, workplace, second))
    if "sdk" in sections:
        run_sdk_check(table, workplace)


def main() -> int:
    options = arguments()
    # A terminated run still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    workplace = Workplace(options.work.resolve(), options.relay.absolute())
    table = Table(options.only)
    started = time.monotonic()
    try:
        with workplace.alone():
            workplace.start_anew()
            table.head()
            run_all(table, workplace, options.offset, set(options.section or SECTIONS))
    except CheckError as error:
        table.failures.append(str(error))
    except KeyboardInterrupt:
        table.failures.append("interrupted")
    return table.foot(time.monotonic() - started)


if __name__ == "__main__":
    raise SystemExit(main())
