"""nodemailer's options, those of the transport and those of a mail that reach the front door."""

from __future__ import annotations

from functools import partial
from typing import Any

from driver.clients import IMPLICIT_TLS
from driver.frontdoor import ROBOT, FrontDoor
from driver.libraries import Library
from driver.options import (
    RECIPIENT,
    SUBMISSION,
    Case,
    asked,
    await_notice,
    compose,
    holds,
    mail_from,
    notified,
    received_has,
    run_cases,
    run_many,
    run_one_refused,
)
from driver.table import Table
from driver.workplace import CheckError, wait_for


def run_nodemailer(table: Table, door: FrontDoor) -> None:
    library = Library("nodemailer", door.clients)
    run_cases(table, door, library, [*_connection(door), *_login(door), *_envelope(door)])
    pool = {"pool": True, "requireTLS": True}
    ways: list[tuple[str, dict[str, Any], int, range]] = [
        ("pool, maxConnections 1", {"maxConnections": 1}, 20, range(1, 2)),
        ("pool, maxConnections 3", {"maxConnections": 3}, 30, range(2, 4)),
        ("pool, maxMessages 4", {"maxConnections": 1, "maxMessages": 4}, 12, range(3, 5)),
        ("pool, rateLimit 10", {"maxConnections": 2, "rateLimit": 10, "rateDelta": 500}, 15, range(1, 3)),
    ]
    for name, more, mails, sessions in ways:
        table.check("nodemailer", f"option: {name}", partial(run_many, door, library, pool | more, mails, sessions))
    table.check("nodemailer", "one of two recipients refused", partial(run_one_refused, door, library))
    table.check("nodemailer", "option: requireTLSExtensionEnabled", partial(_requiretls, door, library))
    table.check("nodemailer", "verify()", partial(_verify, library))
    table.check("nodemailer", "SIZE: larger than announced is not begun", partial(_too_large, door, library))


def _connection(door: FrontDoor) -> list[Case]:
    tls = (received_has("ESMTPSA"),)
    return [
        Case("secure false, STARTTLS is offered", (received_has("ESMTPSA", "using TLSv1.3"),)),
        Case("requireTLS", tls, {"requireTLS": True}),
        Case("opportunisticTLS", tls, {"opportunisticTLS": True}),
        Case("secure true, port 465", tls, {"secure": True}, port=IMPLICIT_TLS),
        Case("tls.maxVersion", (received_has("using TLSv1.2"),), {"tls": {"maxVersion": "TLSv1.2"}}),
        Case("tls.servername", tls, {"tls": {"servername": "localhost"}}),
        Case("name", (received_has("from billing.client.example "),), {"name": "billing.client.example"}),
        Case("name, an address", (received_has("from [192.0.2.9] "),), {"name": "[192.0.2.9]"}),
        Case("localAddress", (received_has("[127.0.0.9]"),), {"localAddress": "127.0.0.9"}),
        Case("transactionLog", (), {"transactionLog": True}),
    ]


def _login(door: FrontDoor) -> list[Case]:
    user = (received_has(f"authenticated as {door.sandbox.username}"),)
    robot = {"type": "OAuth2", "user": ROBOT, "accessToken": door.token()}
    return [
        Case("authMethod PLAIN", user, {"authMethod": "PLAIN"}),
        Case("authMethod LOGIN", user, {"authMethod": "LOGIN"}),
        Case("auth OAuth2 (XOAUTH2)", (received_has(f"authenticated as {ROBOT}"),), {"auth": robot}, {"from": ROBOT}),
    ]


def _envelope(door: FrontDoor) -> list[Case]:
    other, umlaut = f"returns@{door.sandbox.domain}", f"jürgen@{door.sandbox.domain}"
    raw = {"raw": f"From: <{door.sender}>\r\nSubject: raw\r\n\r\nGrüße\r\n"}
    dsn = {"id": "interop-1", "return": "headers", "notify": ["success", "failure"], "recipient": "Anna@here.example"}
    return [
        Case(
            "dsn id, return, notify, recipient",
            (asked(ret="HDRS", envid="interop-1"), notified("interop-1")),
            mail={"dsn": dsn},
        ),
        Case(
            "dsn return full, notify never", (asked(ret="FULL"),), mail={"dsn": {"return": "full", "notify": "never"}}
        ),
        Case("dsn id in xtext", (asked(envid="a+2Bb+3Dc"),), mail={"dsn": {"id": "a+b=c"}}),
        Case("envelope.from", (mail_from(other),), mail={"envelope": {"from": other, "to": RECIPIENT}}),
        Case("envelope.from, empty", (mail_from(""),), mail={"envelope": {"from": "", "to": RECIPIENT}}),
        Case("envelope.size", (), mail={"envelope": {"from": door.sender, "to": RECIPIENT, "size": 2000}}),
        Case(
            "envelope.use8BitMime",
            (holds("Grüße".encode()),),
            mail={**raw, "envelope": {"from": door.sender, "to": RECIPIENT, "use8BitMime": True}},
        ),
        Case("SMTPUTF8, recipient", (received_has("UTF8SMTPSA"),), to="jörg"),
        Case("SMTPUTF8, sender", (received_has("UTF8SMTPSA"), mail_from(umlaut)), mail={"from": umlaut}),
    ]


def _requiretls(door: FrontDoor, library: Library) -> str:
    """The sandbox's MX promises nothing of the kind, so the mail comes back, and says why.

    The notice holds the header alone and so may go without it (RFC 8689 §5).
    """
    recipient = "anna@requiretls.example"
    mail = compose(door.sender, [recipient], "Interop requiretls") | {"requireTLSExtensionEnabled": True}
    (said,) = library.taken("nodemailer-requiretls", SUBMISSION, {"transport": {"requireTLS": True}, "mails": [mail]})
    if door.asked_for(said.id).get("requiretls") is not True:
        raise CheckError("the queue knows nothing of REQUIRETLS")
    wait_for("the bounce", lambda: "5.7.30" in door.relay("queue-show", "queue", "show", said.id))
    await_notice(door, recipient, "failed")
    return "REQUIRETLS was kept, the mail not sent on without it, and its sender told"


def _verify(library: Library) -> str:
    library.taken("nodemailer-verify", SUBMISSION, {"transport": {"requireTLS": True}, "verify": True})
    return "logged in, nothing sent"


def _too_large(door: FrontDoor, library: Library) -> str:
    envelope = {"from": door.sender, "to": "anna@large.example", "size": 100_000_000}
    mail = {**compose(door.sender, ["anna@large.example"], "large"), "envelope": envelope}
    (said,) = library.call("nodemailer-large", SUBMISSION, {"transport": {}, "mails": [mail]})
    if said.ok or "larger than allowed" not in said.error:
        raise CheckError(f"it says {said}")
    return "EMESSAGE"
