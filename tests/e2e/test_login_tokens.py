"""Tokens against a whole server: keys over https, a key that is new, a credential that is switched off."""

from __future__ import annotations

import base64
import json
import smtplib
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from sandbox_server import Server, relay

ISSUER = "https://login.example.com"


class Provider:
    """Signs tokens, and publishes `keys` over https."""

    def __init__(self, folder: Path) -> None:
        self.asked = 0
        self.keys: list[dict[str, Any]] = []
        self.ca_file = folder / "provider-ca.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                body = json.dumps({"keys": provider.keys}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
        self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}/keys"

    def new_key(self, kid: str) -> ec.EllipticCurvePrivateKey:
        key = ec.generate_private_key(ec.SECP256R1())
        self.keys.append({**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid})
        return key


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    one = Provider(tmp_path)
    thread = threading.Thread(target=one.server.serve_forever, args=(0.05,))
    thread.start()
    yield one
    one.server.shutdown()
    thread.join()
    one.server.server_close()


def _token(key: ec.EllipticCurvePrivateKey, kid: str, **claims: Any) -> str:
    given = {"iss": ISSUER, "aud": "smtp", "sub": "robot", "exp": time.time() + 300, **claims}
    return jwt.encode(given, key, algorithm="ES256", headers={"kid": kid})


def _log_in(server: Server, mechanism: str, token: str) -> tuple[int, bytes]:
    context = ssl.create_default_context(cafile=server.facts["ca_file"])
    with smtplib.SMTP("127.0.0.1", 1587 + server.offset, "client.example", timeout=60) as client:
        client.starttls(context=context)
        client.ehlo()
        assert mechanism in client.esmtp_features["auth"].split()
        head = "user=robot" if mechanism == "XOAUTH2" else "n,,"
        response = base64.b64encode(f"{head}\1auth=Bearer {token}\1\1".encode()).decode()
        code, answer = client.docmd("AUTH", f"{mechanism} {response}")
        if code == 334:
            assert json.loads(base64.b64decode(answer))["status"] in ("401", "invalid_token")
            code, answer = client.docmd("AQ==")
        if code == 235:
            client.sendmail("robot@example.com", ["bob@example.com"], "Subject: by a token\r\n\r\nHello\r\n")
        return code, answer


def test_a_token_lets_in_until_its_credential_is_disabled(server: Server, provider: Provider) -> None:
    """Keys come over https once; what was refused stands in the log without the token."""
    key = provider.new_key("k1")
    with server.config.open("a") as config:
        config.write(
            f'\n[issuer.main]\nissuer = "{ISSUER}"\naudience = ["smtp"]\njwks_url = "{provider.url}"\n'
            f'username_claim = "sub"\nca_file = "{provider.ca_file}"\nallow_private = true\n'
        )
    added = relay("--config", server.config, "credential", "add", "robot", "--no-password")
    assert (added.returncode, added.stdout) == (0, "")
    assert relay("--config", server.config, "check-config").returncode == 0
    server.start()
    for mechanism in ("XOAUTH2", "OAUTHBEARER"):
        assert _log_in(server, mechanism, _token(key, "k1"))[0] == 235
        assert _log_in(server, mechanism, _token(key, "k1", aud="other"))[0] == 535
    made_up = _token(key, "k2")
    assert _log_in(server, "OAUTHBEARER", made_up)[0] == 535
    assert provider.asked == 1
    assert relay("--config", server.config, "credential", "disable", "robot").returncode == 0
    end = time.monotonic() + 60
    while _log_in(server, "OAUTHBEARER", _token(key, "k1"))[0] == 235:
        assert time.monotonic() < end
    assert "names no enabled credential" in server.log
    assert "not meant for us" in server.log
    assert made_up.rpartition(".")[2] not in server.log


def test_keys_that_cannot_be_read_are_a_temporary_trouble(server: Server, provider: Provider) -> None:
    """An empty set of keys is none."""
    key = provider.new_key("k1")
    provider.keys.clear()
    with server.config.open("a") as config:
        config.write(
            f'\n[issuer.main]\nissuer = "{ISSUER}"\naudience = ["smtp"]\njwks_url = "{provider.url}"\n'
            f'username_claim = "sub"\nca_file = "{provider.ca_file}"\nallow_private = true\n'
        )
    server.start()

    assert _log_in(server, "XOAUTH2", _token(key, "k1"))[0] == 454
    assert "token_keys_unavailable" in server.log


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("", "set jwks_file or jwks_url"),
        ('jwks_url = "http://login.example.com/keys"', "has to begin with https://"),
        ('jwks_file = "/nowhere/keys.json"', "issuer.main.jwks_file: cannot read /nowhere/keys.json"),
        ('jwks_file = "/dev/null"', "no JSON Web Key Set"),
        ('jwks_url = "https://login.example.com/keys"\nalgorithms = ["HS256"]', "issuer.main.algorithms"),
    ],
)
def test_what_cannot_be_used_is_said_before_the_start(server: Server, lines: str, words: str) -> None:
    with server.config.open("a") as config:
        config.write(f'\n[issuer.main]\nissuer = "{ISSUER}"\naudience = ["smtp"]\n{lines}\n')
    done = relay("--config", server.config, "check-config")

    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
