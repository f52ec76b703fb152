"""The HTTP transport against a real server on loopback: what was sent, and what every fault of the exchange means."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import ssl
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from relay.mail.envelope import Envelope, Recipient
from relay.mail.errors import SettingsError
from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Sent
from relay.ports import DeliveryReport, DeliveryRequest, DnsAnswer
from relay.settings import ProviderSettings
from relay.transports.http import ProviderTransport
from relay.transports.http_exchange import parse_retry_after
from relay.transports.http_settings import read_api_key
from relay.transports.providers import build_provider

KEY = "sk_0123456789abcdef"
ACCEPTED = json.dumps([{"to": "rcpt@example.net", "messageId": "m-1", "errorCode": 0, "message": "ok"}]).encode()
SMALL = b"From: a@example.org\r\nTo: rcpt@example.net\r\nSubject: hi\r\n\r\nhello\r\n"


def big(octets: int = 12_000_000) -> bytes:
    """A message whose request is far larger than what the kernel holds between two ends."""
    data = base64.encodebytes(random.Random(1).randbytes(octets)).replace(b"\n", b"\r\n")
    head = b"From: a@example.org\r\nTo: rcpt@example.net\r\nSubject: big\r\nContent-Type: application/x\r\n"
    return head + b"Content-Disposition: attachment; filename=x.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n" + data


def answer(status: str = "200 OK", body: bytes = ACCEPTED, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class FixedClock:
    def now(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 0.0


@dataclass
class Names:
    """A Resolver with the records it is given; counts its questions."""

    records: dict[str, tuple[str, ...]] = field(default_factory=dict)
    asked: int = 0

    async def query(self, name: str, rdtype: str) -> DnsAnswer:
        self.asked += 1
        wanted = self.records.get(name, ())
        return DnsAnswer(tuple(a for a in wanted if (":" in a) == (rdtype == "AAAA")))


@dataclass
class Seen:
    connections: int = 0
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Seen], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader, seen: Seen) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    seen.requests.append((head[0], headers, body))


def answering(*replies: bytes) -> Handler:
    """Read a request, write a reply; the last reply for all further requests."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        while True:
            await read_request(reader, seen)
            writer.write(replies[min(len(seen.requests), len(replies)) - 1])
            await writer.drain()

    return handle


@asynccontextmanager
async def stub(handler: Handler, tls: ssl.SSLContext | None = None):
    seen = Seen()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer, seen)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def settings(tmp_path: Path, port: int, **changes) -> ProviderSettings:
    key = tmp_path / "key"
    key.write_text(KEY + "\n")
    values = {"kind": "sendpost", "api_key_file": key, "base_url": f"http://127.0.0.1:{port}/api/v1"}
    return ProviderSettings(**{**values, "allow_private": True, "timeout": 5.0, **changes})


def transport_of(config: ProviderSettings, names: Names | None = None) -> ProviderTransport:
    return ProviderTransport("sp", config, build_provider("sp", config), FixedClock(), names or Names())


def request_for(*addresses: str) -> DeliveryRequest:
    recipients = tuple(Recipient(address) for address in addresses or ("rcpt@example.net",))
    envelope = Envelope("a@example.org", recipients)
    return DeliveryRequest("id-1", "acme", "a@example.org", recipients, "", envelope)


def run(tmp_path: Path, handler: Handler, content: bytes = SMALL, times: int = 1, *to: str, **changes):
    """Deliver `times` times to a stub; the last report and what the stub saw."""
    reports, seen = run_all(tmp_path, handler, content, times, *to, **changes)
    return reports[-1], seen


def run_all(tmp_path: Path, handler: Handler, content: bytes, times: int, *to: str, **changes):
    async def main() -> tuple[list[DeliveryReport], Seen]:
        async with stub(handler) as (port, seen):
            transport = transport_of(settings(tmp_path, port, **changes))
            try:
                reports = [await transport.deliver(request_for(*to), content) for _ in range(times)]
            finally:
                await transport.close()
            return reports, seen

    return asyncio.run(main())


