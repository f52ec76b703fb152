"""fsync before 250, seen by strace: between the final dot that came in and the answer that went out, a sync ended."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

from client import Clients, until_busy
from ledger import Verdict
from scenarios import stage

_CALL = re.compile(r"^\d+ +([\d.]+) (?:<\.\.\. )?(\w+)(.*)$")


def fsync_order(folder: Path, seed: int, tree: Path | None, patience: float) -> Verdict:
    """One client, one message at a time, so that each answer needs a sync of its own."""
    trace = folder / "trace"
    calls = "trace=fdatasync,fsync,read,recvfrom,recvmsg,write,sendto,sendmsg,writev"
    with stage(folder, seed, tree, patience, workers=1) as one:
        one.relay.wrapper = ["strace", "-f", "-ttt", "-s", "300000", "-e", calls, "-o", str(trace)]
        one.relay.start()
        with Clients(one.relay.ports, one.client, seed, count=1, pause=0.05):
            until_busy(one.client, 30, seconds=120)
        verdict = one.drained()
        one.relay.signal(signal.SIGTERM)
        time.sleep(1)
    answers, early = answers_and_early_ones(trace.read_text(errors="replace"))
    if answers < 15:
        raise AssertionError(f"strace shows {answers} answers only")
    if early:
        raise AssertionError(f"{early} of {answers} answers went out without a sync after the message was there")
    return verdict


def answers_and_early_ones(trace: str) -> tuple[int, int]:
    """Answers `queued as`, and how many of them came without a sync that ended since the last final dot."""
    answers = early = 0
    synced = True
    for line in trace.splitlines():
        found = _CALL.match(line)
        if found is None:
            continue
        call, rest = found[2], found[3]
        if call in ("read", "recvfrom", "recvmsg") and r"\r\n.\r\n" in rest:
            synced = False
        elif call in ("fdatasync", "fsync") and rest.rstrip().endswith("= 0"):
            synced = True
        elif call in ("write", "sendto", "sendmsg", "writev") and "Ok: queued as" in rest:
            answers += 1
            early += not synced
    return answers, early
