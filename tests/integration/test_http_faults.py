"""Every provider, and a fault at every byte of its exchange: nothing is lost, and nothing is called sent that is not.

The request is cut, and the answer is: by an end, a reset, silence or garbage. A transport may say that nothing was
accepted only while the whole request cannot have arrived, or where the vendor carries out a repetition once. A stride
keeps it short: the kinds begin at different bytes, so that together they cut everywhere; SENDRELAY_EVERY_BYTE=1 cuts
each of them at each byte.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from test_http_transport import FixedClock, Names, answer, request_for, stub

from relay.mail.outcome import Deferred, Failed, InDoubt, Outcome, Sent
from relay.settings import ProviderSettings
from relay.transports.http import ProviderTransport
from relay.transports.providers import build_provider, provider_classes

KINDS = sorted(provider_classes())
CONTENT = b"From: app@example.org\r\nTo: rcpt@example.net\r\nSubject: hi\r\n\r\nhello\r\n"
STRIDE = 1 if os.environ.get("SENDRELAY_EVERY_BYTE") else 41
AT_ONCE = 16
NEVER = 30.0

OK = {
    "brevo": answer("201 Created", b'{"messageId":"<1@brevo>"}'),
    "gmail": answer(body=b'{"id":"m-1","threadId":"t-1"}'),
    "graph": answer("202 Accepted", b"", "request-id: r-1"),
    "http": answer(body=b'{"id":"m-1"}'),
    "mailgun": answer(body=b'{"id":"<1@mailgun>","message":"Queued. Thank you."}'),
    "mailjet": answer(body=b'{"Messages":[{"Status":"success","To":[{"Email":"rcpt@example.net","MessageID":7}]}]}'),
    "postmark": answer(body=b'{"To":"rcpt@example.net","MessageID":"m-1","ErrorCode":0,"Message":"OK"}'),
    "resend": answer(body=b'{"id":"m-1"}'),
    "sendarix": answer(body=b'{"message_id":"m-1","status":"queued"}'),
    "sendgrid": answer("202 Accepted", b"", "X-Message-Id: m-1"),
    "sendios": answer(body=b'{"_meta":{"status":"OK"},"data":{"queued":true,"r_time":1,"error":""}}'),
    "sendlio": answer(body=b'{"id":19,"status":"enabled"}'),
    "sendpost": answer(body=b'[{"to":"rcpt@example.net","messageId":"m-1","errorCode":0,"message":"ok"}]'),
    "sendx": answer(body=b'[{"to":"rcpt@example.net","messageId":"m-1","errorCode":0,"message":"ok"}]'),
    "ses": answer(body=b'{"MessageId":"m-1"}'),
    "sparkpost": answer(body=b'{"results":{"id":"7","total_accepted_recipients":1,"total_rejected_recipients":0}}'),
}
# Answers to calls that prepare the one that carries the message, in order.
BEFORE = {"sendlio": [answer("200 OK", b'{"id":16,"results_count":1}', "Connection: close")]}
GARBAGE = (
    b"\0" * 40,
    b"220 mail.example ESMTP\r\n",
    b"HTTP/9.9 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 30\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\0\0",
    b"HTTP/1.1 99 What\r\nContent-Length: 0\r\n\r\n",
    answer(body=b"<html>Welcome to our wireless network</html>"),
    answer(body=b""),
    answer(body=b"null"),
    answer(body=b"[]"),
    answer(body=b"[[[[{}]]]]"),
    answer(body=b'{"id":null,"messageId":[],"Messages":{},"results":7,"data":"x","MessageId":{}}'),
    answer(body=b"\xff\xfe{}"),
    answer("204 No Content", b""),
)


@dataclass
class Heard:
    """What the stub has of one connection."""

    octets: bytearray = field(default_factory=bytearray)

    @property
    def whole(self) -> bool:
        head, mark, body = bytes(self.octets).partition(b"\r\n\r\n")
        if not mark:
            return False
        names = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        return len(body) >= int(names[b"content-length"])


@dataclass(frozen=True)
class Fault:
    """Read so much of the request (None: all), say this, and end so."""

    read: int | None
    say: bytes = b""
    end: str = "close"


async def act(fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: Heard) -> None:
    while not heard.whole and (fault.read is None or len(heard.octets) < fault.read):
        wanted = 65_536 if fault.read is None else fault.read - len(heard.octets)
        octets = await reader.read(wanted)
        if not octets:
            break
        heard.octets += octets
    writer.write(fault.say)
    await writer.drain()
    if fault.end == "silence":
        await asyncio.sleep(NEVER)
    elif fault.end == "reset":
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


def transport_of(kind: str, folder: Path, port: int, patience: float) -> ProviderTransport:
    """Where the vendor wants a token, the key file's word is one: how tokens are fetched is another test's."""
    key = folder / "key"
    key.write_text("AKIDEXAMPLE:0123456789abcdef\n")
    provider = provider_classes()[kind]
    options = dict(provider.example)
    if kind == "http":
        options["url"] = f"http://127.0.0.1:{port}/send"
    values = {"kind": kind, "api_key_file": key, "base_url": f"http://127.0.0.1:{port}/v1", "options": options}
    if provider.wants_token:
        values["oauth"] = {"client_id": "app", "grant": "refresh_token", "refresh_token_file": key}
    settings = ProviderSettings.model_validate({**values, "allow_private": True, "timeout": patience})
    transport = ProviderTransport("p", settings, build_provider("p", settings), FixedClock(), Names())
    transport._calls._line = dataclasses.replace(transport._calls._line, tokens=None)
    return transport


def exchanges(
    kind: str, tmp_path: Path, faults: list[Fault], patience: float = 20.0, call: int = -1
) -> list[tuple[Outcome, Heard]]:
    """Each fault met by a transport of its own, some at once; it is the fault of the last call, or of this one."""
    before = BEFORE.get(kind, [])
    at = call if call >= 0 else len(before)

    async def one(fault: Fault, gate: asyncio.Semaphore) -> tuple[Outcome, Heard]:
        heard = Heard()
        calls = 0

        async def handle(reader, writer, seen) -> None:
            nonlocal calls
            calls += 1
            if calls <= at:
                await act(Fault(None, before[calls - 1]), reader, writer, Heard())
            elif calls == at + 1:
                await act(fault, reader, writer, heard)

        async with gate, stub(handle) as (port, _):
            transport = transport_of(kind, tmp_path, port, patience)
            try:
                report = await transport.deliver(request_for(), CONTENT)
            finally:
                await transport.close()
            return report.outcomes["rcpt@example.net"], heard

    async def main() -> list[tuple[Outcome, Heard]]:
        gate = asyncio.Semaphore(AT_ONCE)
        return await asyncio.gather(*(one(fault, gate) for fault in faults))

    return asyncio.run(main())


def request_octets(kind: str, tmp_path: Path) -> int:
    [(found, heard)] = exchanges(kind, tmp_path, [Fault(None, OK[kind])])
    assert isinstance(found, Sent)
    return len(heard.octets)


def cuts(kind: str, octets: int) -> list[int]:
    """Where to cut: from a byte of its own on, and around the end."""
    return sorted(
        {*range(KINDS.index(kind) * STRIDE // len(KINDS), octets, STRIDE), *range(max(0, octets - 3), octets)}
    )


def judge(kind: str, fault: Fault, found: Outcome, heard: Heard) -> None:
    """No acceptance, no bounce; and who says that nothing was accepted knows it."""
    assert not isinstance(found, Sent | Failed), (kind, fault, found)
    if heard.whole and isinstance(found, Deferred):
        assert idempotent(kind), (kind, fault, found)


def idempotent(kind: str) -> bool:
    return provider_classes()[kind].capabilities.idempotency


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("kind", KINDS)
def test_request_cut_at_every_byte_is_never_lost(tmp_path, kind, end):
    """A server that leaves before it has read all of a request."""
    faults = [Fault(at, end=end) for at in cuts(kind, request_octets(kind, tmp_path))]

    for fault, (found, heard) in zip(faults, exchanges(kind, tmp_path, faults), strict=True):
        assert not heard.whole
        judge(kind, fault, found, heard)


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("kind", KINDS)
def test_answer_cut_at_every_byte_is_in_doubt_or_repeated(tmp_path, kind, end):
    """Whatever part of an acceptance arrives, only the whole of it counts."""
    whole = OK[kind]
    faults = [Fault(None, whole[:at], end) for at in cuts(kind, len(whole))]

    for fault, (found, heard) in zip(faults, exchanges(kind, tmp_path, faults), strict=True):
        assert heard.whole
        judge(kind, fault, found, heard)
        assert isinstance(found, Deferred if idempotent(kind) else InDoubt), (kind, fault, found)


@pytest.mark.parametrize("kind", KINDS)
def test_silence_is_in_doubt_or_repeated(tmp_path, kind):
    """In the request, before the answer and within it."""
    octets, whole = request_octets(kind, tmp_path), OK[kind]
    faults = [Fault(octets // 2, end="silence"), Fault(None, end="silence"), Fault(None, whole[:-1], "silence")]

    if kind == "sendgrid":
        faults.pop()
        faults.append(Fault(None, whole[:-3], "silence"))
    for fault, (found, heard) in zip(faults, exchanges(kind, tmp_path, faults, 0.5), strict=True):
        judge(kind, fault, found, heard)
        assert "time-out" in found.reply.text


@pytest.mark.parametrize("kind", KINDS)
def test_garbage_is_no_acceptance_and_no_refusal(tmp_path, kind):
    """What is no answer of the vendor's says nothing about the mail."""
    faults = [Fault(None, garbage) for garbage in GARBAGE]

    for fault, (found, _) in zip(faults, exchanges(kind, tmp_path, faults), strict=True):
        assert not isinstance(found, Sent | Failed), (kind, fault, found)