def outcome(tmp_path: Path, handler: Handler, content: bytes = SMALL, **changes):
    report, _ = run(tmp_path, handler, content, **changes)
    return report.outcomes["rcpt@example.net"]


def test_accepted_message_is_sent_with_its_remote_id(tmp_path):
    """A 200 naming the recipient makes it Sent, and the request carries key, contract and JSON."""
    report, seen = run(tmp_path, answering(answer()))

    found = report.outcomes["rcpt@example.net"]
    line, headers, body = seen.requests[0]
    assert isinstance(found, Sent)
    assert found.remote_id == "m-1"
    assert report.host == "127.0.0.1"
    assert line == "POST /api/v1/subaccount/email/ HTTP/1.1"
    assert headers["x-subaccount-apikey"] == KEY
    assert headers["x-sendpost-public-contract"] == "v1"
    assert headers["accept-encoding"] == "identity"
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["to"] == [{"email": "rcpt@example.net"}]


def test_connections_are_kept_between_deliveries(tmp_path):
    """Two messages in a row travel over one connection."""
    _, seen = run(tmp_path, answering(answer()), SMALL, 2)

    assert (seen.connections, len(seen.requests)) == (1, 2)


def test_refused_connection_defers_the_host(tmp_path):
    """Nobody listens: nothing was sent, so the mail waits."""

    async def main() -> DeliveryReport:
        async with stub(answering(answer())) as (port, _):
            pass
        transport = transport_of(settings(tmp_path, port))
        try:
            return await transport.deliver(request_for(), SMALL)
        finally:
            await transport.close()

    found = asyncio.run(main()).outcomes["rcpt@example.net"]
    assert isinstance(found, Deferred)
    assert Fault.HOST is found.fault


async def close_at_once(reader, writer, seen) -> None:
    writer.transport.abort()


async def close_in_request(reader, writer, seen) -> None:
    await reader.readexactly(200_000)
    writer.transport.abort()


async def close_after_request(reader, writer, seen) -> None:
    await read_request(reader, seen)


async def never_read(reader, writer, seen) -> None:
    await asyncio.sleep(30)


async def never_answer(reader, writer, seen) -> None:
    await read_request(reader, seen)
    await asyncio.sleep(30)


@pytest.mark.parametrize("handler", [close_at_once, close_in_request])
def test_disconnect_before_the_last_byte_defers(tmp_path, handler):
    """A request that cannot have arrived whole was not accepted."""
    found = outcome(tmp_path, handler, big())

    assert isinstance(found, Deferred)
    assert Fault.HOST is found.fault


def test_peer_that_stops_reading_defers(tmp_path):
    """A stalled upload ends after `timeout`, with nothing accepted."""
    found = outcome(tmp_path, never_read, big(), timeout=1.0)

    assert isinstance(found, Deferred)
    assert "time-out" in found.reply.text


def test_disconnect_after_the_last_byte_is_in_doubt(tmp_path):
    """The whole request arrived and no answer came: it may have been accepted."""
    assert isinstance(outcome(tmp_path, close_after_request), InDoubt)
    assert isinstance(outcome(tmp_path, close_after_request, big(2_000_000)), InDoubt)


def test_silence_after_the_last_byte_is_in_doubt(tmp_path):
    """A time-out while waiting for the answer is a doubt, not a failure."""
    found = outcome(tmp_path, never_answer, timeout=1.0)

    assert isinstance(found, InDoubt)
    assert "time-out" in found.reply.text


def test_answer_cut_at_every_byte(tmp_path):
    """Whatever part of an acceptance arrives, only the whole of it counts; everything less is in doubt."""
    whole = answer()

    async def cut_one_byte_later_each_time(reader, writer, seen) -> None:
        await read_request(reader, seen)
        writer.write(whole[: len(seen.requests) - 1])
        await writer.drain()

    reports, _ = run_all(tmp_path, cut_one_byte_later_each_time, SMALL, len(whole) + 1)
    found = [report.outcomes["rcpt@example.net"] for report in reports]

    assert isinstance(found.pop(), Sent)
    assert {InDoubt} == {type(item) for item in found}


