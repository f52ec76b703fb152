"""CPU per message of the delivery client against Postfix's smtp-sink, on kept connections.

python tests/bench/smtp_client.py [messages] [octets] [deliveries at a time] [asyncio|uvloop]
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time

import uvloop

from relay.mail.envelope import Envelope, Recipient
from relay.mail.outcome import Delivered
from relay.ports import DeliveryRequest, MxHost, SystemClock
from relay.settings import DeliverySettings
from relay.transports.mx import MxTransport

PORT = 23_925


class OneHost:
    """Stands for DNS: every domain has the same MX."""

    async def hosts(self, domain: str) -> list[MxHost]:
        return [MxHost("sink.example", 10, ("127.0.0.1",))]


async def deliver_all(count: int, size: int, parallel: int) -> tuple[float, float]:
    """CPU and wall-clock seconds for `count` messages of `size` octets."""
    settings = DeliverySettings(mx_port=PORT, allow_private_mx=True)
    transport = MxTransport(settings, OneHost(), "client.example", SystemClock())
    content = b"Subject: bench\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * (size // 72)
    recipients = (Recipient("somebody@sink.example"),)
    envelope = Envelope("sender@client.example", recipients)

    async def lane(messages: int) -> None:
        for number in range(messages):
            request = DeliveryRequest(
                f"m{number}", "bench", envelope.reverse_path, recipients, "sink.example", envelope
            )
            report = await transport.deliver(request, content)
            assert isinstance(report.outcomes["somebody@sink.example"], Delivered), report

    await lane(50)
    cpu, wall = _cpu(), time.perf_counter()
    await asyncio.gather(*(lane(count // parallel) for _ in range(parallel)))
    print(resource.getrusage(resource.RUSAGE_SELF))
    spent = _cpu() - cpu, time.perf_counter() - wall
    await transport.close()
    return spent


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    count, size, parallel = (int(word) for word in (*sys.argv[1:4], *("20000", "4096", "20")[len(sys.argv[1:4]) :]))
    run = asyncio.run if "asyncio" in sys.argv else uvloop.run
    sink = subprocess.Popen(["smtp-sink", "-u", "nobody", f"127.0.0.1:{PORT}", "1000"])
    try:
        time.sleep(0.3)
        cpu, wall = run(deliver_all(count, size, parallel))
    finally:
        sink.terminate()
        sink.wait()
    print(
        f"{count} messages of {size} octets, {parallel} at a time: {cpu / count * 1e6:.1f} us CPU a message,", end=" "
    )
    print(f"{count / wall:.0f} messages/s")


if __name__ == "__main__":
    main()
