"""Mail that leaves by an API its operator described: SMTP in, the template's calls out."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
from typing import Any

from http_stub import Stub, states, until
from sandbox_server import Server

KEY = "user-0123456789:secret-0123456789"
CONFIG = """
[[route]]
name = "house"
match.recipient_domain = ["shop.example"]
via = ["provider:house"]

[[route]]
name = "archive"
match.recipient_domain = ["archive.example"]
via = ["provider:archive"]

[provider.house]
kind = "http"
api_key_file = "{var}/house.key"
allow_private = true

[provider.house.options]
url = "http://127.0.0.1:{port}/send"
headers.Authorization = "Basic {{key.basic}}"
recipients_per_call = 10
id = "/ids/0"
code = "/verdict"
codes = {{ yes = "accepted", no = "refused" }}
error = ["/why"]
template = '''
{{"from": "{{from}}", "to": "{{to}}", "bcc": "{{bcc}}", "subject": "{{subject}}", "text": "{{text}}",
  "headers": "{{headers}}"}}
'''

[provider.archive]
kind = "http"
api_key_file = "{var}/house.key"
allow_private = true

[provider.archive.options]
url = "http://127.0.0.1:{port}/raw"
method = "PUT"
query = {{ to = "{{recipients.emails}}" }}
headers.Authorization = "Bearer {{key}}"
body = "raw"
recipients_per_call = 10
"""

HOOKED = """
[[route]]
name = "house"
match.recipient_domain = ["shop.example"]
via = ["provider:house"]

[account.default]
suppress = "bounces"

[provider.house]
kind = "http"
api_key_file = "{var}/house.key"
hook_token_file = "{var}/house.hook"
hook_secret_file = "{var}/house.verify"
allow_private = true

[provider.house.options]
url = "http://127.0.0.1:{port}/send"
id = "/id"
template = '{{"from": "{{from}}", "to": "{{recipient}}", "s": "{{subject}}", "t": "{{text}}", "h": "{{headers}}"}}'
accept = ["recipient-role", "visible-recipients"]