def test_cut_refusal_still_counts(tmp_path):
    """A 401 whose body breaks off has said enough."""

    async def handle(reader, writer, seen) -> None:
        await read_request(reader, seen)
        writer.write(answer("401 Unauthorized", b'{"error":{"message":"bad key"}}')[:-10])
        await writer.drain()

    found = outcome(tmp_path, handle)
    assert isinstance(found, Deferred)
    assert Fault.ROUTE is found.fault


def test_slow_answer_is_waited_for(tmp_path):
    """Bytes that trickle in within the time-out are an answer."""

    async def handle(reader, writer, seen) -> None:
        await read_request(reader, seen)
        for byte in answer():
            writer.write(bytes([byte]))
            await writer.drain()

    assert isinstance(outcome(tmp_path, handle), Sent)


def test_429_waits_as_long_as_it_was_told(tmp_path):
    """Retry-After becomes the deferral's own wish."""
    found = outcome(tmp_path, answering(answer("429 Too Many Requests", b"", "Retry-After: 120")))

    assert isinstance(found, Deferred)
    assert (found.fault, found.retry_after) == (Fault.HOST, 120.0)


@pytest.mark.parametrize(
    ("kind", "header"),
    [
        ("brevo", "x-sib-ratelimit-reset: 120"),
        ("resend", "ratelimit-reset: 120"),
        ("sendarix", "X-RateLimit-Reset: 1800000120"),
        ("sendgrid", "X-RateLimit-Reset: 1800000120"),
    ],
)
def test_429_waits_until_the_vendors_own_header_says(tmp_path, kind, header):
    """In seconds from now, or since the epoch."""
    found = outcome(tmp_path, answering(answer("429 Too Many Requests", b"{}", header)), kind=kind)

    assert isinstance(found, Deferred)
    assert (found.fault, found.retry_after) == (Fault.HOST, 120.0)


@pytest.mark.parametrize(
    ("status", "kind", "fault", "code"),
    [
        ("500 Internal Server Error", Deferred, Fault.MESSAGE, "451 4.3.0"),
        ("503 Service Unavailable", Deferred, Fault.HOST, "451 4.3.2"),
        ("401 Unauthorized", Deferred, Fault.ROUTE, "451 4.7.0"),
        ("403 Forbidden", Deferred, Fault.ROUTE, "451 4.7.0"),
        ("404 Not Found", Deferred, Fault.ROUTE, "451 4.3.5"),
        ("406 Not Acceptable", Deferred, Fault.ROUTE, "451 4.3.5"),
        ("418 Teapot", Deferred, Fault.MESSAGE, "451 4.3.0"),
        ("504 Gateway Timeout", InDoubt, None, "451 4.4.2"),
    ],
)
def test_status_decides_whose_fault_it_is(tmp_path, status, kind, fault, code):
    """Every refusal that may pass keeps the mail."""
    found = outcome(tmp_path, answering(answer(status, b"sorry")))

    assert isinstance(found, kind)
    assert fault is getattr(found, "fault", None)
    assert str(found.reply).startswith(code)


@pytest.mark.parametrize("said", [answer("504 Gateway Timeout", b"sorry"), answer(body=b"{}")], ids=["504", "no id"])
def test_what_a_vendor_that_carries_out_a_call_once_leaves_open_is_asked_of_it_again(tmp_path, said):
    """Nobody else may have the mail meanwhile."""
    found = outcome(tmp_path, answering(said), kind="resend")

    assert isinstance(found, Deferred)
    assert found.repeats


@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable Entity"])
def test_refused_content_may_go_elsewhere(tmp_path, status):
    """The vendor's words reach the sender; another candidate may still carry the mail."""
    body = b'{"error":{"code":"validation_error","message":"bad\\r\\nthing","details":[{"field":"to","message":"no"}]}}'
    found = outcome(tmp_path, answering(answer(status, body)))

    assert isinstance(found, Failed)
    assert found.elsewhere
    assert "bad thing; to: no" in found.reply.text


