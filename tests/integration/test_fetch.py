"""The guarded fetcher against a real server on loopback: what it reads, and what it does not."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from relay.mail.errors import SettingsError
from relay.ports import DnsAnswer
from relay.transports.fetch import GuardedFetcher

NAME = "login.example"


class Names:
    """Everything is on loopback."""

    async def query(self, name: str, rdtype: str) -> DnsAnswer:
        return DnsAnswer(("127.0.0.1",) if rdtype == "A" else ())


def fetch(
    tmp_path: Path, answer: bytes, *, allow_private: bool = True, certificate: str = NAME, host: str = NAME
) -> tuple[bytes, list[str]]:
    """The body, and the request lines the server saw."""
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(certificate).configure_cert(tls)
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.decode().partition("\r\n")[0])
        try:
            writer.write(answer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except (OSError, ssl.SSLError):
            pass

    async def run() -> bytes:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        async with server:
            port = server.sockets[0].getsockname()[1]
            fetcher = GuardedFetcher("issuer.main.ca_file", ca_file, Names(), allow_private=allow_private)
            return await fetcher.get(f"https://{host}:{port}/keys?a=b")

    return asyncio.run(run()), seen


def _ok(body: bytes, length: int | None = None) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body) if length is None else length, body)


def test_a_document_is_read_from_where_it_is(tmp_path: Path) -> None:
    assert fetch(tmp_path, _ok(b'{"keys": []}')) == (b'{"keys": []}', ["GET /keys?a=b HTTP/1.1"])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1/x\r\nContent-Length: 0\r\n\r\n", "answers 302"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answers 404"),
        (_ok(b"x" * 262_145), "longer than"),
        (_ok(b"{}", 100), "login.example"),
        (b"not HTTP\r\n\r\n", "login.example"),
        (b"", "login.example"),
    ],
)
def test_anything_but_a_whole_200_is_an_error_with_its_address(tmp_path: Path, answer: bytes, words: str) -> None:
    """A redirect too: it would lead where nobody checked."""
    with pytest.raises(OSError, match=words):
        fetch(tmp_path, answer)


def test_a_private_address_is_not_connected_to(tmp_path: Path) -> None:
    """The one guard against requests that a name leads inside."""
    for host in (NAME, "127.0.0.1"):
        with pytest.raises(OSError, match="no public address"):
            fetch(tmp_path, _ok(b"{}"), allow_private=False, certificate=host, host=host)


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="certificate"):
        fetch(tmp_path, _ok(b"{}"), certificate="other.example")


def test_a_ca_file_that_cannot_be_used_is_told_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(SettingsError, match=r"issuer\.main\.ca_file: cannot use .*; name a PEM file"):
            GuardedFetcher("issuer.main.ca_file", tmp_path / name, Names(), allow_private=False)
