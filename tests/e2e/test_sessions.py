"""`relay sessions` against a running server: a client that cannot send, and what its operator is told."""

from __future__ import annotations

import json
import smtplib
import ssl
import time
from typing import Any

import pytest
from sandbox_server import Server, relay


def sessions(server: Server, *arguments: str) -> tuple[int, Any]:
    """Exit code and JSON of a verb."""
    done = relay("--config", server.config, "sessions", *arguments, "--json")
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def distrust(server: Server) -> None:
    with smtplib.SMTP("127.0.0.1", 1587 + server.offset, "printer.example", timeout=60) as client:
        with pytest.raises(ssl.SSLCertVerificationError):
            client.starttls(context=ssl.create_default_context())
        client.close()


def test_a_client_that_distrusts_the_certificate_is_listed_and_shown_with_what_to_change(server: Server) -> None:
    server.start()
    with server.client():
        pass
    distrust(server)
    distrust(server)

    code, answer = sessions(server, "list")

    (one,) = [each for each in answer["sessions"] if each["findings"][0]["symptom"] == "certificate_refused"]
    assert (code, one["times"], one["peer"], one["listener"]) == (0, 2, "127.0.0.1", "submission")
    assert "transcript" not in one
    code, shown = sessions(server, "show", one["id"])
    assert code == 0
    assert "C: EHLO printer.example" in shown["transcript"]
    assert shown["transcript"][-1] == "-- TLS handshake failed (tlsv1 alert unknown ca) --"
    people = relay("--config", server.config, "sessions", "show", one["id"]).stdout
    assert "certificate_refused: It got our certificate and does not trust it" in people
    assert "change: Give the server a certificate" in people
    assert sessions(server, "list", "--symptom", "http")[1] == {"sessions": []}
    assert sessions(server, "list", "--peer", "192.0.2.1")[1] == {"sessions": []}
    assert sessions(server, "show", "0-999")[0] == 1
    assert sessions(server, "show", "../../route")[0] == 1
    server.stop()
    code, words = sessions(server, "list")
    assert code == 2
    assert "the server does not run" in words


def test_what_was_tolerated_is_shown_with_who_needs_it(server: Server) -> None:
    server.configure('name = "alternate"', 'name = "alternate"\ntolerate = ["no_brackets", "bad_helo"]')
    server.start()
    with smtplib.SMTP("127.0.0.1", 2525 + server.offset, "my scale", timeout=60) as client:
        client.ehlo()
        client.docmd("MAIL", "FROM:a@b.example")
    code, answer = sessions(server, "devices")
    assert code == 0
    assert [(one["what"], one["listener"], one["times"]) for one in answer["devices"]] == [
        ("no_brackets", "alternate", 1),
        ("bad_helo", "alternate", 1),
    ]
    people = relay("--config", server.config, "sessions", "devices").stdout
    assert "no_brackets        alternate  127.0.0.1  -  my scale" in people
    metrics = server.get("/metrics").decode()
    assert 'relay_tolerated_total{listener="alternate",what="no_brackets"} 1.0' in metrics


def test_a_credential_gets_its_own_tolerance_while_the_server_runs(server: Server) -> None:
    server.start()
    with server.client() as client:
        assert client.docmd("MAIL", "FROM:app@sandbox.example")[0] == 501
    done = relay("--config", server.config, "credential", "tolerate", server.facts["username"], "no_brackets")
    assert done.returncode == 0, done.stderr
    end = time.monotonic() + 60
    answer = 0
    while answer != 250 and time.monotonic() < end:
        with server.client() as client:
            answer = client.docmd("MAIL", "FROM:app@sandbox.example")[0]
    assert answer == 250
    (need,) = sessions(server, "devices")[1]["devices"]
    assert (need["what"], need["username"], need["listener"]) == ("no_brackets", server.facts["username"], "submission")
    assert relay("--config", server.config, "credential", "tolerate", "scale", "old_tls").returncode == 2
    assert relay("--config", server.config, "credential", "tolerate", "scale").returncode == 1