def test_redirect_is_not_followed(tmp_path):
    """A 302, even to ourselves, is a wrong base_url: the route rests and the key goes nowhere else."""
    report, seen = run(tmp_path, answering(answer("302 Found", b"", "Location: /elsewhere")))

    found = report.outcomes["rcpt@example.net"]
    assert len(seen.requests) == 1
    assert isinstance(found, Deferred)
    assert Fault.ROUTE is found.fault


@pytest.mark.parametrize("body", [b"<html>ok</html>", b"", b"[" * 100_000, b'{"hello": 1}', b"\xff\xfe", b'[1, "x"]'])
def test_200_that_is_no_result_list_is_in_doubt(tmp_path, body):
    """A success nobody can read is no success."""
    assert isinstance(outcome(tmp_path, answering(answer(body=body))), InDoubt)


def test_answer_beyond_the_limit_is_in_doubt(tmp_path):
    """An endless body is not read to its end."""
    assert isinstance(outcome(tmp_path, answering(answer(body=b" " * 1_100_000 + ACCEPTED))), InDoubt)


def test_key_in_the_answer_is_not_quoted(tmp_path):
    """A vendor that echoes the key does not make us print it."""
    found = outcome(tmp_path, answering(answer("422 No", f'{{"message":"no such key {KEY}!"}}'.encode())))

    assert "no such key [api key]!" in found.reply.text
    assert KEY not in str(found)


def test_split_message_stops_at_the_first_refused_key(tmp_path):
    """501 hidden recipients are two calls; after a 401 the second is not made, and everybody waits."""
    addresses = [f"r{n}@example.net" for n in range(501)]
    report, seen = run(tmp_path, answering(answer("401 Unauthorized", b"")), SMALL, 1, *addresses)

    assert len(seen.requests) == 1
    assert set(addresses) == set(report.outcomes)
    assert {Fault.ROUTE} == {item.fault for item in report.outcomes.values()}


def test_split_message_reaches_everybody_once(tmp_path):
    """501 hidden recipients arrive in two calls, each address in one place."""
    addresses = [f"r{n}@example.net" for n in range(501)]
    bodies = [
        json.dumps([{"to": a, "messageId": "m", "errorCode": 0} for a in part]).encode()
        for part in (addresses[:500], addresses[500:])
    ]
    report, seen = run(tmp_path, answering(*(answer(body=body) for body in bodies)), SMALL, 1, *addresses)

    sent = [entry["email"] for _, _, body in seen.requests for entry in json.loads(body)["to"]]
    assert addresses == sent
    assert {Sent} == {type(item) for item in report.outcomes.values()}


def test_unreadable_message_is_refused_without_a_call(tmp_path):
    """What cannot be taken apart fails here and may go elsewhere."""
    broken = b"From: a@example.org\r\nContent-Type: multipart/mixed\r\n\r\nx\r\n"
    report, seen = run(tmp_path, answering(answer()), broken)

    found = report.outcomes["rcpt@example.net"]
    assert seen.connections == 0
    assert isinstance(found, Failed)
    assert found.elsewhere
    assert str(found.reply).startswith("550 5.6.0")


