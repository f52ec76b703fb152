"""SES: mail of a real client leaves by the provider, and moto's server, an independent SES, holds what was sent.

moto checks who may send and keeps every raw message; its answers are those of the API. It takes long to start.
"""

from __future__ import annotations

import json
import re
import smtplib
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import SMTP
from functools import partial
from pathlib import Path
from typing import Any

from driver.sandbox import Sandbox, free_offset, running_sandbox
from driver.table import Table
from driver.workplace import CheckError, Workplace, wait_for

PACKAGE = "moto[server]==5.2.5"
_URL = re.compile(r"http://127\.0\.0\.1:\d+")
_ENVELOPE = ["ann@far.example", "bob@far.example", "hidden@far.example"]


def run_aws(table: Table, workplace: Workplace, offset: int) -> None:
    """The same sender before its domain is verified, and after."""
    with (
        running_moto(workplace) as moto,
        running_sandbox(workplace, "relay-ses", free_offset(offset), partial(_configure, workplace, moto)) as sandbox,
    ):
        table.check("SES (moto)", "knows nobody: the sender is told why", lambda: _bounces(workplace, sandbox, moto))
        moto.verify(sandbox.username.rpartition("@")[2])
        table.check("SES (moto)", "holds the message as it was sent", lambda: _arrives(workplace, sandbox, moto))


# --- moto --------------------------------------------------------------------------------------------------


class Moto:
    """What its own API says. `verify` makes a domain one that may send."""

    def __init__(self, url: str) -> None:
        self.url = url

    def verify(self, domain: str) -> None:
        self._call("/v2/email/identities", json.dumps({"EmailIdentity": domain}).encode())

    def messages(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._call("/moto-api/data.json")).get("ses", {}).get("RawMessage", [])
        return found

    def _call(self, path: str, body: bytes | None = None) -> bytes:
        # moto tells its services apart by the scope of the signature, and checks none.
        scope = "Credential=AKIDEXAMPLE/20260101/eu-central-1/ses/aws4_request"
        headers = {"Content-Type": "application/json", "Authorization": f"AWS4-HMAC-SHA256 {scope}, Signature=0"}
        with urllib.request.urlopen(urllib.request.Request(self.url + path, body, headers), timeout=30) as answer:
            found: bytes = answer.read()
        return found


@contextmanager
def running_moto(workplace: Workplace) -> Iterator[Moto]:
    venv = workplace.root / "moto"
    if not (venv / ".package").exists() or (venv / ".package").read_text() != PACKAGE:
        print(f"interop: installing {PACKAGE}", file=sys.stderr, flush=True)
        subprocess.run(["python3", "-m", "venv", "--clear", venv], check=True)
        pip = [venv / "bin/pip", "install", "-q", "--disable-pip-version-check", PACKAGE]
        workplace.program("moto-pip", pip, timeout=600, env={"PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": ""})
        (venv / ".package").write_text(PACKAGE)
    with workplace.daemon("moto", [venv / "bin/python", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]):
        log = workplace.logs / "moto.log"
        yield Moto(wait_for("moto", lambda: _URL.search(log.read_text()), 90)[0])


# --- the relay ---------------------------------------------------------------------------------------------


def _configure(workplace: Workplace, moto: Moto, config: Path) -> None:
    key = workplace.file("ses.key", b"AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    with config.open("a", encoding="utf-8") as file:
        file.write(f"""
[provider.ses]
kind = "ses"
api_key_file = "{key}"
base_url = "{moto.url}"
allow_private = true

[provider.ses.options]
region = "eu-central-1"

[[route]]
name = "ses"
match.recipient_domain = ["far.example"]
via = ["provider:ses"]
""")


def _message(sender: str) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = _ENVELOPE[0]
    message["Cc"] = _ENVELOPE[1]
    message["Bcc"] = _ENVELOPE[2]
    message["Subject"] = "Grüße ☂"
    message["X-Relay-Tag"] = "orders"
    message.set_content("Grüße, 100 €\n", cte="quoted-printable")
    message.add_alternative("<p>Grüße</p>\n", subtype="html", cte="base64")
    message.add_attachment(b"%PDF-1.4\n\xe2\xe3", "application", "pdf", filename="Rechnung für Ann.pdf")
    return message


def _send(sandbox: Sandbox, message: EmailMessage) -> None:
    with smtplib.SMTP(sandbox.host, sandbox.ports[587], timeout=30) as client:
        client.starttls(context=ssl.create_default_context(cafile=str(sandbox.ca_file)))
        client.login(sandbox.username, sandbox.password)
        client.sendmail(sandbox.username, _ENVELOPE, message.as_bytes())


def _told(workplace: Workplace, event: str) -> list[dict[str, Any]]:
    """The relay's events of this kind."""
    lines = (workplace.logs / "relay-ses.log").read_text().splitlines()
    found = (json.loads(line) for line in lines if line.startswith("{"))
    return [each for each in found if each.get("event") == event]


# --- checks ------------------------------------------------------------------------------------------------


def _arrives(workplace: Workplace, sandbox: Sandbox, moto: Moto) -> str:
    message = _message(sandbox.username)
    _send(sandbox, message)
    [held] = wait_for("the message at moto", moto.messages)
    raw = held["raw_data"].encode()
    sent = message.as_bytes()
    body = sent.partition(b"\r\n\r\n")[2]
    if raw.partition(b"\r\n\r\n")[2] != body:
        raise CheckError("the body is not the one that was sent")
    missing = [line for line in sent.partition(b"\r\n\r\n")[0].split(b"\r\n") if line not in raw.split(b"\r\n")]
    if [line.partition(b":")[0] for line in missing] != [b"Bcc", b"X-Relay-Tag"]:
        raise CheckError(f"header lines are missing: {missing}")
    # moto adds those of the header to the destinations of the call.
    if held["destinations"][: len(_ENVELOPE)] != _ENVELOPE:
        raise CheckError(f"it went to {held['destinations']}")
    events = wait_for(
        "the events", lambda: len(_told(workplace, "sent")) == len(_ENVELOPE) and _told(workplace, "sent")
    )
    if {each.get("remote_id") for each in events} != {held["id"]}:
        raise CheckError(f"the events name another id: {events[0]}")
    return f"{len(_ENVELOPE)} recipients, {len(raw)} octets, MessageId kept"


def _bounces(workplace: Workplace, sandbox: Sandbox, moto: Moto) -> str:
    """MessageRejected is final, and the notice has its words."""
    _send(sandbox, _message(sandbox.username))
    wait_for("the bounces", lambda: len(_told(workplace, "bounced")) == len(_ENVELOPE))
    if moto.messages():
        raise CheckError("moto took it")
    [entry] = wait_for("the notice", lambda: sandbox.listing(sandbox.username))
    notice = sandbox.fetch(entry).raw
    if notice.count(b"Status: 5.7.1") != len(_ENVELOPE) or b"MessageRejected" not in notice:
        raise CheckError("the notice does not say that SES rejected the message")
    return "550 5.7.1 MessageRejected"