@pytest.mark.parametrize(
    ("kind", "call"), [(kind, call) for kind, found in BEFORE.items() for call in range(len(found))]
)
@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_fault_of_a_call_that_only_prepares_is_no_doubt(tmp_path, kind, call, end):
    """Cut at every byte, silent or garbage: the message was not asked for yet."""
    whole = BEFORE[kind][call]
    faults = [
        *(Fault(None, whole[:at], end) for at in range(0, len(whole), 7)),
        *(Fault(at, end=end) for at in range(0, 300, 41)),
        *(Fault(None, garbage) for garbage in GARBAGE),
    ]

    for fault, (found, _) in zip(faults, exchanges(kind, tmp_path, faults, call=call), strict=True):
        assert isinstance(found, Deferred), (kind, fault, found)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if idempotent(kind)])
def test_repetition_after_a_lost_answer_has_the_same_key_and_body(tmp_path, kind):
    """So that the vendor carries it out once."""
    asked: list[tuple[bytes, bytes]] = []

    async def main() -> list[Outcome]:
        async def handle(reader, writer, seen) -> None:
            heard = Heard()
            await act(Fault(None, OK[kind] if asked else b""), reader, writer, heard)
            head, _, body = bytes(heard.octets).partition(b"\r\n\r\n")
            key = [line for line in head.split(b"\r\n") if line.lower().startswith(b"idempotency-key:")]
            asked.append((b"".join(key), body))

        async with stub(handle) as (port, _):
            transport = transport_of(kind, tmp_path, port, 20.0)
            try:
                reports = [await transport.deliver(request_for(), CONTENT) for _ in range(2)]
            finally:
                await transport.close()
            return [report.outcomes["rcpt@example.net"] for report in reports]

    first, second = asyncio.run(main())

    assert isinstance(first, Deferred)
    assert isinstance(second, Sent)
    assert asked[0] == asked[1]
    assert asked[0][0] or "idempotencyKey" in json.loads(asked[0][1])["headers"]
