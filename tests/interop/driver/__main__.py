"""python -m driver: starts the sandbox, drives every client, prints the table; exit code 1 when anything failed."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from functools import partial
from pathlib import Path

from driver.aws import run_aws
from driver.clients import Clients
from driver.content import Contents, run_contents
from driver.dkimcheck import DkimRecords
from driver.doctor import run_doctor
from driver.examples import run_examples
from driver.exim import run_exim_client
from driver.farend import FarEnd
from driver.frontdoor import running_front_door
from driver.inbox import run_inbox
from driver.letters import Letters, run_ports, run_samples
from driver.nexthop import run_everything_once, run_postfix_client, run_smarthost
from driver.notices import run_notices
from driver.options_javamail import run_javamail
from driver.options_nodemailer import run_nodemailer
from driver.options_phpmailer import run_phpmailer
from driver.proxies import run_proxies
from driver.refusals import Refusals, run_refusals
from driver.returns import run_returns
from driver.sandbox import free_offset, running_sandbox
from driver.seeds import Seeds, run_seeds
from driver.smuggling import run_smuggling
from driver.table import Table
from driver.workplace import CheckError, Workplace

HERE = Path(__file__).resolve().parent.parent
SDK_CHECK = HERE / "sendpost_sdk/run"
VENDORS_CHECK = HERE / "vendor_sdks/run"
VENDORS = ("sendgrid", "mailgun", "postmark", "resend", "brevo", "sparkpost", "mailjet", "ses", "sendpost", "sendx")
SECTIONS = (
    "seeds",
    "samples",
    "ports",
    "refusals",
    "inbox",
    "examples",
    "postfix",
    "exim",
    "smarthost",
    "returns",
    "notices",
    "smuggling",
    "options",
    "doctor",
    "proxies",
    "sdk",
    "vendors",
    "aws",
)
_OF_THEIR_OWN = frozenset(
    (
        "examples",
        "smarthost",
        "returns",
        "notices",
        "smuggling",
        "options",
        "doctor",
        "proxies",
        "sdk",
        "vendors",
        "aws",
    )
)


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
        if "exim" in sections:
            run_exim_client(table, clients, far_end)
        run_everything_once(table, far_end)


def run_front_door(table: Table, workplace: Workplace, offset: int, sections: set[str]) -> None:
    """What clients, and what stands between, can do with the ports."""
    with running_front_door(workplace, offset) as door:
        if "options" in sections:
            run_nodemailer(table, door)
            run_phpmailer(table, door)
            run_javamail(table, door)
        if "doctor" in sections:
            run_doctor(table, door)
        if "proxies" in sections:
            run_proxies(table, door, offset)
        run_everything_once(table, door.far_end)


def run_sdk_checks(table: Table, workplace: Workplace, sections: set[str]) -> None:
    """Vendors' own SDKs against the relay's providers; checks of their own that live beside this one."""

    def check(name: str, *words: str | Path) -> str:
        given = [*words, "--relay", workplace.relay, "--work", workplace.root]
        said = workplace.program(name, given, timeout=300)
        return said.strip().splitlines()[-1] if said.strip() else ""

    if "sdk" in sections:
        table.check("SendPost SDK", "requests compared with the bridge's", lambda: check("sendpost-sdk", SDK_CHECK))
    for kind in VENDORS if "vendors" in sections else ():
        run = partial(check, f"{kind}-sdk", VENDORS_CHECK, kind)
        table.check(f"{kind} SDK", "requests compared with the provider's", run)


def run_all(table: Table, workplace: Workplace, offset: int, sections: set[str]) -> None:
    first = free_offset(offset)
    second = free_offset(first + 100)
    if sections - _OF_THEIR_OWN:
        table.group("sandbox", lambda: run_clients(table, workplace, first, sections))
    if "examples" in sections:
        table.group("make run", lambda: run_examples(table, workplace, second))
    if "smarthost" in sections:
        table.group("smarthost", lambda: run_smarthost(table, workplace, second))
    if "returns" in sections:
        table.group("returns", lambda: run_returns(table, workplace, second))
    if "notices" in sections:
        table.group("notices", lambda: run_notices(table, workplace, second))
    if "smuggling" in sections:
        table.group("smuggling", lambda: run_smuggling(table, workplace, second))
    if sections & {"options", "doctor", "proxies"}:
        table.group("front door", lambda: run_front_door(table, workplace, second, sections))
    run_sdk_checks(table, workplace, sections)
    if "aws" in sections:
        table.group("SES (moto)", lambda: run_aws(table, workplace, second))


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
