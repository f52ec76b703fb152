"""Mail that leaves by a mailbox of Microsoft 365 or Gmail: SMTP in; a token, then the API out; Bcc hidden."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qs

from http_stub import Stub, states, until
from sandbox_server import Server

CONFIG = """
[[route]]
name = "graph"
match.recipient_domain = ["graph.example"]
via = ["provider:graph"]

[[route]]
name = "gmail"
match.recipient_domain = ["gmail.example"]
via = ["provider:gmail"]

[provider.graph]
kind = "graph"
base_url = "http://127.0.0.1:{port}/v1.0"
allow_private = true
api_key_file = "{var}/client.secret"
oauth = {{ client_id = "app", token_url = "http://127.0.0.1:{port}/ms/token" }}
options = {{ tenant = "example.org", mailbox = "relay@example.org" }}

[provider.gmail]
kind = "gmail"
base_url = "http://127.0.0.1:{port}"
allow_private = true
api_key_file = "{var}/client.secret"

[provider.gmail.oauth]
client_id = "app"
grant = "refresh_token"
refresh_token_file = "{var}/refresh"
token_url = "http://127.0.0.1:{port}/google/token"

[provider.gmail.options]
senders = ["{sender}"]
"""
SECRETS = ("client-secret-0123", "refresh-token-0123", "ms-token-1-0123", "ms-token-2-0123", "google-token-0123")


def send(server: Server, *recipients: str) -> None:
    sender = server.facts["username"]
    text = f"From: Shop <{sender}>\r\nTo: {recipients[0]}, gone@else.example\r\nSubject: Hello\r\n\r\nHi\r\n"
    with server.client() as client:
        client.sendmail(sender, list(recipients), text)


def test_a_token_is_fetched_renewed_when_refused_and_who_is_hidden_stays_hidden(server: Server, stub: Stub) -> None:
    tokens: list[dict[str, list[str]]] = []

    def ms_token(body: Any) -> tuple[int, dict[str, str], Any]:
        tokens.append(parse_qs(body.decode()))
        return 200, {}, {"access_token": f"ms-token-{len(tokens)}-0123", "expires_in": 3599}

    def google_token(body: Any) -> tuple[int, dict[str, str], Any]:
        assert parse_qs(body.decode())["refresh_token"] == ["refresh-token-0123"]
        return 200, {}, {"access_token": "google-token-0123", "expires_in": 3599}

    def send_mail(body: Any) -> tuple[int, dict[str, str], Any]:
        given = stub.requests[-1][1]["authorization"]
        if given != "Bearer ms-token-2-0123":
            return 401, {}, {"error": {"code": "InvalidAuthenticationToken", "message": f"{given} expired"}}
        return 202, {"request-id": "req-1"}, ""

    stub.by_path = {
        "/ms/token": ms_token,
        "/google/token": google_token,
        "/v1.0/users/relay@example.org/sendMail": send_mail,
        "/gmail/v1/users/me/messages/send": lambda body: (200, {}, {"id": "g-1", "labelIds": ["SENT"]}),
    }
    for name, content in (("client.secret", SECRETS[0]), ("refresh", SECRETS[1])):
        (server.var / name).write_text(content + "\n")
        (server.var / name).chmod(0o600)
    with server.config.open("a") as config:
        config.write(CONFIG.format(var=server.var, port=stub.port, sender=server.facts["username"]))
    server.start()

    for domain in ("graph.example", "gmail.example"):
        send(server, f"anna@{domain}", f"berta@{domain}")
    names = ("anna@graph.example", "berta@graph.example", "anna@gmail.example", "berta@gmail.example")
    until(lambda: states(server) == dict.fromkeys(names, "sent"), server)

    assert [form["client_secret"] for form in tokens] == [[SECRETS[0]]] * 2
    assert tokens[0]["scope"] == ["https://graph.microsoft.com/.default"]
    graph = [body for path, _, body in stub.requests if path.endswith("/sendMail")]
    assert len(graph) == 2, "refused with the first token, taken with the second"
    [gmail] = [body["raw"] for path, _, body in stub.requests if path.startswith("/gmail/")]
    for octets, domain in ((base64.b64decode(graph[1]), "graph"), (base64.urlsafe_b64decode(gmail), "gmail")):
        assert octets.startswith(f"To: anna@{domain}.example\r\nBcc: berta@{domain}.example\r\n".encode())
        assert b"gone@else.example" not in octets
        assert b"DKIM-Signature" not in octets
        assert octets.endswith(b"Subject: Hello\r\n\r\nHi\r\n")
    assert not any(secret in server.log for secret in SECRETS)
