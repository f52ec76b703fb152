"""Signals: SIGTERM drains, SIGHUP takes over new certificates and keys, and no session is lost by either."""

from __future__ import annotations

import signal
import smtplib
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from sandbox_server import Server, relay

from relay.cli.certificates import make_certificates


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_sigterm_ends_idle_sessions_with_421_and_keeps_what_waits(running: Server) -> None:
    sender = running.facts["username"]
    with closing(running.client()) as client:
        client.sendmail(sender, ["451@shop.example"], f"From: {sender}\r\nSubject: later\r\n\r\nx\r\n")
        assert running.stop() == 0
        assert client.file is not None
        assert client.file.readline().startswith(b"421 4.3.2 ")
    running.start()
    listed = relay("--config", running.config, "queue", "list", "--json")
    assert "451@shop.example" in listed.stdout


def test_sigterm_lets_a_transaction_end_before_it_says_421(running: Server) -> None:
    sender = running.facts["username"]
    with closing(running.client()) as client:
        client.mail(sender)
        client.rcpt("anna@shop.example")
        assert client.docmd("DATA")[0] == 354
        assert running.process is not None
        running.process.send_signal(signal.SIGTERM)
        until(lambda: not listens(running))
        client.send(f"From: {sender}\r\nSubject: just in time\r\n\r\nx\r\n.\r\n".encode())
        code, text = client.getreply()
        assert code == 250, text
        assert client.getreply()[0] == 421
    running.process.wait(30)
    running.process = None
    running.start()
    running.arrived("anna@shop.example")


def listens(server: Server) -> bool:
    """It is no longer so once SIGTERM has been heard."""
    try:
        socket.create_connection(("127.0.0.1", 1587 + server.offset), timeout=60).close()
    except ConnectionRefusedError:
        return False
    return True


def served_certificate(server: Server) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", 1465 + server.offset), timeout=60) as plain,
        context.wrap_socket(plain) as secured,
    ):
        certificate = secured.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_serves_a_new_certificate_and_keeps_sessions(server: Server, workers: int) -> None:
    server.configure("workers = 1", f"workers = {workers}")
    server.start()
    before = served_certificate(server)
    with closing(server.client()) as client:
        _renew(server)
        until(lambda: server.log.count('"event":"reloaded"') == workers)
        assert served_certificate(server) != before
        sender = server.facts["username"]
        client.sendmail(sender, ["anna@shop.example"], f"From: {sender}\r\nSubject: kept\r\n\r\nx\r\n")
    server.arrived("anna@shop.example")


def _renew(server: Server) -> None:
    for name in ("server.pem", "server.key", "ca.pem"):
        (server.var / "certs" / name).unlink()
    make_certificates(server.var / "certs", ["localhost", "127.0.0.1"])
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)


def test_a_certificate_that_cannot_be_read_leaves_the_old_in_force(running: Server) -> None:
    before = served_certificate(running)
    (running.var / "certs" / "server.pem").write_text("no certificate")
    assert running.process is not None
    running.process.send_signal(signal.SIGHUP)
    until(lambda: '"event":"reload_failed"' in running.log)
    assert served_certificate(running) == before


def test_a_credential_added_rotated_or_disabled_counts_without_a_restart(running: Server) -> None:
    options = ("--config", running.config, "credential")
    done = relay(*options, "add", "shop@sandbox.example", "--sender-domain", "shop.example")
    assert done.returncode == 0, done.stderr
    password = done.stdout.strip()

    def login() -> bool:
        with closing(smtplib.SMTP("127.0.0.1", 1587 + running.offset, timeout=60)) as client:
            client.starttls(context=ssl.create_default_context(cafile=running.facts["ca_file"]))
            try:
                client.login("shop@sandbox.example", password)
            except smtplib.SMTPAuthenticationError:
                return False
            code, text = client.mail("other@sandbox.example")
            if code == 421:
                return False  # disabled since the login
            assert (code, text[:5]) == (550, b"5.7.1")
            assert client.mail("anna@shop.example")[0] == 250
            return True

    until(login)
    with closing(smtplib.SMTP("127.0.0.1", 1587 + running.offset, timeout=60)) as early:
        early.starttls(context=ssl.create_default_context(cafile=running.facts["ca_file"]))
        early.login("shop@sandbox.example", password)
        assert relay(*options, "disable", "shop@sandbox.example").returncode == 0
        until(lambda: not login())
        assert early.mail("anna@shop.example")[0] == 421, "nor does an open session send any more"
