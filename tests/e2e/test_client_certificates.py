"""AUTH EXTERNAL against a whole server, in both versions of TLS: whose certificate lets in, and whose does not."""

from __future__ import annotations

import smtplib
import ssl
from pathlib import Path

import pytest
import trustme
from http_stub import until
from sandbox_server import Server, relay

from relay.auth.passwords import hash_password
from relay.mail.session import SenderRights
from relay.ports import SystemClock
from relay.store.registry_admin import RegistryAdmin

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Clients:
    """A CA of clients, and somebody else's."""

    def __init__(self, folder: Path) -> None:
        self.ours, self.others = trustme.CA(), trustme.CA()
        self.ca_file = folder / "clients-ca.pem"
        self.ours.cert_pem.write_to_path(self.ca_file)


@pytest.fixture
def clients(tmp_path: Path, server: Server) -> Clients:
    """Every port asks for their certificates."""
    made = Clients(tmp_path)
    text = server.config.read_text().replace("[[listener]]", f'[[listener]]\nclient_ca = "{made.ca_file}"')
    server.config.write_text(text)
    with RegistryAdmin.open(server.var, SystemClock()) as admin:
        for username, name in (("printer", "dns:printer.example"), ("robot", "email:robot@example.com")):
            admin.add_credential(username, None, hash_password("nobody knows it"), SenderRights())
            assert admin.add_certificate(name, username)
    server.start()
    return made


def _context(server: Server, version: ssl.TLSVersion, certificate: trustme.LeafCert | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=server.facts["ca_file"])
    context.minimum_version = context.maximum_version = version
    if certificate is not None:
        certificate.configure_cert(context)
    return context


def _session(server: Server, context: ssl.SSLContext, port: int = 1587) -> smtplib.SMTP:
    """By `localhost`, so that a name is asked for, as clients do."""
    if port == 1465:
        return smtplib.SMTP_SSL("localhost", port + server.offset, "client.example", context=context, timeout=60)
    client = smtplib.SMTP("localhost", port + server.offset, "client.example", timeout=60)
    client.starttls(context=context)
    return client


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_of_ours_logs_in_as_its_credential(
    server: Server, clients: Clients, version: ssl.TLSVersion
) -> None:
    context = _context(server, version, clients.ours.issue_cert("printer.example"))
    for port in (1587, 1465):
        with _session(server, context, port) as client:
            client.ehlo()
            assert client.esmtp_features["auth"].split()[-1] == "EXTERNAL"
            assert client.docmd("AUTH", "EXTERNAL cm9ib3Q=")[0] == 535
            assert client.docmd("AUTH", "EXTERNAL =")[0] == 235
            client.sendmail("printer@example.com", ["bob@example.com"], "Subject: by certificate\r\n\r\nHello\r\n")
    assert '"username":"printer"' in server.log


@pytest.mark.parametrize("version", VERSIONS)
def test_without_one_or_with_one_nobody_knows_a_client_logs_in_otherwise(
    server: Server, clients: Clients, version: ssl.TLSVersion
) -> None:
    for certificate in (None, clients.ours.issue_cert("other.example")):
        with _session(server, _context(server, version, certificate)) as client:
            client.ehlo()
            assert "EXTERNAL" not in client.esmtp_features["auth"].split()
            assert client.docmd("AUTH", "EXTERNAL =")[0] == 504
            client.login(server.facts["username"], server.facts["password"])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_of_another_ca_ends_the_connection(
    server: Server, clients: Clients, version: ssl.TLSVersion
) -> None:
    """In TLS 1.3 the client learns of it after its own handshake is over."""
    context = _context(server, version, clients.others.issue_cert("printer.example"))
    with pytest.raises((ssl.SSLError, OSError, smtplib.SMTPException)):
        _session(server, context).ehlo_or_helo_if_needed()


def test_a_name_that_is_taken_away_logs_in_no_more_and_a_session_is_not_resumed(
    server: Server, clients: Clients
) -> None:
    context = _context(server, ssl.TLSVersion.TLSv1_3, clients.ours.issue_cert("printer.example"))
    with _session(server, context) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        client.ehlo()
        assert client.sock.session is None or not client.sock.session.has_ticket
    with RegistryAdmin.open(server.var, SystemClock()) as admin:
        assert admin.remove_certificate("dns:printer.example")

    def refused() -> bool:
        with _session(server, context) as client:
            return bool(client.docmd("EHLO", "x")) and client.docmd("AUTH", "EXTERNAL =")[0] == 504

    until(refused, server)


def test_a_ca_file_that_cannot_be_used_is_told_before_the_start(server: Server, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name, words in (("empty.pem", "no PEM certificate in it"), ("none.pem", "No such file")):
        text = server.config.read_text()
        server.config.write_text(text.replace("[[listener]]", f'[[listener]]\nclient_ca = "{tmp_path / name}"', 1))
        done = relay("--config", server.config, "check-config")
        server.config.write_text(text)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert words in done.stderr
        assert "client_ca" in done.stderr
