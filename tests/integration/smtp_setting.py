"""What the tests of the SMTP client share: certificates, requests, transports and a letter for each outcome."""

from __future__ import annotations

import asyncio
import functools
import ssl
from pathlib import Path

import trustme
import uvloop

from relay.mail.envelope import Envelope, Recipient
from relay.mail.outcome import Deferred, Delivered, Failed, Fault, InDoubt, Outcome, Sent
from relay.ports import DeliveryReport, DeliveryRequest, MxHost, SystemClock
from relay.settings import DeliverySettings, SmarthostSettings, TimeoutSettings
from relay.transports.mx import MxTransport
from relay.transports.smarthost import SmarthostTransport

TIMEOUTS = TimeoutSettings(connect=60, banner=60, command=60, data=60, final_dot=60)
_TIMEOUT_OF = {"banner": "banner", "data": "data", "body": "data", "dot": "final_dot"}
CONTENT = b"Subject: test\r\n\r\nHello\r\n"
LOOPS = {"asyncio": asyncio.run, "uvloop": uvloop.run}


def letter(outcome: Outcome) -> str:
    """D delivered, S sent, F failed, ? in doubt; deferred for the d message, h host, r route."""
    match outcome:
        case Delivered():
            return "D"
        case Sent():
            return "S"
        case Failed():
            return "F"
        case InDoubt():
            return "?"
        case Deferred(fault=fault):
            return {Fault.MESSAGE: "d", Fault.HOST: "h", Fault.ROUTE: "r"}[fault]


def letters(report: DeliveryReport) -> str:
    """One letter a recipient, in the order of their addresses."""
    return "".join(letter(report.outcomes[address]) for address in sorted(report.outcomes))


def request(*recipients: str | Recipient, sender: str | None = "me@client.example", **envelope) -> DeliveryRequest:
    """A request for `recipients`; `envelope` overrides fields of the Envelope."""
    everyone = tuple(r if isinstance(r, Recipient) else Recipient(r) for r in recipients or ("ann@mx.example",))
    whole = Envelope(sender, everyone, **envelope)
    return DeliveryRequest("id1", "acme", sender, everyone, everyone[0].domain, whole)


class Hosts:
    """Stands for DNS: these MX hosts for every domain."""

    def __init__(self, *hosts: MxHost) -> None:
        self._hosts = hosts

    async def hosts(self, domain: str):
        return self._hosts


def delivery(**settings) -> DeliverySettings:
    return DeliverySettings(**{"timeouts": TIMEOUTS, "allow_private_mx": True, **settings})


def timeouts_at(stage: str, fault: str | bytes) -> TimeoutSettings:
    """Short at the stage where a peer lets the client wait, and nowhere else: a busy machine is no such peer."""
    if fault not in ("silence", "drip", "deaf"):
        return TIMEOUTS
    return TIMEOUTS.model_copy(update={_TIMEOUT_OF.get(stage, "command"): 0.3})


def mx_to(port: int, *hosts: MxHost, **settings) -> MxTransport:
    hosts = hosts or (MxHost("mx.example", 10, ("127.0.0.1",)),)
    return MxTransport(delivery(mx_port=port, **settings), Hosts(*hosts), "client.example", SystemClock())


def smarthost_at(
    port: int, *, folder: Path, ca: trustme.CA | None = None, timeouts: TimeoutSettings = TIMEOUTS, **settings
) -> SmarthostTransport:
    """A smarthost on localhost whose certificate `ca` issued, with the password `secret`."""
    options = {"host": "localhost", "port": port, **settings}
    if ca is not None:
        ca.cert_pem.write_to_path(folder / "ca.pem")
        options["ca_file"] = folder / "ca.pem"
    if options.get("username"):
        (folder / "password").write_text("secret\n")
        (folder / "password").chmod(0o600)
        options["password_file"] = folder / "password"
    return SmarthostTransport("test", SmarthostSettings(**options), delivery(timeouts=timeouts), "client.example")


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(*names: str, ca: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (ca or authority()).issue_cert(*(names or ("localhost", "mx.example"))).configure_cert(context)
    return context


def send(transport, *requests: DeliveryRequest, content: bytes = CONTENT, loop: str = "uvloop"):
    """Deliver one after the other and close; the report, or the list of them."""

    async def run() -> list[DeliveryReport]:
        try:
            return [await transport.deliver(each, content) for each in requests or (request(),)]
        finally:
            await transport.close()

    reports = LOOPS[loop](run())
    return reports if len(reports) > 1 else reports[0]
