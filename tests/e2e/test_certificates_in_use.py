"""Certificates of a running server: chosen by name, and followed by every worker when their files change."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import signal
import smtplib
import socket
import ssl
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trustme
from sandbox_server import Server, relay
from test_reload import add, letter
from test_signals import until

AUTHORITY = trustme.CA()


def write(folder: Path, *names: str, days: float = 90) -> None:
    made = AUTHORITY.issue_cert(*names, not_after=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days))
    chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
    for end, data in (("pem", chain), ("key", made.private_key_pem.bytes())):
        new = folder / f"new.{end}"
        new.write_bytes(data)
        new.replace(folder / f"shop.{end}")


def certificate_for(server: Server, name: str, *, starttls: bool) -> list[Any]:
    """The names on the certificate of who asks for `name`."""
    context = ssl.create_default_context(cafile=server.facts["ca_file"])
    AUTHORITY.configure_trust(context)
    with socket.create_connection(("127.0.0.1", (1587 if starttls else 1465) + server.offset), timeout=60) as plain:
        if starttls:
            lines = plain.makefile("rb")
            lines.readline()
            plain.sendall(b"STARTTLS\r\n")
            assert lines.readline().startswith(b"220 ")
        with context.wrap_socket(plain, server_hostname=name) as secured:
            found = secured.getpeercert()
    assert found is not None
    return [value for _, value in found["subjectAltName"]]


@pytest.fixture
def shop(server: Server) -> Server:
    """With a second certificate and two workers."""
    write(server.var / "certs", "shop.example")
    server.configure("workers = 1", "workers = 2")
    files = {end: server.var / "certs" / f"shop.{end}" for end in ("pem", "key")}
    add(server, f'\n[tls]\ncheck_interval = 0.2\n[[tls.certificates]]\ncertificate = "{files["pem"]}"\n')
    add(server, f'key = "{files["key"]}"\n')
    server.start()
    return server


@pytest.mark.parametrize("starttls", [False, True], ids=["implicit", "starttls"])
def test_the_name_that_is_asked_for_chooses_the_certificate(shop: Server, starttls: bool) -> None:
    assert certificate_for(shop, "shop.example", starttls=starttls) == ["shop.example"]
    assert "localhost" in certificate_for(shop, "localhost", starttls=starttls)


def test_a_renewed_file_is_served_by_every_worker_and_sessions_go_on(shop: Server) -> None:
    sender = shop.facts["username"]
    with closing(shop.client()) as client:
        write(shop.var / "certs", "shop.example", "new.shop.example")
        until(lambda: shop.log.count('"event":"certificate_loaded"') == 2)
        for _ in range(8):
            assert certificate_for(shop, "new.shop.example", starttls=False) == ["shop.example", "new.shop.example"]
        client.sendmail(sender, ["anna@shop.example"], letter(sender, "kept"))
    shop.arrived("anna@shop.example")
    assert shop.get("/metrics").count(b"relay_certificate_expiry_timestamp_seconds{") == 2


def test_a_broken_file_is_told_of_and_the_certificate_stays(shop: Server) -> None:
    (shop.var / "certs" / "shop.key").write_text("no key")
    until(lambda: shop.log.count('"event":"certificate_refused"') == 2)
    assert certificate_for(shop, "shop.example", starttls=True) == ["shop.example"]


def test_one_worker_says_what_expires_soon_and_so_does_the_verb(shop: Server) -> None:
    write(shop.var / "certs", "shop.example", days=3.5)
    until(lambda: '"event":"certificate_expires"' in shop.log)
    until(lambda: shop.log.count('"event":"certificate_loaded"') == 2)
    done = relay("--config", shop.config, "cert")
    assert done.returncode == 1
    assert "shop.pem expires in 3 days" in done.stderr
    assert shop.log.count('"event":"certificate_expires"') == 1


def test_a_name_that_is_no_text_ends_that_handshake_and_is_one_line_of_the_log(shop: Server) -> None:
    to_server = ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), to_server, server_hostname="shop.example")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    with socket.create_connection(("127.0.0.1", 1465 + shop.offset), timeout=60) as connection:
        connection.sendall(to_server.read().replace(b"shop.example", b"sh\xff\n.example"))
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100)[:1] in (b"", b"\x15")
    until(lambda: '"event":"tls_name_refused"' in shop.log)
    assert "Traceback" not in shop.log
    with closing(smtplib.SMTP("127.0.0.1", 1587 + shop.offset, timeout=60)) as client:
        assert client.ehlo()[0] == 250


def test_a_ticket_of_one_worker_is_good_at_the_other(shop: Server) -> None:
    context = ssl.create_default_context(cafile=shop.facts["ca_file"])
    until(lambda: shop.log.count('"event":"server_started"') == 2)
    started = [json.loads(line) for line in shop.log.splitlines() if '"event":"server_started"' in line]
    workers = [line["pid"] for line in started]

    def connect(halted: int, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
        """To the worker that is not halted; `session` has to be good there."""
        os.kill(halted, signal.SIGSTOP)
        try:
            with (
                socket.create_connection(("127.0.0.1", 1465 + shop.offset), timeout=60) as plain,
                context.wrap_socket(plain, server_hostname="localhost", session=session) as secured,
            ):
                assert secured.recv(3) == b"220"
                assert secured.session_reused is (session is not None)
                return secured.session
        finally:
            os.kill(halted, signal.SIGCONT)

    session = connect(workers[0], None)
    connect(workers[1], session)
