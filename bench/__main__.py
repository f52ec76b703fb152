"""python -m bench: the relay against Postfix on this machine. docs/benchmark.md says how to read what it prints.

Out: the table on standard output, raw figures as JSON, progress on standard error.
Exit codes: 0 done, 1 mail was lost, doubled or refused, or something could not start, 2 usage.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench import packages
from bench.cases import CASES, Case, scaled, select
from bench.feed import System
from bench.figures import Round
from bench.machine import Machine, look
from bench.postfix import Postfix
from bench.process import BenchError
from bench.relay_server import RelayServer
from bench.rounds import run_case
from bench.table import disturbance, render

_QUICK: Final = 400


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        return _run(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=_positive, default=5, help="timed rounds of each case (default 5)")
    parser.add_argument("--messages", type=_positive, help="messages a round of `kept`; other cases in proportion")
    parser.add_argument("--only", action="append", default=[], metavar="CASE", help=", ".join(c.name for c in CASES))
    parser.add_argument("--system", choices=("relay", "postfix"), help="measure this one alone")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="raw figures (default: figures.json under --work)")
    parser.add_argument("--work", type=Path, default=Path("bench-work"), help="folder of both queues")
    parser.add_argument("--relay", type=Path, default=Path(sys.executable).parent / "relay", help="the command to test")
    parser.add_argument("--workers", type=int, default=0, help="the relay's worker processes; 0: one a core")
    options = parser.parse_args()
    try:
        options.cases = select(options.only)
    except ValueError as error:
        parser.error(str(error))
    if options.quick:
        options.rounds, options.messages = 1, options.messages or _QUICK
    if options.messages:
        options.cases = tuple(scaled(case, options.messages) for case in options.cases)
    return options


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _run(options: argparse.Namespace) -> int:
    packages.ensure()
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    machine = look(work)
    rounds: list[Round] = []
    with _systems(options, work) as systems:
        for case in options.cases:
            rounds += run_case(case, systems, options.rounds, work, _say)
        for system in systems:
            if left := system.queued():
                raise BenchError(f"{system.title} still has {left} messages in its queue")
        versions = {system.title: system.version for system in systems}
    text = _report(machine, versions, options.cases, {system.name: system.title for system in systems}, rounds)
    target = options.json or work / "figures.json"
    target.write_text(json.dumps(_document(machine, versions, options.cases, rounds), indent=2) + "\n")
    print(text)
    _say(f"raw figures: {target}")
    return 0


@contextlib.contextmanager
def _systems(options: argparse.Namespace, work: Path) -> Iterator[list[System]]:
    """Both running, or one; stopped whatever happens."""
    relay = RelayServer(work / "relay", options.relay, options.workers)
    relay.prepare()
    with contextlib.ExitStack() as stack:
        systems: list[System] = []
        if options.system != "postfix":
            stack.callback(relay.stop)
            relay.start()
            systems.append(relay)
        if options.system != "relay":
            # The same certificate, so that a handshake costs both the same.
            postfix = Postfix(work / "postfix", relay.certificate)
            stack.callback(postfix.stop)
            postfix.start()
            systems.append(postfix)
        yield systems


def _report(
    machine: Machine, versions: dict[str, str], cases: Sequence[Case], titles: dict[str, str], rounds: list[Round]
) -> str:
    head = [f"date        {_today()}", *machine.lines()]
    head += [f"{title:11} {version}" for title, version in versions.items()]
    return "\n".join([*head, "", render(cases, titles, rounds), "", disturbance(rounds)])


def _document(machine: Machine, versions: dict[str, str], cases: Sequence[Case], rounds: list[Round]) -> dict[str, Any]:
    return {
        "date": _today(),
        "machine": dataclasses.asdict(machine),
        "versions": versions,
        "cases": [dataclasses.asdict(case) for case in cases],
        "rounds": [dataclasses.asdict(one) for one in rounds],
    }


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
