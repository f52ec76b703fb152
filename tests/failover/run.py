"""make demo-failover: steady mail through a relay with two providers, of which the first fails in three ways.

python tests/failover/run.py [--rate N] [--phase SECONDS] [--reports SECONDS]
It takes mail and delivers nothing; it says 429; it dies within its answers; it is well in between. Prints a timeline
and compares what the relay answered 250 with what the providers delivered: exit code 1 when a message is lost, or came
twice without having been in doubt.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

from sandbox_server import Server
from vendor import BUSY, DYING, SILENT, WELL, Letter, Vendor

# After the 429 its breaker stays open for half a minute.
PHASES: Final = ((WELL, 1), (SILENT, 1), (WELL, 1), (BUSY, 1), (WELL, 6), (DYING, 1), (WELL, 1))
BARS: Final = " ▁▂▃▄▅▆▇█"
PATIENCE: Final = 120.0


@dataclass
class Ledger:
    """What the relay answered 250, and when."""

    acknowledged: list[tuple[float, Letter]] = field(default_factory=list)


def configure(server: Server, vendors: Sequence[Vendor], reports: float) -> None:
    text = '\n[[route]]\nname = "failover"\nmatch.recipient_domain = ["shop.example"]\n'
    text += 'via = ["provider:a", "provider:b"]\n'
    for vendor in vendors:
        token = secrets.token_hex(16)
        for kind, word in (("key", "SG." + "k" * 40), ("hook", token)):
            path = server.var / f"{vendor.name}.{kind}"
            path.write_text(word + "\n")
            path.chmod(0o600)
        vendor.hook = f"http://127.0.0.1:{8025 + server.offset}/hooks/{vendor.name}/{token}"
        text += (
            f'[provider.{vendor.name}]\nkind = "sendgrid"\napi_key_file = "{server.var}/{vendor.name}.key"\n'
            f'hook_token_file = "{server.var}/{vendor.name}.hook"\nbase_url = "http://127.0.0.1:{vendor.port}"\n'
            f'allow_private = true\nreport_within = {reports}\nunreported = "in_doubt"\n'
        )
    server.configure("delays = [2, 5, 10, 20, 40]", "delays = [1, 1, 1, 2, 2, 5, 5, 5, 10, 10, 10]\njitter = 0")
    server.configure('retry = "sandbox"', 'retry = "sandbox"\nroute_pause = 2')
    with server.config.open("a") as config:
        config.write(text)


def send(server: Server, ledger: Ledger, rate: float, stop: threading.Event) -> None:
    """One message each 1/rate seconds, until told to stop."""
    sender, number, began = server.facts["username"], 0, time.monotonic()
    with server.client() as client:
        while not stop.wait(max(0.0, began + number / rate - time.monotonic())):
            number += 1
            letter = (f"letter {number}", f"anna{number % 7}@shop.example")
            head = f"From: Shop <{sender}>\r\nTo: {letter[1]}\r\nMessage-ID: <{number}@demo.example>\r\n"
            client.sendmail(sender, [letter[1]], f"{head}Subject: {letter[0]}\r\n\r\nHello\r\n")
            ledger.acknowledged.append((time.monotonic(), letter))


def log_of(server: Server) -> list[dict[str, str]]:
    return [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]


def drain(server: Server, ledger: Ledger) -> bool:
    """Whether every message has come to its end in time."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        lines = log_of(server)
        ended = {line["id"] for line in lines if line["event"] in ("sent", "delivered", "bounced", "expired")}
        if len(ended) >= len(ledger.acknowledged):
            return True
        time.sleep(0.5)
    return False


def bar(numbers: Iterable[int], most: int) -> str:
    return "".join(BARS[min(len(BARS) - 1, -(-number * (len(BARS) - 1) // most))] for number in numbers)


def chart(began: float, until: float, ledger: Ledger, vendors: Sequence[Vendor], moods: list[tuple[float, str]]) -> str:
    """One column a second."""
    seconds = int(until - began) + 1

    def row(moments: Iterable[float]) -> list[int]:
        counts = Counter(int(at - began) for at in moments)
        return [counts[second] for second in range(seconds)]

    rows = {"answered 250": row(at for at, _ in ledger.acknowledged)}
    for vendor in vendors:
        rows[f"{vendor.name} took"] = row(at for at, _ in vendor.taken)
        rows[f"{vendor.name} delivered"] = row(at for at, _ in vendor.delivered)
    most = max(max(numbers) for numbers in rows.values())
    line = [" "] * seconds
    for at, mood in moods:
        start = int(at - began)
        line[start : start + len(mood) + 1] = ["|", *mood][: seconds - start]
    lines = [f"{'a is':>14} {''.join(line)}"]
    lines += [f"{name:>14} {bar(numbers, most)}" for name, numbers in rows.items()]
    scale = "".join(f"{second:<10}" for second in range(0, seconds, 10))
    return "\n".join([*lines, f"{'seconds':>14} {scale}", f"a full block is {most} messages a second"])


def verdict(server: Server, ledger: Ledger, vendors: Sequence[Vendor]) -> int:
    lines = log_of(server)
    arrived = Counter(letter for vendor in vendors for _, letter in vendor.delivered)
    lost = [letter for _, letter in ledger.acknowledged if not arrived[letter]]
    ids = [line["id"] for line in lines if line["event"] == "queued"]
    letters = dict(zip([letter for _, letter in ledger.acknowledged], ids, strict=True))
    doubted = {line["id"] for line in lines if line["event"] == "in_doubt"}
    twice = [letter for letter, count in arrived.items() if count > 1]
    unexplained = [letter for letter in twice if letters[letter] not in doubted]
    print(
        f"{len(ledger.acknowledged)} answered 250, {len(lost)} lost, {len(doubted)} in doubt, {len(twice)} delivered"
        f" twice, {len(unexplained)} of these without having been in doubt"
    )
    for line in lines:
        if line["event"] in ("provider_silent", "provider_heard"):
            print(f"  {line['time'][11:19]} {line['event']} {line['provider']}")
    return int(bool(lost or unexplained))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=20.0, help="messages a second")
    parser.add_argument("--phase", type=float, default=6.0, help="seconds of a phase")
    parser.add_argument("--reports", type=float, default=2.0, help="report_within of the providers")
    options = parser.parse_args()
    vendors = [Vendor("a"), Vendor("b")]
    with tempfile.TemporaryDirectory(prefix="failover-") as folder:
        server = Server(Path(folder))
        configure(server, vendors, options.reports)
        server.start()
        ledger, stop, moods = Ledger(), threading.Event(), []
        sender = threading.Thread(target=send, args=(server, ledger, options.rate, stop))
        began = time.monotonic()
        sender.start()
        for mood, phases in PHASES:
            vendors[0].mood = mood
            moods.append((time.monotonic(), mood))
            time.sleep(options.phase * phases)
        stop.set()
        sender.join()
        ended = drain(server, ledger)
        print(chart(began, time.monotonic(), ledger, vendors, moods))
        failed = verdict(server, ledger, vendors)
        if not ended:
            print(f"something still waited after {PATIENCE:.0f} s:\n{server.log[-3000:]}")
        server.stop()
    for vendor in vendors:
        vendor.close()
    return int(failed or not ended)


if __name__ == "__main__":
    sys.exit(main())