[provider.house.options.callback]
events = "/messages/*/events"
event = ["/what", "/class"]
words = {{ ok = "delivered", bounce = "bounced_soft", "bounce hard" = "bounced_hard" }}
id = "2/uuid"
recipient = "2/to"
text = ["/why"]
signature = {{ header = "X-Sig", prefix = "v1=", timestamp_header = "X-Time", signed = "{{timestamp}}.{{body}}" }}
"""
TOKEN = "3b1d6a0c9f8e4d7b2a5c"


def started(server: Server, stub: Stub) -> None:
    (server.var / "house.key").write_text(KEY + "\n")
    (server.var / "house.key").chmod(0o600)
    server.configure("delays = [2, 5, 10, 20, 40]", "delays = [1, 1, 1]\njitter = 0")
    with server.config.open("a") as config:
        config.write(CONFIG.format(var=server.var, port=stub.port))
    server.start()


def started_with_hooks(server: Server, stub: Stub) -> None:
    for name, words in (("key", KEY), ("hook", TOKEN), ("verify", "signing-key")):
        (server.var / f"house.{name}").write_text(words)
    server.configure("workers = 1", "workers = 2")
    with server.config.open("a") as config:
        config.write(HOOKED.format(var=server.var, port=stub.port))
    server.start()


def call_back(server: Server, body: Any, key: bytes = b"signing-key", age: int = 0) -> int:
    data, stamp = json.dumps(body).encode(), str(int(time.time()) - age)
    proof = hmac.digest(key, f"{stamp}.".encode() + data, hashlib.sha256).hex()
    headers = {"Content-Type": "application/json", "X-Time": stamp, "X-Sig": f"v0=x,v1={proof}"}
    url = f"http://127.0.0.1:{8025 + server.offset}/hooks/house/{TOKEN}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method="POST"), timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return int(error.code)


def told(name: str, **event: str) -> dict[str, Any]:
    return {"messages": [{"uuid": f"u-{name}", "to": f"{name}@shop.example", "events": [event]}]}


def send(server: Server, *recipients: str) -> None:
    sender = server.facts["username"]
    text = f"From: Shop <{sender}>\r\nTo: {recipients[0]}\r\nSubject: Hello {{to}}\r\nX-Order: 7\r\n\r\nHi\r\n"
    with server.client() as client:
        client.sendmail(sender, list(recipients), text)


def test_mail_leaves_as_the_template_says_and_the_answer_means_what_the_operator_says(
    server: Server, stub: Stub
) -> None:
    started(server, stub)
    stub.answers = [
        (200, {}, {"verdict": "maybe"}),
        (200, {}, {"verdict": "yes", "ids": ["h-1"]}),
        (200, {}, {"verdict": "no", "why": f"we do not like {KEY}"}),
    ]
    send(server, "anna@shop.example", "berta@shop.example")
    until(lambda: states(server) == {"anna@shop.example": "sent", "berta@shop.example": "sent"}, server)
    assert len(stub.requests) == 2, "the first answer said neither yes nor no: in doubt, and so again"
    path, headers, body = stub.requests[1]
    assert path == "/send"
    assert headers["authorization"] == "Basic " + base64.b64encode(KEY.encode()).decode()
    assert body["from"] == {"email": server.facts["username"], "name": "Shop"}
    assert body["to"] == [{"email": "anna@shop.example"}]
    assert body["bcc"] == [{"email": "berta@shop.example"}]
    assert body["subject"] == "Hello {to}"
    assert body["headers"]["X-Order"] == "7"

    send(server, "carl@shop.example")
    until(lambda: states(server).get("carl@shop.example") == "bounced", server)
    assert "we do not like [api key]" in server.log
    assert "secret-0123456789" not in server.log


def test_the_message_itself_goes_where_it_is_wanted_with_its_envelope_beside_it(server: Server, stub: Stub) -> None:
    started(server, stub)
    stub.answers = [(200, {}, {})]
    send(server, "anna@archive.example", "berta@archive.example")
    until(lambda: states(server) == {"anna@archive.example": "sent", "berta@archive.example": "sent"}, server)
    ((path, headers, body),) = stub.requests
    assert path == "/raw?to=anna%40archive.example&to=berta%40archive.example"
    assert headers["content-type"] == "message/rfc822"
    assert b"\r\nSubject: Hello {to}\r\nX-Order: 7\r\n\r\nHi\r\n" in body
    assert b"berta@archive.example" not in body
    assert b"DKIM-Signature: " in body


def test_what_the_operator_described_is_believed_and_joined_to_the_message(server: Server, stub: Stub) -> None:
    """Signed, in whichever worker; a hard bounce suppresses, a soft one does not, and each counts once."""
    started_with_hooks(server, stub)
    stub.by_path["/send"] = lambda body: (200, {}, {"id": "u-" + body["to"]["email"].partition("@")[0]})
    names = ("anna", "berta", "carl", "dora")
    for name in names:
        send(server, f"{name}@shop.example")
    until(lambda: list(states(server).values()) == ["sent"] * 4, server)

    assert call_back(server, told("anna", what="ok"), key=b"another") == 403
    assert call_back(server, told("anna", what="ok"), age=3600) == 403
    assert call_back(server, {"ping": True}) == 400
    assert call_back(server, told("anna", what="ok")) == 200
    hard = told("berta", what="bounce", **{"class": "hard", "why": "no mailbox here"})
    assert call_back(server, hard) == call_back(server, hard) == 200
    assert call_back(server, told("carl", what="bounce", why="550 5.1.1 they say")) == 200
    assert call_back(server, told("dora", what="teleported")) == 200
    wanted = {"anna@shop.example": "delivered", "berta@shop.example": "bounced", "carl@shop.example": "bounced",
              "dora@shop.example": "sent"}  # fmt: skip
    until(lambda: states(server).items() >= wanted.items(), server)
    sender = server.facts["username"]
    assert len(server.arrived(sender, 2)) == 2
    with server.client() as client:
        client.mail(sender)
        answers = [client.rcpt(f"{name}@shop.example") for name in ("berta", "carl")]
    assert answers[0] == (550, b"5.1.1 Suppressed: mail to this address bounced: no mailbox here")
    assert answers[1][0] == 250
    assert "nothing stands at /messages/*/events" in server.log
    assert "teleported" in server.log
    assert "signing-key" not in server.log
    assert TOKEN not in server.log
