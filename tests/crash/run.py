"""make crash: kill, cut and fill, then compare what clients were told with what the next hop holds.

python tests/crash/run.py [--rounds N] [--cuts N] [--passages N] [--seed N] [--only NAME ...] [--tree FOLDER]
Exit code 1 when anything acknowledged was lost, refused and delivered, damaged, or doubled without a lost answer; the
line says seed and folder, which is then kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import scenarios
from fsync_order import fsync_order
from ledger import Verdict
from scenarios import POINTS, Scenario, power_cut_disk, small_filesystem, stage, temporary_folder

Run = Callable[[Path, int, Path | None, float], Verdict]


def staged(
    scenario: Scenario, disk: Callable[[Path], AbstractContextManager[None]] = lambda folder: nullcontext()
) -> Run:
    def run(folder: Path, seed: int, tree: Path | None, patience: float) -> Verdict:
        with disk(folder), stage(folder, seed, tree, patience) as one:
            scenario(one)
            return one.drained()

    return run


def plan(options: argparse.Namespace) -> Iterator[tuple[str, Run]]:
    """Every scenario with its name; those that need root or a tool this machine lacks are said to be left out."""
    batch = 50
    for start in range(0, options.rounds, batch):
        rounds = min(batch, options.rounds - start)
        yield f"kills {start + 1}-{start + rounds}", staged(partial(scenarios.random_kills, rounds=rounds))
    for point in POINTS:
        for passage in range(1, options.passages + 1):
            if passage == 1 or point not in ("lane-opened", "pruning", "recovering"):
                yield f"point {point}:{passage}", staged(partial(scenarios.fault_point, point=point, passage=passage))
    yield "next hop", staged(scenarios.stages_of_the_next_hop)
    yield "workers", staged(scenarios.shrinking)
    yield "dns", staged(scenarios.dead_dns)
    if Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1").exists():
        yield "clock", staged(scenarios.clock_jumps)
    else:
        print("clock: left out, libfaketime is missing (apt-get install faketime)")
    if shutil.which("strace"):
        yield "fsync order", fsync_order
    else:
        print("fsync order: left out, strace is missing (apt-get install strace)")
    if os.geteuid() == 0:
        yield "full disk", staged(scenarios.full_disk, lambda folder: small_filesystem(folder / "var", 24))
        for number in range(1, options.cuts + 1):
            yield f"power cut {number}", staged(scenarios.power_cut, power_cut_disk)
    else:
        print("full disk, power cut: left out, they need root")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make crash", description="Nothing acknowledged is lost.")
    parser.add_argument("--rounds", type=int, default=20, help="random kills")
    parser.add_argument("--cuts", type=int, default=2, help="power cuts")
    parser.add_argument("--passages", type=int, default=1, help="of each named point")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], help="scenarios whose name begins so")
    parser.add_argument("--tree", type=Path, help="folder that holds the package relay to test instead")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds until what has not arrived is lost")
    options = parser.parse_args()
    began, bad, total, doubled = time.monotonic(), 0, 0, 0
    for number, (name, run) in enumerate(plan(options)):
        if options.only and not name.startswith(tuple(options.only)):
            continue
        folder, seed = temporary_folder(), options.seed * 10_000 + number
        try:
            verdict = run(folder, seed, options.tree, options.patience)
        except (AssertionError, TimeoutError, RuntimeError) as error:
            print(f"{name}: FAILED, {error}; seed {seed}, {folder}", flush=True)
            bad += 1
            continue
        total, doubled = total + verdict.acknowledged, doubled + verdict.explained
        if verdict.kept:
            print(f"{name}: {verdict}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
        else:
            bad += 1
            examples = [*verdict.lost[:3], *verdict.phantoms[:3], *verdict.damaged[:3], *verdict.unexplained[:3]]
            print(f"{name}: BROKEN, {verdict}; seed {seed}, {folder}: {examples}", flush=True)
    seconds = time.monotonic() - began
    print(f"{total} acknowledged, {doubled} doubled for a lost answer, {bad} scenarios broken, {seconds:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
