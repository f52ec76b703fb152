"""Returns: a real Postfix takes our mail, cannot deliver it, and tells the return path; the sender gets its notice."""

from __future__ import annotations

import json
from pathlib import Path

from driver.clients import Clients
from driver.farend import parsed
from driver.postfix import running_postfix
from driver.samples import SAMPLES, Letter
from driver.sandbox import Arrived, Sandbox, running_sandbox
from driver.table import Table
from driver.workplace import CheckError, Workplace, wait_for

_DOMAIN = "back.example"


def run_returns(table: Table, workplace: Workplace, offset: int) -> None:
    """Client -> relay -> Postfix, and back to port 25 of the relay."""
    sample = SAMPLES[0]
    letter = Letter("returned", "shop@sandbox.example", sample)
    door = offset + 2650
    domains = sorted({address.rpartition("@")[2] for address in letter.recipients})
    ways = "".join(f"{domain} error:5.2.2 the mailbox is full\n" for domain in domains)
    ways += f"{_DOMAIN} smtp:[127.0.0.1]:{offset + 1025}\n"
    transports = workplace.file("transport-of-returns", ways.encode())
    settings = {"transport_maps": f"texthash:{transports}"}

    def configure(config: Path) -> None:
        text = config.read_text()
        text += f'\n[bounces]\ndomain = "{_DOMAIN}"\n'
        text += (
            f'\n[[route]]\nname = "later"\nvia = ["smarthost:later"]\nmatch.recipient_domain = {json.dumps(domains)}\n'
        )
        text += f'\n[smarthost.later]\nhost = "127.0.0.1"\nport = {door}\ntls = "none"\nreturn_path = "bounces"\n'
        config.write_text(text)

    with (
        running_postfix(workplace, "postfix-returns", {door: {}}, settings),
        running_sandbox(workplace, "relay-returns", offset, configure) as sandbox,
    ):

        def check() -> str:
            Clients(workplace, sandbox).smtplib(letter, 587)
            notices = wait_for("the notice of Postfix", lambda: _notices(sandbox, letter), 30)
            for notice in notices:
                _check_notice(notice, letter)
            states = wait_for("the bounce", lambda: _bounced(workplace, letter), 10)
            return f"{states} recipients bounced, the notice passed on"

        table.check("Postfix", "bounces later, to a return path", check)


def _notices(sandbox: Sandbox, letter: Letter) -> list[Arrived]:
    return [sandbox.fetch(entry) for entry in sandbox.listing(letter.sender)]


def _check_notice(notice: Arrived, letter: Letter) -> None:
    if notice.mail_from:
        raise CheckError(f"the notice came from {notice.mail_from!r}, not from the null sender")
    mail = parsed(notice.raw)
    if mail.get_content_type() != "multipart/report" or b"the mailbox is full" not in notice.raw:
        raise CheckError("what was passed on is not Postfix's report")


def _bounced(workplace: Workplace, letter: Letter) -> int:
    """How many recipients of the letter the relay calls bounced; 0 until all are."""
    log = (workplace.logs / "relay-returns.log").read_text()
    told = {line for line in log.splitlines() if "bounced" in line and "the mailbox is full" in line}
    return len(letter.recipients) if len(told) >= len(letter.recipients) else 0
