"""Options: what of a library's options the front door hears, one by one, and what it made of each.

A Case is an option and how to see that it was understood: a Look at the message as it arrived, or at what the queue
keeps of it. It raises CheckError; what it returns is shown in the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from driver.frontdoor import FrontDoor
from driver.libraries import Library
from driver.sandbox import Arrived
from driver.table import Table
from driver.workplace import CheckError, wait_for

SUBMISSION = 587
RECIPIENT = "RECIPIENT"  # in a case's mail: whoever the case's recipient is


@dataclass(frozen=True, slots=True)
class Sent:
    """One mail that was taken, as it arrived."""

    door: FrontDoor
    arrived: Arrived

    @property
    def id(self) -> str:
        """Its id at the relay."""
        return self.received.partition(" id ")[2].partition(" ")[0].rstrip(";")

    @property
    def received(self) -> str:
        """The relay's own Received field, in one line."""
        head = self.arrived.raw.partition(b"\r\n\r\n")[0].decode("utf-8", "replace").replace("\r\n\t", " ")
        fields = (line for line in head.replace("\r\n ", " ").split("\r\n") if line.startswith("Received:"))
        return next((" ".join(line.split()) for line in fields if "(Sendrelay)" in line), "")


Look = Callable[[Sent], str | None]


@dataclass(frozen=True, slots=True)
class Case:
    """`transport` and `mail` are the library's own; `to` is the recipient's local part, `token` PHPMailer's alone."""

    name: str
    looks: tuple[Look, ...]
    transport: Mapping[str, Any] = field(default_factory=dict)
    mail: Mapping[str, Any] = field(default_factory=dict)
    port: int = SUBMISSION
    to: str = "anna"
    token: Mapping[str, str] | None = None


def received_has(*words: str) -> Look:
    def look(sent: Sent) -> str:
        for word in words:
            if word not in sent.received:
                raise CheckError(f"no {word!r} in {sent.received}")
        return ", ".join(words)

    return look


def mail_from(sender: str) -> Look:
    def look(sent: Sent) -> str:
        if sent.arrived.mail_from.replace("<>", "") != sender:
            raise CheckError(f"MAIL FROM is {sent.arrived.mail_from!r}")
        return f"MAIL FROM:<{sender}>"

    return look


def holds(octets: bytes) -> Look:
    """The message has them as they are."""

    def look(sent: Sent) -> None:
        if octets not in sent.arrived.raw:
            raise CheckError(f"{octets!r} arrived otherwise")

    return look


def asked(**wanted: Any) -> Look:
    """What the queue keeps of MAIL; None where it is to keep nothing of that name."""

    def look(sent: Sent) -> str:
        kept = sent.door.asked_for(sent.id)
        for name, value in wanted.items():
            if kept.get(name) != value:
                raise CheckError(f"{name} is {kept.get(name)!r} in the queue, not {value!r}")
        return ", ".join(f"{name} {value}" for name, value in wanted.items())

    return look


def notified(of: str, action: str = "") -> Look:
    """The sender gets a notice of this envelope or recipient."""

    def look(sent: Sent) -> str:
        await_notice(sent.door, of, action)
        return f"told of {action or 'it'}"

    return look


def await_notice(door: FrontDoor, of: str, action: str = "") -> None:
    """Until the sender has a notice of this envelope or recipient; it is one that counts as expected."""

    def notice() -> bool:
        told = (door.sandbox.fetch(entry).raw for entry in door.sandbox.listing(to=door.sender))
        return any(of.encode() in raw and f"Action: {action}".encode() in raw for raw in told)

    wait_for(f"the notice of {of}", notice, pause=0.2)
    door.far_end.expected.update([door.sender])


def compose(sender: str, to: list[str], subject: str) -> dict[str, Any]:
    """A mail as both libraries take it."""
    return {"from": sender, "to": to, "subject": subject, "text": "Hello\n"}


def run_case(door: FrontDoor, library: Library, number: int, case: Case) -> str:
    slug = f"{library.name.lower()}-option-{number}"
    recipient = f"{case.to}@{slug}.example"
    more = json.loads(json.dumps(case.mail).replace(f'"{RECIPIENT}"', json.dumps(recipient)))
    mail = {**compose(door.sender, [recipient], f"Interop {slug}"), **more}
    call = {"transport": case.transport, "mails": [mail], **({"token": case.token} if case.token else {})}
    library.taken(slug, case.port, call)
    sent = Sent(door, door.one(recipient))
    return "; ".join(filter(None, (look(sent) for look in case.looks)))


def run_cases(table: Table, door: FrontDoor, library: Library, cases: list[Case]) -> None:
    for number, case in enumerate(cases):
        table.check(
            library.name,
            f"option: {case.name}",
            lambda number=number, case=case: run_case(door, library, number, case),
        )


def run_many(door: FrontDoor, library: Library, transport: Mapping[str, Any], mails: int, sessions: range) -> str:
    """So many mails, and over how many connections they went."""
    slug = f"{library.name.lower()}-many-{mails}-{sessions.start}"
    recipients = [f"anna@{slug}-{number}.example" for number in range(mails)]
    letters = [compose(door.sender, [one], f"Interop {slug}") for one in recipients]
    before = door.connections("submission")
    library.taken(slug, SUBMISSION, {"transport": transport, "mails": letters})
    door.far_end.collect(recipients)
    used = door.connections("submission") - before
    if used not in sessions:
        raise CheckError(f"{used} connections for {mails} mails")
    return f"{mails} mails, {used} connections"


def run_one_refused(door: FrontDoor, library: Library) -> str:
    """Of two recipients one is suppressed: the library names it, and the other one gets the mail."""
    slug = f"{library.name.lower()}-one-refused"
    good, bad = f"anna@{slug}.example", f"berta@{slug}.example"
    door.relay("suppress", "suppression", "add", bad)
    wait_for("the suppression", partial(_refuses, door, library, slug, bad), pause=0.5)
    (said,) = library.call(slug, SUBMISSION, {"mails": [compose(door.sender, [good, bad], f"Interop {slug}")]})
    if not said.id or not (bad in said.rejected or bad in said.error):
        raise CheckError(f"it says {said}")
    door.one(good)
    return "the other one was served"


def _refuses(door: FrontDoor, library: Library, slug: str, address: str) -> bool:
    """Whether the running server has heard of it; what is sent before that counts as expected."""
    (said,) = library.call(slug, SUBMISSION, {"mails": [compose(door.sender, [address], f"Interop {slug}")]})
    if said.id:
        door.far_end.expected.update([address])
    return not said.id
