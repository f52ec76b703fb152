"""Notices: what Postfix and the relay tell a sender of the same message that one next hop took or refused."""

from __future__ import annotations

import email
import smtplib
import ssl
from email.message import Message
from pathlib import Path

from driver.postfix import running_postfix
from driver.sandbox import Arrived, Sandbox, running_sandbox
from driver.sink import running_sink
from driver.table import Table
from driver.workplace import CheckError, Workplace, wait_for

_DOMAIN = "far.example"
_WISHES = {
    f"refused@{_DOMAIN}": "NOTIFY=FAILURE,DELAY ORCPT=rfc822;refused+2Bnews@far.example",
    f"refused-plain@{_DOMAIN}": "",
    f"refused-never@{_DOMAIN}": "NOTIFY=NEVER",
    f"taken@{_DOMAIN}": "NOTIFY=SUCCESS,FAILURE",
    f"taken-plain@{_DOMAIN}": "",
}
# What a sender's program reads. Postfix adds X-fields of its own, and names the next hop by its address.
_COMPARED = ("Original-Recipient", "Final-Recipient", "Action", "Status", "Diagnostic-Code")


def run_notices(table: Table, workplace: Workplace, offset: int) -> None:
    """The same client, to each of the two, in front of one sink that refuses `refused...`."""
    sink_port, door = offset + 2660, offset + 2661

    def configure(config: Path) -> None:
        text = config.read_text()
        text += '\n[[route]]\nname = "all"\nvia = ["smarthost:sink"]\n'
        text += f'\n[smarthost.sink]\nhost = "127.0.0.1"\nport = {sink_port}\ntls = "none"\n'
        config.write_text(text)

    with (
        running_sink(sink_port, refused="refused") as sink,
        running_postfix(workplace, "postfix-notices", {door: {}}, {"relayhost": f"[127.0.0.1]:{sink_port}"}),
        running_sandbox(workplace, "relay-notices", offset, configure) as sandbox,
    ):

        def check() -> str:
            with smtplib.SMTP("127.0.0.1", door, timeout=60) as session:
                _send(session, "postfix@sandbox.example")
            with _relay(sandbox) as session:
                _send(session, "relay@sandbox.example")
            ours, theirs = (
                wait_for(f"the notices of {name}", lambda name=name: _told(sink.arrived(), name), 30)
                for name in ("relay", "postfix")
            )
            differing = [
                f"{field} of {address}: {ours.get(address, {}).get(field)!r}, Postfix {told.get(field)!r}"
                for address, told in theirs.items()
                for field in told.keys() | ours.get(address, {}).keys()
                if ours.get(address, {}).get(field) != told.get(field)
            ]
            if differing or ours.keys() != theirs.keys():
                raise CheckError("; ".join(differing) or f"told of {sorted(ours)}, Postfix of {sorted(theirs)}")
            return f"{len(ours)} recipients, {len(_COMPARED) + 1} fields each"

        table.check("Postfix", "the same notices of the same message", check)


def _relay(sandbox: Sandbox) -> smtplib.SMTP:
    session = smtplib.SMTP("127.0.0.1", sandbox.ports[587], timeout=60)
    session.starttls(context=ssl.create_default_context(cafile=str(sandbox.ca_file)))
    session.login(sandbox.username, sandbox.password)
    return session


def _send(session: smtplib.SMTP, sender: str) -> None:
    session.ehlo()
    session.mail(sender, ["RET=HDRS", "ENVID=order+2B42"])
    for address, wish in _WISHES.items():
        session.rcpt(address, wish.split())
    code, text = session.data(f"From: {sender}\r\nSubject: order\r\n\r\nx\r\n".encode())
    if code != 250:
        raise CheckError(f"not taken: {code} {text!r}")


def _told(arrived: list[Arrived], name: str) -> dict[str, dict[str, str]] | None:
    """Fields by recipient, of all notices to that sender; None until the three who are told of are all there."""
    found: dict[str, dict[str, str]] = {}
    for message in arrived:
        if message.mail_from in ("", "<>") and message.rcpt_to == (f"{name}@sandbox.example",):
            found |= _recipients(email.message_from_bytes(message.raw))
    return found if len(found) >= 3 else None


def _recipients(mail: Message) -> dict[str, dict[str, str]]:
    status = next(part for part in mail.walk() if part.get_content_type() == "message/delivery-status")
    first, *rest = status.get_payload()
    found = {}
    for block in rest:
        fields = {name: " ".join(str(block[name]).split()) for name in _COMPARED if block[name] is not None}
        fields["Original-Envelope-Id"] = str(first["Original-Envelope-Id"])
        address = fields["Final-Recipient"].partition(";")[2].strip()
        if "ORCPT" not in _WISHES[address]:
            # RFC 3461 §6.3: only what the client gave; Postfix makes one up.
            fields.pop("Original-Recipient", None)
        found[address] = fields
    return found
