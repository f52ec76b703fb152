"""Letters: every client with every sample, and every client that can on every port and mechanism."""

from __future__ import annotations

import re
from collections.abc import Callable

from driver.clients import IMPLICIT_TLS, Clients, all_clients
from driver.farend import FarEnd
from driver.samples import PLAIN, SAMPLES, Letter, Sample
from driver.table import Table

BCC = next(sample for sample in SAMPLES if sample.bcc)


class Letters:
    """Sends a letter of one case and checks it at the far end."""

    def __init__(self, far_end: FarEnd) -> None:
        self.far_end = far_end
        self.sender = f"shop@{far_end.sandbox.domain}"

    def check(self, client: str, what: str, sample: Sample, send: Callable[[Letter], bytes | None]) -> str:
        case = re.sub(r"[^a-z0-9]+", "-", f"{client} {what}".lower()).strip("-")
        letter = Letter(case, self.sender, sample)
        return self.far_end.check_letter(letter, exact=send(letter))


def run_samples(table: Table, letters: Letters, clients: Clients) -> None:
    """Client by client through port 587."""
    for client in all_clients(clients):
        for sample in SAMPLES:
            table.check(
                client.name,
                sample.name,
                lambda client=client, sample=sample: letters.check(
                    client.name, sample.name, sample, lambda letter: client.send(letter, 587)
                ),
            )
    table.check(
        "msmtp",
        "recipients read from the header, Bcc too (-t)",
        lambda: letters.check(
            "msmtp", "bcc header", BCC, lambda letter: clients.msmtp(letter, 587, read_recipients=True)
        ),
    )


def run_ports(table: Table, letters: Letters, clients: Clients) -> None:
    """The four ports and the mechanisms with a password, by every client that lets one choose."""
    for port in (25, 587, 2525, IMPLICIT_TLS):
        tls = "implicit TLS" if port == IMPLICIT_TLS else "STARTTLS"
        sends: list[tuple[str, str, Callable[[Letter], bytes | None]]] = []
        for mechanism in ("PLAIN", "LOGIN"):
            sends += [
                ("nodemailer raw", mechanism, lambda letter, p=port, m=mechanism: clients.nodemailer_raw(letter, p, m)),
                ("PHPMailer", mechanism, lambda letter, p=port, m=mechanism: clients.phpmailer(letter, p, m)),
                ("smtplib", mechanism, lambda letter, p=port, m=mechanism: clients.smtplib(letter, p, m)),
                ("JavaMail", mechanism, lambda letter, p=port, m=mechanism: clients.javamail(letter, p, m)),
                ("swaks", mechanism, lambda letter, p=port, m=mechanism: clients.swaks(letter, p, mechanism=m)),
                ("msmtp", mechanism, lambda letter, p=port, m=mechanism: clients.msmtp(letter, p, m.lower())),
                ("curl", mechanism, lambda letter, p=port, m=mechanism: clients.curl(letter, p, m)),
            ]
        sends.append(("msmtp", "SCRAM-SHA-256", lambda letter, port=port: clients.msmtp(letter, port, "scram-sha-256")))
        if port != IMPLICIT_TLS:
            sends.append(("Go net/smtp", "PLAIN", lambda letter, port=port: clients.go(letter, port)))
        for client, mechanism, send in sends:
            what = f"port {port}, {tls}, AUTH {mechanism}"
            table.check(
                client,
                what,
                lambda client=client, what=what, send=send: letters.check(client, what, PLAIN, send),
            )
    for port in (25, IMPLICIT_TLS):
        what = f"port {port}, --pipeline, three recipients"
        table.check(
            "swaks",
            what,
            lambda what=what, port=port: letters.check(
                "swaks", what, BCC, lambda letter: clients.swaks(letter, port, "--pipeline")
            ),
        )
