"""SCRAM against a whole server: a registry from before, a login by PLAIN, then another implementation by SCRAM."""

from __future__ import annotations

import hashlib
import smtplib
import sqlite3
import ssl
import time
from base64 import b64decode, b64encode

import pytest
from sandbox_server import Server
from scramp import ScramClient


def _connected(server: Server, port: int = 1587) -> smtplib.SMTP:
    context = ssl.create_default_context(cafile=server.facts["ca_file"])
    if port == 1465:
        return smtplib.SMTP_SSL("127.0.0.1", port + server.offset, "client.example", context=context, timeout=60)
    client = smtplib.SMTP("127.0.0.1", port + server.offset, "client.example", timeout=60)
    client.starttls(context=context)
    return client


def _log_in(client: smtplib.SMTP, username: str, password: str, binding: bytes = b"") -> tuple[int, bytes]:
    """By scramp, which checks that the server knows the password."""
    name = "SCRAM-SHA-256-PLUS" if binding else "SCRAM-SHA-256"
    bound = ("tls-server-end-point", binding) if binding else None
    scram = ScramClient([name], username, password, channel_binding=bound)
    code, challenge = client.docmd("AUTH", f"{name} {b64encode(scram.get_client_first().encode()).decode()}")
    assert code == 334
    scram.set_server_first(b64decode(challenge).decode())
    code, answer = client.docmd(b64encode(scram.get_client_final().encode()).decode())
    if code != 334:
        return code, answer
    scram.set_server_final(b64decode(answer).decode())
    return client.docmd("")


def _certificate_digest(client: smtplib.SMTP) -> bytes:
    assert isinstance(client.sock, ssl.SSLSocket)
    certificate = client.sock.getpeercert(binary_form=True)
    assert certificate is not None
    return hashlib.sha256(certificate).digest()


def _mechanisms(client: smtplib.SMTP) -> list[str]:
    client.ehlo()
    return client.esmtp_features["auth"].split()


def test_a_login_by_plain_makes_scram_possible_from_then_on(server: Server) -> None:
    """As after an upgrade: no credential has a verifier yet."""
    with sqlite3.connect(server.var / "registry.db") as registry:
        registry.execute("UPDATE credential SET scram = NULL")
    registry.close()
    server.start()
    facts = server.facts
    with _connected(server) as client:
        assert _mechanisms(client) == ["PLAIN", "LOGIN"]
        client.login(facts["username"], facts["password"])
    for _ in range(600):
        with _connected(server) as client:
            if "SCRAM-SHA-256" in _mechanisms(client):
                assert _log_in(client, facts["username"], facts["password"])[0] == 235
                client.sendmail(facts["username"], ["bob@example.com"], "Subject: by SCRAM\r\n\r\nHello\r\n")
                break
        time.sleep(0.1)
    else:
        pytest.fail(f"SCRAM is not offered\n{server.log}")


@pytest.mark.parametrize("port", [1587, 1465])
def test_plus_ties_the_login_to_the_certificate_the_client_sees(running: Server, port: int) -> None:
    """Inside STARTTLS and inside implicit TLS; over another certificate it fails."""
    facts = running.facts
    with _connected(running, port) as client:
        assert "SCRAM-SHA-256-PLUS" in _mechanisms(client)
        digest = _certificate_digest(client)
        assert _log_in(client, facts["username"], facts["password"], bytes(32))[0] == 535
        assert _log_in(client, facts["username"], "wrong", digest)[0] == 535
        assert _log_in(client, "nobody", facts["password"], digest)[0] == 535
        assert _log_in(client, facts["username"], facts["password"], digest) == (
            235,
            b"2.7.0 Authentication successful",
        )
