"""python -m bench: the relay against Postfix on this machine. docs/benchmark.md says how to read what it prints.

Out: tables on standard output, all figures as JSON, progress on standard error.
Exit codes: 0 done, 1 mail was lost, doubled or refused, or something could not start, 2 usage.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bench import backlog, features, history, idle, latency, packages
from bench.cases import CASES, MORE_CASES, scaled, select
from bench.context import Context
from bench.document import Document, to_json
from bench.feed import System
from bench.machine import look
from bench.postfix import Postfix
from bench.process import BenchError
from bench.relay_server import RelayServer
from bench.rounds import run_case
from bench.table import disturbance, text
from bench.tables import tables

PARTS: Final = ("latency", "backlog", "history", "features", "idle")
_KEPT: Final = CASES[0]
_QUICK: Final = 400
_QUEUED: Final = 1_000_000
_HISTORY: Final = 5_000_000


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
    cases = ", ".join(case.name for case in (*CASES, *MORE_CASES))
    named = ", ".join(feature.name for feature in features.FEATURES)
    parser.add_argument("--all", action="store_true", help="every case and every part")
    parser.add_argument("--rounds", type=_positive, default=5, help="timed rounds of each case (default 5)")
    parser.add_argument("--messages", type=_positive, help="messages a round of `kept`; other cases in proportion")
    parser.add_argument("--only", action="append", default=[], metavar="CASE", help=f"these cases: {cases}")
    parser.add_argument("--part", action="append", default=[], metavar="PART", help=f"these parts: {', '.join(PARTS)}")
    parser.add_argument("--feature", action="append", default=[], metavar="NAME", help=f"of features: {named}")
    parser.add_argument("--queued", type=_positive, help=f"messages of `backlog` (default {_QUEUED:,})")
    parser.add_argument("--history", type=_positive, help=f"messages of `history` (default {_HISTORY:,})")
    parser.add_argument("--system", choices=("relay", "postfix"), help="measure this one alone")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="raw figures (default: figures.json under --work)")
    parser.add_argument("--work", type=Path, default=Path("bench-work"), help="folder of both queues")
    parser.add_argument("--relay", type=Path, default=Path(sys.executable).parent / "relay", help="the command to test")
    parser.add_argument("--workers", type=int, default=0, help="the relay's worker processes; 0: one a core")
    options = parser.parse_args()
    try:
        _choose(options)
    except ValueError as error:
        parser.error(str(error))
    return options


def _choose(options: argparse.Namespace) -> None:
    """Which cases and parts, and how much of each. Raises ValueError."""
    for known, given in ((PARTS, options.part), ([one.name for one in features.FEATURES], options.feature)):
        if strange := [name for name in given if name not in known]:
            raise ValueError(f"there is no {strange[0]!r}; there are: {', '.join(known)}")
    options.parts = PARTS if options.all else tuple(name for name in PARTS if name in options.part)
    if options.all:
        options.cases = (*CASES, *MORE_CASES)
    else:
        options.cases = select(options.only) if options.only or not options.parts else ()
    if options.quick:
        options.rounds, options.messages = 1, options.messages or _QUICK
    reference = options.messages or _KEPT.messages
    options.scale = reference / _KEPT.messages
    options.cases = tuple(scaled(case, reference) for case in options.cases)
    options.kept = scaled(_KEPT, reference)
    options.queued = options.queued or int(_QUEUED * (0.01 if options.quick else 1))
    options.history = options.history or int(_HISTORY * (0.01 if options.quick else 1))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _run(options: argparse.Namespace) -> int:
    packages.ensure()
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    context = Context(
        work, options.relay.absolute(), options.workers, options.rounds, options.kept, options.scale, options.queued,
        options.history, _say,
    )  # fmt: skip
    document = Document(datetime.datetime.now(datetime.UTC).date().isoformat(), look(work), cases=list(options.cases))
    target: Path = options.json or work / "figures.json"
    for part in _parts(context, options, document):
        part()
        # Kept after each part: one that fails at the end must not cost what was measured.
        target.write_text(to_json(document))
    print(_report(document))
    _say(f"raw figures: {target}")
    return 0


def _parts(context: Context, options: argparse.Namespace, document: Document) -> Iterator[Callable[[], None]]:
    """What is to be measured, one after the other; each puts its figures into the document."""
    parts: tuple[str, ...] = options.parts

    def against_each_other() -> None:
        with _systems(context, options.system) as systems:
            document.versions = {system.title: system.version for system in systems}
            for case in options.cases:
                document.rounds += run_case(case, systems, context.rounds, context.work, context.say)
            if "latency" in parts:
                document.latency = latency.measure(context, systems)
            if "idle" in parts:
                postfix = next((system for system in systems if system.name == "postfix"), None)
                document.idle = idle.measure(context, postfix)
            _demand_empty(systems)

    def long_queue() -> None:
        document.backlog = backlog.measure(context, options.system)

    def long_history() -> None:
        document.history = history.measure(context)

    def switched() -> None:
        document.features = features.measure(context, frozenset(options.feature))

    yield against_each_other
    alone = {"backlog": long_queue, "history": long_history, "features": switched}
    yield from (measure for name, measure in alone.items() if name in parts)


def _demand_empty(systems: list[System]) -> None:
    for system in systems:
        if left := system.queued():
            raise BenchError(f"{system.title} still has {left} messages in its queue")


@contextlib.contextmanager
def _systems(context: Context, only: str | None) -> Iterator[list[System]]:
    """Both running, or one; stopped whatever happens."""
    relay = RelayServer(context.work / "relay", context.program, context.workers)
    relay.prepare()
    with contextlib.ExitStack() as stack:
        systems: list[System] = []
        if only != "postfix":
            stack.callback(relay.stop)
            relay.start()
            systems.append(relay)
        if only != "relay":
            # The same certificate, so that a handshake costs both the same.
            postfix = Postfix(context.work / "postfix", relay.certificate)
            stack.callback(postfix.stop)
            postfix.start()
            systems.append(postfix)
        yield systems


def _report(document: Document) -> str:
    head = [f"date        {document.date}", *document.machine.lines()]
    head += [f"{title:11} {version}" for title, version in document.versions.items()]
    parts = ["\n".join(head)]
    parts += ["\n".join([table.title, "", text(table), *table.notes]) for table in tables(document)]
    if rounds := document.all_rounds():
        parts.append(disturbance(rounds))
    return "\n\n".join(parts)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
