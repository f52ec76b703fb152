"""The same letters over SMTP, as an application without an SDK sends them: standard library only."""

from __future__ import annotations

import base64
import smtplib
import ssl
from collections.abc import Mapping
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

from driver.sandbox import Sandbox

FIELDS = {"ippool": "X-Relay-Pool", "track_opens": "X-Relay-Track-Opens", "track_clicks": "X-Relay-Track-Clicks"}


def as_mime(letter: Mapping[str, Any]) -> EmailMessage:
    """Bcc stands in the envelope alone; groups and what is asked for are the relay's own fields."""
    message = EmailMessage(policy=SMTP)
    message["From"] = _address(letter["from"])
    message["To"] = _address(letter["to"])
    if "reply_to" in letter:
        message["Reply-To"] = _address(letter["reply_to"])
    if "cc" in letter:
        message["Cc"] = [_address(copy) for copy in letter["cc"]]
    message["Subject"] = letter["subject"]
    for name, value in letter["headers"].items():
        message[name] = value
    if "groups" in letter:
        message["X-Relay-Tag"] = ", ".join(letter["groups"])
    for ask, value in letter.get("asks", {}).items():
        message[FIELDS[ask]] = str(value)
    _fill(message, letter)
    return message


def _fill(message: EmailMessage, letter: Mapping[str, Any]) -> None:
    if "text" in letter:
        message.set_content(letter["text"].replace("\r\n", "\n"))
        if "amp" in letter:
            message.add_alternative(letter["amp"].replace("\r\n", "\n"), subtype="x-amp-html")
        if "html" in letter:
            message.add_alternative(letter["html"].replace("\r\n", "\n"), subtype="html")
    else:
        message.set_content(letter["html"].replace("\r\n", "\n"), subtype="html")
    for item in letter.get("attachments", ()):
        maintype, subtype = item["type"].split("/")
        message.add_attachment(
            base64.b64decode(item["content"]), maintype=maintype, subtype=subtype, filename=item["filename"]
        )


def _address(person: Mapping[str, str]) -> Address:
    return Address(person.get("name", ""), addr_spec=person["email"])


def submit(sandbox: Sandbox, letter: Mapping[str, Any]) -> None:
    """Over STARTTLS with AUTH; raises smtplib.SMTPException where the relay refuses."""
    everybody = [letter["to"], *letter.get("cc", ()), *letter.get("bcc", ())]
    with smtplib.SMTP(sandbox.host, sandbox.ports[587], timeout=30) as client:
        client.starttls(context=ssl.create_default_context(cafile=sandbox.ca_file))
        client.login(sandbox.username, sandbox.password)
        client.send_message(as_mime(letter), letter["from"]["email"], [person["email"] for person in everybody])
