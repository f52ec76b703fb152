"""2.19 of the known attacks in SECURITY.md: what a client says writes no line of the log, and no secret is in it."""

from __future__ import annotations

import base64
import json
import socket

from sandbox_server import Server

SECRET = b"hunter2-sesame"
HOSTILE = (
    b"EHLO a\x1b[31m\x07\r\n",
    b'EHLO "},{"event":"forged"\r\n',
    b"EHLO " + b"x" * 2_000 + b"\r\n",
    "EHLO \u202eelpmaxe\u2028.example\r\n".encode(),
    b"EHLO client.example\r\n",
    b"AUTH PLAIN " + base64.b64encode(b"\0nobody\0" + SECRET) + b"\r\n",
    b"AUTH LOGIN\r\n" + base64.b64encode(b"nobody") + b"\r\n" + base64.b64encode(SECRET) + b"\r\n",
    b'MAIL FROM:<"a\\\x01b"@c.example>\r\n',
    b'MAIL FROM:<"},{"@c.example>\r\n',
    b"MAIL FROM:<a\rb@c.example>\r\n",
    b"MAIL FROM:<a@c.example> \x1b]0;title\x07\r\n",
    "RCPT TO:<\u202ea@c.example>\r\n".encode(),
    SECRET + b"\r\n",
    b"\x00\xff\xfe\r\n",
)


def test_2_19_what_clients_say_stays_inside_one_line_and_secrets_out_of_the_log(running: Server) -> None:
    for words in HOSTILE:
        with socket.create_connection(("127.0.0.1", 1025 + running.offset), timeout=60) as session:
            session.sendall(b"" if words.startswith(b"EHLO") else b"EHLO client.example\r\n")
            session.sendall(words)
            session.shutdown(socket.SHUT_WR)
            while session.recv(65_536):
                pass
    running.stop()

    lines = [line for line in running.log.split("\n") if line.startswith("{")]
    events = [json.loads(line)["event"] for line in lines]
    assert "rejected" in events
    assert "forged" not in events
    for line in running.log.split("\n"):
        assert line.isprintable(), line
        assert "\u202e" not in line
        assert len(line) < 8_000
    for secret in (SECRET, base64.b64encode(SECRET)):
        assert secret.decode().rstrip("=") not in running.log
