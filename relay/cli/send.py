"""relay send: a test message through a running server, by SMTP with STARTTLS and AUTH, as any client would."""

from __future__ import annotations

import asyncio
import json as jsonlib
import os
import sys
import time
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path
from typing import Annotated, Literal

import aiosmtplib
import typer

from relay.cli.common import fail, load, octets_of, operator_errors, print_json, reachable
from relay.cli.sandbox import SANDBOX_FILE, kept_offset
from relay.mail.address import parse_address
from relay.mail.dates import date_time
from relay.mail.errors import AddressSyntaxError, SettingsError
from relay.settings import ListenerSettings, Settings
from relay.transports.probe import submit

app = typer.Typer()


@app.command()
def send(
    ctx: typer.Context,
    recipients: Annotated[list[str], typer.Argument(help="Recipients")],
    sender: Annotated[str, typer.Option("--from", help="MAIL FROM and From; default: the user name")] = "",
    subject: Annotated[str, typer.Option(help="Subject")] = "Test message",
    text: Annotated[str, typer.Option(help="Body; - reads standard input")] = "Sent by relay send.",
    eml: Annotated[Path | None, typer.Option(help="Send this message file as it is")] = None,
    username: Annotated[str, typer.Option(help="SMTP user name; in the sandbox its own")] = "",
    password_file: Annotated[Path | None, typer.Option(help="File whose first line is the password")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output")] = False,
) -> None:
    """Send a test message through the first submission listener. Exit code 1 when a recipient was refused."""
    settings = load(ctx)
    with operator_errors():
        user, password, offset = _credentials(settings, username, password_file)
        _check_addresses([*recipients, sender] if sender else recipients)
        listener = _listener(settings)
        content = octets_of(eml) if eml else _message(sender or user, recipients, subject, text)
        host = reachable(listener.address)
        tls: Literal["implicit", "starttls"] = "implicit" if listener.tls == "implicit" else "starttls"
        try:
            replies = asyncio.run(
                submit(
                    host,
                    listener.port + offset,
                    tls=tls if listener.tls != "none" else "none",
                    ca_file=_ca_file(settings),
                    username=user,
                    password=password,
                    sender=sender or user,
                    recipients=recipients,
                    content=content,
                )
            )
        except (OSError, aiosmtplib.SMTPException) as error:
            fail(f"{host}:{listener.port + offset}: {error}; is the server running?", 1)
    if json:
        print_json({"recipients": {address: str(answer) for address, answer in replies.items()}})
    else:
        for address, answer in replies.items():
            typer.echo(f"{address}: {answer}")
    if not all(answer.positive for answer in replies.values()):
        raise typer.Exit(1)


def _credentials(settings: Settings, username: str, password_file: Path | None) -> tuple[str, str, int]:
    """User name, password and, in the sandbox, by how much its ports are shifted."""
    offset = kept_offset(settings)
    file = settings.server.var / SANDBOX_FILE
    facts = jsonlib.loads(file.read_text()) if settings.sandbox.enabled and file.exists() else {}
    if username and password_file:
        return username, _first_line(password_file), offset
    if username and (password := os.environ.get("RELAY_PASSWORD")):
        return username, password, offset
    if not facts:
        raise SettingsError("give --username with --password-file, or the password in $RELAY_PASSWORD")
    return facts["username"], facts["password"], offset


def _first_line(file: Path) -> str:
    try:
        return octets_of(file).decode().splitlines()[0]
    except (UnicodeDecodeError, IndexError):
        fail(f"{file}: its first line is no password in UTF-8")


def _check_addresses(addresses: list[str]) -> None:
    for address in addresses:
        try:
            parse_address(address)
        except AddressSyntaxError as error:
            fail(f"{address!r}: {error}")


def _listener(settings: Settings) -> ListenerSettings:
    for listener in settings.listener:
        if listener.role == "submission" and not listener.path:
            return listener
    raise SettingsError("no listener with a port has role = 'submission'; add one to the configuration")


def _ca_file(settings: Settings) -> Path | None:
    own = settings.server.var / "certs" / "ca.pem"
    return own if own.exists() and settings.tls.certificate is None else None


def _message(sender: str, recipients: list[str], subject: str, text: str) -> bytes:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = " ".join(subject.splitlines())
    message["Date"] = date_time(time.time())
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2] or "localhost")
    message.set_content(sys.stdin.read() if text == "-" else text)
    return message.as_bytes(policy=message.policy.clone(linesep="\r\n"))
