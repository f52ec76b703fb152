"""The bridges to Sendarix, SendX and Sendios from end to end, and where the checks of every seed's bridge stand.

Check -> test (below `tests/`; "here" is this file):

- SendPost, the call is the one the vendor's SDK makes of the same letter -> interop/sendpost_sdk, interop/vendor_sdks
- SendPost, subject, bodies, files, header fields arrive as they were sent -> unit/transports/test_arrives_equal.py
- SendPost, an `errorCode` in a 200 fails one recipient, 4 is a retry -> unit/transports/test_sendpost_answer.py,
  e2e/test_bridge.py
- SendPost, 503, 429, silence: waits; 401, 403: the route rests, the mail stays -> e2e/test_bridge.py,
  integration/test_http_transport.py
- Sendarix, both profiles, both ways the key travels -> here; golden/sendarix
- Sendarix, one Idempotency-Key a message and recipient, the same in each attempt -> here;
  unit/transports/test_every_provider.py
- Sendarix, six attempts: at once, then after 30 s, 5 min, 30 min, 2 h, 5 h -> unit/policy/test_retry.py
- Sendarix, X-RateLimit-Reset is waited for -> golden/sendarix/answers.json, integration/test_http_transport.py
- SendX, the call is the one the vendor's SDK makes -> interop/vendor_sdks (`make interop`)
- SendX, three generations of answers; 409 and 422 are final, 429 and 5xx are not -> golden/sendx/answers.json
- SendX, a text alone gets HTML -> here; golden/sendx
- SendX and Sendios, a file goes to the route's next candidate -> here
- Sendios, path by category, Basic with the key or the SDK key's SHA-1, one call a recipient -> here; golden/sendios
- Sendios, `data.error` under 200 is a failure, `queued` an acceptance -> golden/sendios/answers.json
- Sendlio, off until asked for; an audience query, never SQL; nothing Blade reads; 12-hour times; errors ->
  unit/transports/test_sendlio.py, golden/sendlio

Not to be had: what became of a mail at Sendios (a `lost` of its callbacks), for its answer to a send has no id that a
callback could name. The seconds in which an SDK of Sendarix asks again are not those of a server with a spool, which
waits as its retry profile says.
"""

from __future__ import annotations

import base64
import hashlib
from email.message import EmailMessage
from typing import Any

import pytest
from http_stub import Stub, states, until
from sandbox_server import Server

KEY = "key-0123456789"


def started(server: Server, stub: Stub, kind: str, options: str, behind: str = "") -> None:
    """A sandbox whose mail to shop.example leaves through the stub; retries take a second."""
    (server.var / "any.key").write_text(KEY + "\n")
    (server.var / "any.key").chmod(0o600)
    server.configure("delays = [2, 5, 10, 20, 40]", "delays = [1, 1, 1]\njitter = 0")
    with server.config.open("a") as config:
        config.write(
            f'\n[[route]]\nname = "bridge"\nmatch.recipient_domain = ["shop.example"]\nvia = ["provider:any"{behind}]\n'
            f'[provider.any]\nkind = "{kind}"\napi_key_file = "{server.var}/any.key"\nallow_private = true\n'
            f'base_url = "http://127.0.0.1:{stub.port}/v1"\n[provider.any.options]\n{options}\n'
        )
    server.start()


def message(server: Server, *to: str) -> EmailMessage:
    found = EmailMessage()
    found["From"] = server.facts["username"]
    found["To"] = ", ".join(to)
    found["Subject"] = "Grüße"
    found.set_content("1 < 2\n")
    return found


def send(server: Server, found: EmailMessage, *recipients: str) -> None:
    with server.client() as client:
        client.send_message(found, server.facts["username"], list(recipients))


def test_sendarix_knows_the_repetition_for_one_of_two_by_its_key(server: Server, stub: Stub) -> None:
    """The first call is carried out, the second one's answer is useless: it alone is made again, under its own key."""
    started(server, stub, "sendarix", 'profile = "messages"')
    good = (200, {}, {"message_id": "msg_1", "status": "queued"})
    stub.answers = [good, (200, {}, {"status": "?"}), good]
    people = ("anna@shop.example", "berta@shop.example")
    send(server, message(server, *people), *people)
    until(lambda: states(server) == dict.fromkeys(people, "sent"), server)

    calls = [(body["recipient"], headers["idempotency-key"]) for _, headers, body in stub.requests]
    assert [recipient for recipient, _ in calls] == [*people, people[1]]
    assert calls[1] == calls[2] != calls[0]
    assert {path for path, _, _ in stub.requests} == {"/v1/messages"}
    assert {headers["authorization"] for _, headers, _ in stub.requests} == {f"Bearer {KEY}"}


