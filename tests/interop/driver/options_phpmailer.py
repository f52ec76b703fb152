"""PHPMailer's options, by its own names."""

from __future__ import annotations

from functools import partial

from driver.clients import IMPLICIT_TLS
from driver.frontdoor import ROBOT, FrontDoor
from driver.libraries import Library
from driver.options import (
    SUBMISSION,
    Case,
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
from driver.workplace import CheckError

_GREETING = "Grüße"


def run_phpmailer(table: Table, door: FrontDoor) -> None:
    library = Library("PHPMailer", door.clients)
    run_cases(table, door, library, [*_connection(door), *_login(door), *_content(door)])
    keep = {"SMTPKeepAlive": True}
    table.check("PHPMailer", "option: SMTPKeepAlive", partial(run_many, door, library, keep, 10, range(1, 2)))
    table.check("PHPMailer", "option: SMTPKeepAlive off", partial(run_many, door, library, {}, 3, range(3, 4)))
    table.check("PHPMailer", "one of two recipients refused", partial(run_one_refused, door, library))
    table.check("PHPMailer", "getLastTransactionID() is the relay's id", partial(_transaction_id, door, library))


def _connection(door: FrontDoor) -> list[Case]:
    tls = (received_has("ESMTPSA"),)
    host, port = door.sandbox.host, door.sandbox.ports
    return [
        Case("SMTPSecure '', SMTPAutoTLS", (received_has("ESMTPSA", "using TLSv1.3"),), {"SMTPSecure": ""}),
        Case("SMTPSecure tls", tls, {"SMTPSecure": "tls"}),
        Case("SMTPSecure tls, SMTPAutoTLS off", tls, {"SMTPSecure": "tls", "SMTPAutoTLS": False}),
        Case("SMTPSecure ssl, port 465", tls, {"SMTPSecure": "ssl"}, port=IMPLICIT_TLS),
        Case("Host tls://host:port", tls, {"Host": f"tls://{host}:{port[SUBMISSION]}", "Port": 1}),
        Case("Host ssl://host:port", tls, {"Host": f"ssl://{host}:{port[IMPLICIT_TLS]}", "Port": 1}),
        Case("Host, two of which the first is down", tls, {"Host": f"{host}:9;{host}:{port[SUBMISSION]}"}),
        Case("Helo", (received_has("from shop.client.example "),), {"Helo": "shop.client.example"}),
        Case("Hostname", (received_has("from web.client.example "),), {"Hostname": "web.client.example"}),
        Case(
            "SMTPOptions socket bindto",
            (received_has("[127.0.0.9]"),),
            {"SMTPOptions": {"socket": {"bindto": "127.0.0.9:0"}}},
        ),
        Case(
            "SMTPOptions ssl, no verification",
            tls,
            {"SMTPOptions": {"ssl": {"verify_peer": False, "verify_peer_name": False, "allow_self_signed": True}}},
        ),
    ]


def _login(door: FrontDoor) -> list[Case]:
    user = (received_has(f"authenticated as {door.sandbox.username}"),)
    robot = (received_has(f"authenticated as {ROBOT}"),)
    token = {"user": ROBOT, "token": door.token()}
    return [
        Case("AuthType '', its own choice", user),
        Case("AuthType LOGIN", user, {"AuthType": "LOGIN"}),
        Case("AuthType PLAIN", user, {"AuthType": "PLAIN"}),
        Case("AuthType CRAM-MD5, which is not offered", user, {"AuthType": "CRAM-MD5"}),
        Case("AuthType XOAUTH2", robot, {"AuthType": "XOAUTH2"}, {"from": ROBOT}, token=token),
        Case("Timeout 5", user, {"Timeout": 5}),
    ]


def _content(door: FrontDoor) -> list[Case]:
    other = f"returns@{door.sandbox.domain}"
    text = {"text": f"{_GREETING}\n.dot\n"}
    return [
        Case("dsn SUCCESS,FAILURE", (notified("option-dsn@", "relayed"),), {"dsn": "SUCCESS,FAILURE"}, to="option-dsn"),
        Case("dsn NEVER", (), {"dsn": "NEVER"}),
        Case("Sender", (mail_from(other),), {"Sender": other}),
        Case("Encoding 8bit, undeclared", (holds(_GREETING.encode()),), {"Encoding": "8bit"}, text),
        Case("Encoding quoted-printable", (holds(b"Gr=C3=BC=C3=9Fe"),), {"Encoding": "quoted-printable"}, text),
        Case("Encoding base64", (holds(b"R3LDvMOfZQou"),), {"Encoding": "base64"}, text),
        Case("Priority, ConfirmReadingTo", (holds(b"X-Priority: 1"),), {"Priority": 1, "ConfirmReadingTo": other}),
        Case("SMTPDebug 4", (), {"SMTPDebug": 4, "Debugoutput": "error_log"}),
        Case("SingleTo", (), {"SingleTo": True}),
    ]


def _transaction_id(door: FrontDoor, library: Library) -> str:
    recipient = "anna@transaction-id.example"
    mails = [compose(door.sender, [recipient], "Interop transaction id")]
    (said,) = library.taken("phpmailer-transaction-id", SUBMISSION, {"mails": mails})
    door.one(recipient)
    if not said.parsed_id or f'"{said.parsed_id}"' not in door.relay(
        "queue-show", "queue", "show", said.parsed_id, "--json"
    ):
        raise CheckError(f"it found {said.parsed_id!r}")
    return said.parsed_id
