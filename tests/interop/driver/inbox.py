"""Inbox: the sandbox's own views of what arrived agree with each other, and a second verifier agrees on DKIM."""

from __future__ import annotations

import json
from pathlib import Path

from driver.clients import Clients
from driver.farend import FarEnd
from driver.samples import PLAIN, Letter
from driver.table import Table
from driver.workplace import CheckError


def run_inbox(table: Table, clients: Clients, far_end: FarEnd) -> None:
    """Over one message of its own."""
    sandbox, workplace = clients.sandbox, clients.workplace
    letter = Letter("inbox-views", f"shop@{sandbox.domain}", PLAIN)

    def views() -> str:
        clients.smtplib(letter, 587)
        (message,) = far_end.collect(letter.recipients)
        relay: list[str | Path] = [workplace.relay, "--config", sandbox.var / "relay.toml", "inbox"]
        done = workplace.program("inbox-list", [*relay, "list", "--json"])
        listed = json.loads(done)["messages"]
        if message.id not in [entry["id"] for entry in listed]:
            raise CheckError(f"`relay inbox list --json` has no {message.id}")
        raw = workplace.try_program("inbox-raw", [*relay, "raw", message.id]).stdout
        if raw.rstrip() != message.raw.rstrip():
            raise CheckError("`relay inbox raw` and GET /sandbox/inbox/{id}/raw differ")
        for entry in sandbox.listing(to=letter.to[0]):
            if entry["subject"] != letter.subject or entry["size"] != len(message.raw):
                raise CheckError(f"the listing says {entry}")
        return message.id

    def opendkim() -> str:
        (entry,) = sandbox.listing(to=letter.to[0])
        raw = sandbox.fetch(entry).raw
        far_end.records.verify_by_opendkim(workplace, raw, holds=True)
        far_end.records.verify_by_opendkim(workplace, raw.replace(b"plain message", b"plain massage"), holds=False)
        return "and an altered copy refused"

    def all_by_opendkim() -> str:
        messages = [sandbox.fetch(entry).raw for entry in sandbox.listing() if entry["signed"]]
        far_end.records.verify_all_by_opendkim(workplace, messages)
        return f"{len(messages)} messages"

    table.check("relay inbox", "list, raw and GET /sandbox/inbox agree", views)
    table.check("opendkim", "the signature holds by Debian's verifier", opendkim)
    table.check("opendkim", "every signature of the run so far holds", all_by_opendkim)