def test_proxy_of_the_environment_is_not_used(tmp_path, monkeypatch):
    """HTTP_PROXY is somebody else's setting."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert isinstance(outcome(tmp_path, answering(answer())), Sent)


# --- names, addresses, TLS ---------------------------------------------------------------------------------


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("192.0.2.1", "10.0.0.1"), ("::ffff:127.0.0.1",)])
def test_private_address_of_a_name_is_not_connected_to(tmp_path, addresses):
    """One address that is not public refuses the name, whatever the others are."""

    async def main():
        async with stub(answering(answer())) as (port, seen):
            names = Names({"api.example": addresses})
            config = settings(tmp_path, port, base_url=f"https://api.example:{port}/api/v1", allow_private=False)
            transport = transport_of(config, names)
            try:
                report = await transport.deliver(request_for(), SMALL)
            finally:
                await transport.close()
            return report.outcomes["rcpt@example.net"], seen.connections

    found, connections = asyncio.run(main())
    assert connections == 0
    assert isinstance(found, Deferred)
    assert Fault.ROUTE is found.fault
    assert not any(address in found.reply.text for address in addresses)


def tls_pair(names: tuple[str, ...], tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return context, file


def over_tls(tmp_path: Path, certificate_for: str, ca_file: Path | None = None):
    context, own_ca = tls_pair((certificate_for,), tmp_path)

    async def main():
        async with stub(answering(answer()), context) as (port, _):
            names = Names({"api.example": ("127.0.0.1",)})
            base_url = f"https://api.example:{port}/api/v1"
            transport = transport_of(settings(tmp_path, port, base_url=base_url, ca_file=ca_file or own_ca), names)
            try:
                report = await transport.deliver(request_for(), SMALL)
            finally:
                await transport.close()
            return report, names.asked

    return asyncio.run(main())


def test_tls_with_our_ca(tmp_path):
    """The name is resolved once, the certificate is checked against it, and the report says what was negotiated."""
    report, asked = over_tls(tmp_path, "api.example")

    assert isinstance(report.outcomes["rcpt@example.net"], Sent)
    assert (report.tls.version, asked) == ("TLSv1.3", 2)


def test_certificate_of_another_name_defers(tmp_path):
    """No key and no mail goes to somebody else's certificate."""
    report, _ = over_tls(tmp_path, "other.example")

    found = report.outcomes["rcpt@example.net"]
    assert isinstance(found, Deferred)
    assert "TLS failed" in found.reply.text


def test_unknown_authority_defers(tmp_path):
    """A certificate nobody vouches for is refused."""
    other = tmp_path / "other"
    other.mkdir()
    _, file = tls_pair(("x.example",), other)
    report, _ = over_tls(tmp_path, "api.example", file)

    assert "TLS failed" in report.outcomes["rcpt@example.net"].reply.text


# --- settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " \n", "two words", "k\u00e9y"])
def test_bad_key_file_is_named(tmp_path, text):
    """The operator is told which file and what to write, and never sees its content."""
    file = tmp_path / "key"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(SettingsError, match=r"provider\.sp\.api_key_file: .*key .*write"):
        read_api_key("sp", file)


def test_missing_key_file_is_named(tmp_path):
    """A file that is not there is named with the setting."""
    with pytest.raises(SettingsError, match=r"provider\.sp\.api_key_file: cannot read .*nowhere"):
        read_api_key("sp", tmp_path / "nowhere")


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.example/v1", "ftp://api.example", "https://user@api.example", "https://api.example/?x=1",
        "https://127.0.0.1/v1", "https://[::1]/v1", "https://2130706433/v1", "https://[64:ff9b::7f00:1]/", "nonsense",
    ],
)  # fmt: skip
def test_bad_base_url_is_refused_at_start(tmp_path, base_url):
    """Clear text, credentials in the URL and private literals are found before any mail is."""
    config = settings(tmp_path, 1, base_url=base_url, allow_private=False)

    with pytest.raises(SettingsError, match=r"provider\.sp\.base_url: "):
        transport_of(config)


def test_bad_ca_file_is_refused_at_start(tmp_path):
    """A CA file without a certificate is named."""
    file = tmp_path / "ca"
    file.write_text("nothing")

    with pytest.raises(SettingsError, match=r"provider\.sp\.ca_file: cannot use .*PEM"):
        transport_of(settings(tmp_path, 1, base_url="https://api.example", ca_file=file))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0), ("1", 30.0), ("999999", 14_400.0), ("9" * 60, 14_400.0), ("", None), ("soon", None),
        ("-5", None), ("\u0663\u0663", None), ("Fri, 15 Jan 2027 08:05:00 GMT", 300.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 30.0), ("Fri, 99 Jan 2027 07:00:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_read_and_clamped(value, seconds):
    """Seconds or a date, between 30 seconds and 4 hours; nonsense is nothing (now is 2027-01-15 08:00 GMT)."""
    assert seconds == parse_retry_after(value, 1_800_000_000.0)
