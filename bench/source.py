"""Source: a load generator that speaks SMTP command by command, as smtp-source does, and can do STARTTLS and AUTH.

In: the command line. Out: one JSON document with accepted and refused messages, the latency of the final dot, and the
monotonic time at which the first connection was about to be made.
A session never pipelines and never retries: what is not answered 250 counts as refused.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import sys
import time
from pathlib import Path

import uvloop

from bench.client import Client, Load, Result, Supply
from bench.process import share


async def _session(load: Load, supply: Supply, result: Result) -> None:
    """One sender after another until the supply ends; with `once` each message has its own connection."""
    loop = asyncio.get_running_loop()
    while (message := supply.next()) is not None:
        await asyncio.sleep(max(0.0, message[1] - time.monotonic()) if load.rate else 0)
        client = Client(load, supply, result, message)
        try:
            await loop.create_connection(lambda client=client: client, load.host, load.port)  # type: ignore[misc]
        except OSError as error:
            result.refused += 1
            result.error = str(error)
            continue
        await client.done


async def _send(load: Load) -> Result:
    supply, result = Supply(load), Result()
    await asyncio.gather(*(_session(load, supply, result) for _ in range(load.sessions)))
    return result


def _process(load: Load) -> Result:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_send(load))


def send(loads: list[Load]) -> Result:
    """Run each load in a process of its own; the sum of their results."""
    if len(loads) == 1:
        return _process(loads[0])
    with multiprocessing.get_context("fork").Pool(len(loads)) as pool:
        results = pool.map(_process, loads, chunksize=1)
    return Result(
        accepted=sum(result.accepted for result in results),
        refused=sum(result.refused for result in results),
        error=next((result.error for result in results if result.error), ""),
        dots=list(itertools.chain.from_iterable(result.dots for result in results)),
        lags=list(itertools.chain.from_iterable(result.lags for result in results)),
    )


def quantiles(seconds: list[float]) -> dict[str, float]:
    """p50, p90, p99 and the worst, in milliseconds; empty for no figures."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    pick = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3, 3)
            for name, share in pick.items()}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="source", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=20, help="connections at a time")
    parser.add_argument("--size", type=int, default=4096, help="octets of body")
    parser.add_argument("--sender", default="app@bench.example")
    parser.add_argument("--recipient", default="someone@rcpt.example")
    parser.add_argument("--notify", default="", help="NOTIFY of every recipient (RFC 3461), such as SUCCESS")
    parser.add_argument("--once", action="store_true", help="one connection per message")
    parser.add_argument("--tls", action="store_true", help="STARTTLS")
    parser.add_argument("--login", type=Path, help="file with username and password, a line each")
    parser.add_argument("--rate", type=float, default=0.0, help="messages a second; default: as fast as they are taken")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    login = tuple(options.login.read_text().split("\n")[:2]) if options.login else None
    sessions = share(options.sessions, options.processes)
    loads = [
        Load(
            options.host, options.port, messages, each, options.size, options.sender, options.recipient,
            options.once, options.tls, login, options.rate / options.processes, options.notify,
        )
        for messages, each in zip(share(options.messages, options.processes), sessions, strict=True)
    ]  # fmt: skip
    began = time.monotonic()
    result = send(loads)
    report = {
        "began": began,
        "accepted": result.accepted,
        "refused": result.refused,
        "error": result.error,
        "dot_ms": quantiles(result.dots),
        "lag_ms": quantiles(result.lags),
    }
    json.dump(report, sys.stdout)
    return 0 if result.accepted == options.messages else 1


if __name__ == "__main__":
    sys.exit(main())