def test_sendarix_as_its_pages_describe_it(server: Server, stub: Stub) -> None:
    """Another path, another header for the key, `to` for the recipient."""
    started(server, stub, "sendarix", 'profile = "email_send"\nauth = "x-api-key"')
    stub.answers = [(202, {}, {"id": "m-1", "status": "accepted"})]
    send(server, message(server, "anna@shop.example"), "anna@shop.example")
    until(lambda: states(server) == {"anna@shop.example": "sent"}, server)

    ((path, headers, body),) = stub.requests
    assert (path, headers["x-api-key"]) == ("/v1/email/send", KEY)
    assert "authorization" not in headers
    assert (body["to"], body["subject"], body["text"]) == ("anna@shop.example", "Grüße", "1 < 2\r\n")


OPTIONS = {
    "sendx": "",
    "sendios": 'pass_through = true\nsenders = ["{sender}"]\nclient_id = 7\nproject_id = 42\ntype_id = 3',
}
ACCEPTED: dict[str, Any] = {
    "sendx": [{"to": "anna@shop.example", "messageId": "m-1", "errorCode": 0, "message": "ok"}],
    "sendios": {"_meta": {"status": "OK"}, "data": {"queued": True, "r_time": 1, "error": ""}},
}


@pytest.mark.parametrize("kind", ["sendx", "sendios"])
def test_a_file_goes_to_the_next_candidate_and_what_has_none_to_the_vendor(
    server: Server, stub: Stub, kind: str
) -> None:
    """Neither API has a place for one; the message as it was arrives by the way behind it."""
    started(server, stub, kind, OPTIONS[kind].format(sender=server.facts["username"]), ', "direct"')
    stub.answers = [(200, {}, ACCEPTED[kind])]
    with_file = message(server, "berta@shop.example")
    with_file.add_attachment(b"%PDF-1.4", "application", "pdf", filename="a.pdf")
    send(server, with_file, "berta@shop.example")
    (entry,) = server.arrived("berta@shop.example")
    assert base64.b64encode(b"%PDF-1.4") in server.raw(entry)
    assert not stub.requests

    send(server, message(server, "anna@shop.example"), "anna@shop.example")
    until(lambda: states(server).get("anna@shop.example") == "sent", server)
    ((_, _, body),) = stub.requests
    shown = body["htmlBody"] if kind == "sendx" else body["data"]["relay_text"]
    assert shown.strip() == {"sendx": "<pre>1 &lt; 2\r\n</pre>", "sendios": "1 < 2"}[kind]


@pytest.mark.parametrize("category", ["system", "trigger"])
def test_sendios_has_a_call_for_each_recipient_by_its_category(server: Server, stub: Stub, category: str) -> None:
    """With the SHA-1 of an SDK key where the file holds that one."""
    of_sdk = category == "trigger"
    options = OPTIONS["sendios"].format(sender=server.facts["username"])
    more = f'\ncategory = "{category}"\nkey_is_sdk = {str(of_sdk).lower()}\ntemplate_id = 9'
    started(server, stub, "sendios", options + more)
    stub.answers = [(200, {}, ACCEPTED["sendios"])]
    people = ("anna@shop.example", "berta@shop.example")
    send(server, message(server, *people), *people)
    until(lambda: states(server) == dict.fromkeys(people, "sent"), server)

    secret = hashlib.sha1(KEY.encode()).hexdigest() if of_sdk else KEY
    assert sorted(body["email"] for _, _, body in stub.requests) == list(people)
    for path, headers, body in stub.requests:
        assert path == f"/v1/push/{category}"
        assert headers["authorization"] == "Basic " + base64.b64encode(f"7:{secret}".encode()).decode()
        assert (body["type_id"], body["project_id"]) == (3, 42)
        assert body["transactional_mail_settings"] == {"template_id": 9}
        assert set(body) == {"type_id", "project_id", "email", "data", "transactional_mail_settings"}
    assert secret not in server.log
