"""python -m bench.attack: does a good client feel 500 slow and 500 hostile ones?

A relay of its own on loopback, every address of 127.0.0.0/8 guarded like a stranger. The slow ones hold a session each
from an address of their own and send an octet now and then; the hostile ones come from few addresses, again and again,
with passwords to guess, nonsense, endless lines, half messages and TLS in the clear. Meanwhile one client sends a
message on a new connection, ten times a second. Out: its latency without and under attack (p50, p99), what the
attackers got, and the memory of the relay. Exit code 1 when a message of the good client was refused.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from multiprocessing import Process, Queue
from pathlib import Path
from typing import Final

from bench.process import HOST
from bench.relay_server import RECIPIENT_DOMAIN, RelayServer

_GUARDED: Final = "\n[guard]\nexempt = []\n"
_MESSAGE: Final = b"From: good@client.example\r\nSubject: hello\r\n\r\n" + b"x" * 2000 + b"\r\n.\r\n"
_PERIOD: Final = 0.1
_ASSEMBLY: Final = 3.0  # seconds in which the attackers connect
_FORMS: Final = (
    b"EHLO bad.example\r\n" + b"AUTH PLAIN AGFsaWNlAHdyb25n\r\n" * 3,
    b"NONSENSE\r\n" * 30,
    b"A" * 200_000,
    b"EHLO bad.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@rcpt.example>\r\nDATA\r\nhalf a message",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n",
    b"EHLO bad.example\r\n" + b"RCPT TO:<x@other.example>\r\n" * 50,
)


class Attack:
    """Counts what the attackers got, by the first three octets of an answer or by what became of the connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answers: Counter[str] = Counter()

    async def slow(self, number: int) -> None:
        """One session, an octet every few seconds, again when it is closed."""
        address = f"127.{2 + number // 250}.{number % 250}.1"
        while True:
            try:
                reader, writer = await asyncio.open_connection(HOST, self._port, local_addr=(address, 0))
                self.answers["slow " + (await reader.readline()).decode("latin-1")[:3]] += 1
                for octet in b"EHLO slow.example\r\nMAIL FROM:<a@b.example>\r\n" * 20:
                    writer.write(bytes((octet,)))
                    await asyncio.sleep(random.uniform(1, 4))
            except OSError:
                self.answers["slow: cut off"] += 1
            await asyncio.sleep(1)

    async def hostile(self, number: int) -> None:
        """One form of attack after the other, once a second."""
        address = f"127.1.{number % 5}.1"
        while True:
            try:
                reader, writer = await asyncio.open_connection(HOST, self._port, local_addr=(address, 0))
                writer.write(_FORMS[random.randrange(len(_FORMS))])
                self.answers["hostile " + await _last_code(reader)] += 1
                writer.close()
            except OSError:
                self.answers["hostile: cut off"] += 1
            await asyncio.sleep(random.uniform(0.5, 1.5))


async def send(port: int) -> float:
    """One message on a new connection; returns the seconds until it was accepted. Raises ConnectionError."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(HOST, port)
    lines = (
        b"EHLO good.example",
        b"MAIL FROM:<good@client.example>",
        f"RCPT TO:<a@{RECIPIENT_DOMAIN}>".encode(),
        b"DATA",
    )
    await _expect(reader, b"220")
    for line, code in zip(lines, (b"250", b"250", b"250", b"354"), strict=True):
        writer.write(line + b"\r\n")
        await _expect(reader, code)
    writer.write(_MESSAGE)
    await _expect(reader, b"250")
    taken = time.perf_counter() - began
    writer.write(b"QUIT\r\n")
    writer.close()
    return taken


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    while True:
        line = await reader.readline()
        if not line.startswith(code):
            raise ConnectionError(f"wanted {code.decode()}, got {line!r}")
        if line[3:4] != b"-":
            return


async def good_client(port: int, seconds: float) -> list[float]:
    """A message every tenth of a second, late or not; the seconds each took, from when it was due."""
    taken: list[asyncio.Task[float]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        taken.append(asyncio.create_task(send(port)))
        await asyncio.sleep(_PERIOD)
    return sorted(await asyncio.gather(*taken))


def attack_until(port: int, slow: int, hostile: int, seconds: float, answers: Queue[Counter[str]]) -> None:
    """A process of its own: what the attackers cost must not be taken for the good client's latency."""

    async def run() -> None:
        attack = Attack(port)
        forms: list[tuple[Callable[[int], Awaitable[None]], int]] = [(attack.slow, slow), (attack.hostile, hostile)]
        attackers = [asyncio.ensure_future(form(number)) for form, count in forms for number in range(count)]
        await asyncio.sleep(seconds)
        answers.put(attack.answers)
        for attacker in attackers:
            attacker.cancel()
        await asyncio.gather(*attackers, return_exceptions=True)

    asyncio.run(run())


def under_attack(port: int, slow: int, hostile: int, seconds: float) -> tuple[list[float], list[float], Counter[str]]:
    """Latencies in peace, then under attack, and what the attackers got."""
    peace = asyncio.run(good_client(port, seconds))
    answers: Queue[Counter[str]] = Queue()
    attackers = Process(target=attack_until, args=(port, slow, hostile, seconds + _ASSEMBLY + 2, answers))
    attackers.start()
    try:
        time.sleep(_ASSEMBLY)
        war = asyncio.run(good_client(port, seconds))
        return peace, war, answers.get(timeout=seconds + 60)
    finally:
        attackers.terminate()
        attackers.join()


async def _last_code(reader: asyncio.StreamReader) -> str:
    """The code of the last line that came, until the server closes or is silent for a while."""
    heard = b""
    try:
        while piece := await asyncio.wait_for(reader.read(65_536), 1.5):
            heard += piece
    except TimeoutError:
        pass
    lines = heard.decode("latin-1").split("\r\n")
    return lines[-2][:3] if len(lines) > 1 else "nothing"


def resident_megabytes(pid: int) -> float:
    """Of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in (str(pid), *children))
    return pages * 4096 / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.attack", description="A good client beside attackers.")
    parser.add_argument("--relay", type=Path, default=Path(sys.executable).with_name("relay"), help="the command relay")
    parser.add_argument("--work", type=Path, default=Path("bench-work"), help="folder for everything it writes")
    parser.add_argument("--slow", type=int, default=500)
    parser.add_argument("--hostile", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=20.0, help="of peace, and of attack")
    options = parser.parse_args()
    server = RelayServer(options.work.resolve() / "attack", options.relay)
    server.prepare()
    server.add_to_configuration(_GUARDED)
    server.start()
    try:
        memory = resident_megabytes(server.pid)
        port = server.ports["plain"]
        peace, war, answers = under_attack(port, options.slow, options.hostile, options.seconds)
        memory_after = resident_megabytes(server.pid)
    except ConnectionError as error:
        print(f"the good client was refused: {error}", file=sys.stderr)
        return 1
    finally:
        server.stop()
    for words, taken in (("in peace", peace), ("under attack", war)):
        p50, p99 = taken[len(taken) // 2] * 1000, taken[int(len(taken) * 0.99)] * 1000
        print(f"{words}: {len(taken)} messages, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    print("attackers:", ", ".join(f"{words} {count}" for words, count in sorted(answers.items())))
    print(f"resident: {memory:.0f} MB before, {memory_after:.0f} MB after")
    return 0


if __name__ == "__main__":
    sys.exit(main())
