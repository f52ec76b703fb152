"""A host that took mail and could not deliver it tells the return path; the sender hears of it, in whichever worker."""

from __future__ import annotations

import json
import smtplib

from http_stub import until
from sandbox_server import Server

REPORT = """\
From: MAILER-DAEMON@mx.example\r
To: <{to}>\r
Subject: Undelivered mail\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status; boundary=b\r
\r
--b\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.example\r
\r
Final-Recipient: rfc822; {about}\r
Action: failed\r
Status: 5.2.2\r
Diagnostic-Code: smtp; 552 5.2.2 Mailbox full\r
\r
--b--\r
"""


def give_back(server: Server, to: str, content: str) -> tuple[int, str]:
    """As any host does, to port 25."""
    with smtplib.SMTP("127.0.0.1", 1025 + server.offset, "mx.example", timeout=60) as client:
        client.ehlo()
        client.mail("<>")
        code, text = client.rcpt(to)
        if code == 250:
            code, text = client.data(content.encode())
    return code, text.decode()


def test_what_comes_back_is_read_and_goes_on_to_the_sender(server: Server) -> None:
    server.configure("workers = 1", "workers = 2")
    server.configure("[delivery]", '[bounces]\ndomain = "back.example"\n\n[delivery]')
    server.start()
    sender = server.facts["username"]
    recipients = [f"bob{number}@shop.example" for number in range(8)]
    for recipient in recipients:
        with server.client() as client:
            client.sendmail(sender, [recipient], f"From: {sender}\r\nSubject: order\r\n\r\nx\r\n")
    paths = {recipient: server.arrived(recipient)[0]["mail_from"] for recipient in recipients}
    assert all(path.startswith("r-") and path.endswith("@back.example") for path in paths.values())

    for recipient, path in paths.items():
        code, text = give_back(server, path, REPORT.format(to=path, about=recipient))
        assert (code, text[:20]) == (250, "2.0.0 Ok: queued as ")
    notices = server.arrived(sender, 8)
    assert {notice["mail_from"] for notice in notices} == {None}
    raw = server.raw(notices[0])
    assert b"Diagnostic-Code: smtp; 552 5.2.2 Mailbox full\r\n" in raw
    assert b" returned)\r\n" in raw
    until(lambda: server.log.count('"event":"bounced"') == 8, server)
    log = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    bounced = {line["to"]: line["reply"] for line in log if line["event"] == "bounced"}
    assert bounced == dict.fromkeys(recipients, "550 5.2.2 Returned later: 552 5.2.2 Mailbox full")
    assert server.stop() == 0

    server.start()
    assert give_back(server, paths[recipients[0]], "Subject: away\r\n\r\nuntil Monday\r\n")[0] == 250
    server.arrived(sender, 9)


def test_an_address_that_was_never_given_out_gets_nothing_in(server: Server) -> None:
    server.configure("[delivery]", '[bounces]\ndomain = "back.example"\n\n[delivery]')
    server.start()
    assert give_back(server, f"r-{'0' * 16}-0-{'a' * 16}@back.example", "x") == (
        550,
        "5.7.1 Relaying denied: authenticate, or send to a domain of this host",
    )
