"""The five programs SendPost documents, as they are: only host, port, credentials and CA changed.

They all write from erlich@ to gilfoyle@piedpiper.com, so each one's message is the new one in that inbox.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from driver.clients import IMPLICIT_TLS, Clients, closed_lines, phpmailer_wire
from driver.farend import FarEnd, check_envelope, check_no_bcc, check_suffix, check_trace, parsed
from driver.sandbox import Arrived
from driver.table import Table
from driver.workplace import PROGRAMS, CheckError

SENDER, RECIPIENT = "erlich@piedpiper.com", "gilfoyle@piedpiper.com"

Look = Callable[[Arrived], None]
Wire = Callable[[bytes], bytes]


class Seeds:
    """Runs one program, finds its message, looks at it."""

    def __init__(self, clients: Clients, far_end: FarEnd) -> None:
        self.clients = clients
        self.far_end = far_end

    def run(self, case: str, argv: Sequence[str | Path], port: int, look: Look, wire: Wire = closed_lines) -> str:
        """One program through one port; returns what the client picked, for the table."""
        known = {entry["id"] for entry in self.clients.sandbox.listing(to=RECIPIENT)}
        copy = self.clients.workplace.run / "files" / f"{case}.sent"
        copy.parent.mkdir(mode=0o700, exist_ok=True)
        env = self.clients.environment(port, MAIL_SENT_COPY=str(copy))
        self.clients.workplace.program(case, argv, env=env)
        arrived = self.far_end.collect([RECIPIENT], known)
        check_envelope(arrived, SENDER, [RECIPIENT])
        (message,) = arrived
        check_trace(message)
        check_no_bcc(message, ())
        look(message)
        if copy.exists():
            check_suffix(message.raw, wire(copy.read_bytes()))
        return "exact bytes" if copy.exists() else ""


def _has(*parts: str) -> Look:
    """The message holds these, as text or in header fields."""

    def look(message: Arrived) -> None:
        for part in parts:
            if part.encode() not in message.raw:
                raise CheckError(f"{part!r} is missing from the message")

    return look


def look_at_go(message: Arrived) -> None:
    """The client sent no header block: From, To, Date and Message-ID were made, the text is the whole body."""
    check_suffix(message.raw, b"\r\n\r\nHello geeks!!!\r\n")
    fields = parsed(message.raw)
    for name, wanted in (("From", SENDER), ("To", RECIPIENT), ("Date", ""), ("Message-ID", "@")):
        values = fields.get_all(name, [])
        if len(values) != 1 or wanted not in values[0]:
            raise CheckError(f"{name} is {values}")


def run_seeds(table: Table, seeds: Seeds) -> None:
    """All five on 587; nodemailer, whose sample speaks of it, also on 465, 25 and 2525."""
    clients = seeds.clients
    html = _has("Subject: Test Email Subject", "<h1>Hello Geeks!!!</h1>", f"To: {RECIPIENT}")
    for port in (587, IMPLICIT_TLS, 25, 2525):
        mode = "secure: true" if port == IMPLICIT_TLS else "requireTLS"
        argv = ["node", PROGRAMS / "seed/nodemailer.js"]
        case = f"seed-nodemailer-{port}"
        table.check(
            "nodemailer",
            f"SendPost's sample, port {port}, {mode}",
            lambda case=case, argv=argv, port=port: seeds.run(case, argv, port, html),
        )
    programs: list[tuple[str, Callable[[], Sequence[str | Path]], Look]] = [
        (
            "PHPMailer",
            lambda: [*clients.php, PROGRAMS / "seed/phpmailer.php"],
            _has("From: Erlich <erlich@piedpiper.com>", "multipart/alternative", "<b>in bold!</b>"),
        ),
        (
            "smtplib",
            lambda: ["python3", PROGRAMS / "seed/smtplib_sample.py"],
            _has("Subject: Sent from Python", "Date: ", "Message-ID: "),
        ),
        ("Go net/smtp", lambda: [clients.workplace.root / "bin/seed-gosmtp"], look_at_go),
        (
            "JavaMail",
            lambda: [*clients.java, "JavaMailSample"],
            _has("Erlich Bachman", "<h1>SendPost SMTP Test</h1>", "text/html"),
        ),
    ]
    for name, argv_of, look in programs:
        case = f"seed-{name.replace('/', '-').replace(' ', '-')}".lower()
        wire = phpmailer_wire if name == "PHPMailer" else closed_lines
        table.check(
            name,
            "SendPost's sample, port 587",
            lambda case=case, argv_of=argv_of, look=look, wire=wire: seeds.run(case, argv_of(), 587, look, wire),
        )
