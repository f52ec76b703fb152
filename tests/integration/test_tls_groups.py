"""config/openssl.cnf: with it the server makes no key exchange in finite fields, whatever a client asks for."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

SHIPPED = Path(__file__).resolve().parents[2] / "config/openssl.cnf"
CLIENT = """
import ssl, sys
out = ssl.MemoryBIO()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.minimum_version = ssl.TLSVersion.TLSv1_3
try:
    context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost").do_handshake()
except ssl.SSLWantReadError:
    sys.stdout.buffer.write(out.read())
"""
SERVER = """
import ssl, sys
from relay.smtpd.tls_context import new_context
hello, out = ssl.MemoryBIO(), ssl.MemoryBIO()
hello.write(sys.stdin.buffer.read())
context = new_context()
context.load_cert_chain(sys.argv[1])
try:
    context.wrap_bio(hello, out, server_side=True).do_handshake()
except ssl.SSLWantReadError:
    print("taken")
except ssl.SSLError as error:
    print(error.reason)
"""


def run(program: str, configuration: Path, *arguments: str, given: bytes = b"") -> bytes:
    environment = {**os.environ, "OPENSSL_CONF": str(configuration)}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environment, input=given, capture_output=True, timeout=60, check=True).stdout


@pytest.mark.parametrize(
    ("group", "answer"),
    [
        ("X25519", b"taken"),
        ("P-256", b"taken"),
        ("P-521", b"taken"),
        ("ffdhe2048", b"NO_SUITABLE_KEY_SHARE"),
        ("ffdhe8192", b"NO_SUITABLE_KEY_SHARE"),
    ],
)
def test_a_client_that_asks_for_a_finite_field_alone_is_refused(tmp_path: Path, group: str, answer: bytes) -> None:
    if ssl.OPENSSL_VERSION_INFO < (3, 0):
        pytest.skip("OpenSSL before 3.0 has no finite-field groups in TLS 1.3")
    configuration = tmp_path / "client.cnf"
    configuration.write_text(SHIPPED.read_text().partition("1.Groups")[0] + f"Groups = {group}\n")
    pair = tmp_path / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pair)
    hello = run(CLIENT, configuration)
    assert hello[:1] == b"\x16"
    assert run(SERVER, SHIPPED, str(pair), given=hello).strip() == answer
