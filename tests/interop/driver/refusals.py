"""Refusals: what must not work, and the reply that says so; asked with smtplib's single commands and with swaks."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable
from functools import partial

from driver.clients import IMPLICIT_TLS, Clients
from driver.sandbox import Sandbox
from driver.table import Table
from driver.workplace import CheckError

SUBMISSION = 587
Answer = tuple[int, bytes]


def connect(sandbox: Sandbox, port: int, *, tls: bool) -> smtplib.SMTP:
    """A session after EHLO, inside TLS when asked or when the port begins with it."""
    context = ssl.create_default_context(cafile=str(sandbox.ca_file))
    if port == IMPLICIT_TLS:
        session: smtplib.SMTP = smtplib.SMTP_SSL(sandbox.host, sandbox.ports[port], context=context, timeout=30)
    else:
        session = smtplib.SMTP(sandbox.host, sandbox.ports[port], timeout=30)
        if tls:
            session.starttls(context=context)
    session.ehlo("client.example")
    return session


def expect(answer: Answer, start: str) -> str:
    """The reply begins with this code and status."""
    said = f"{answer[0]} {answer[1].decode('utf-8', 'replace')}"
    if not said.startswith(start):
        raise CheckError(f"expected {start}, the server said {said!r}")
    return start


class Refusals:
    """Each method is one check; it returns the reply for the table."""

    def __init__(self, clients: Clients, sender: str) -> None:
        self.clients = clients
        self.sandbox = clients.sandbox
        self.sender = sender

    def wrong_password(self, port: int, mechanism: str) -> str:
        """535 5.7.8, and not a word more about whether the user exists."""
        with connect(self.sandbox, port, tls=True) as session:
            replies = []
            for user in (self.sandbox.username, f"nobody-{self.sandbox.username}"):
                session.user, session.password = user, "not the password"
                authobject = getattr(session, f"auth_{mechanism.lower()}")
                try:
                    session.auth(mechanism, authobject)
                except smtplib.SMTPAuthenticationError as error:
                    replies.append((error.smtp_code, bytes(error.smtp_error)))
                else:
                    raise CheckError(f"a wrong password for {user} was accepted")
            if replies[0] != replies[1]:
                raise CheckError(f"the reply tells whether a user exists: {replies}")
            return expect(replies[0], "535 5.7.8")

    def swaks_wrong_password(self) -> str:
        done = self.clients.workplace.try_program(
            "swaks-wrong-password",
            [
                *("swaks", "--server", self.sandbox.host, "--port", str(self.sandbox.ports[SUBMISSION]), "--tls"),
                *("--auth", "LOGIN", "--auth-user", self.sandbox.username, "--auth-password", "not-the-password"),
                *("--from", self.sender, "--to", "anna@refused.example"),
            ],
        )
        said = done.stdout.decode("utf-8", "replace")
        if done.returncode != 28 or "535 5.7.8" not in said:
            raise CheckError(f"swaks ended with {done.returncode} and saw no 535 5.7.8")
        return "535 5.7.8"

    def submission_without_auth(self, port: int, *, tls: bool) -> str:
        """RFC 6409 §4.3: nothing without AUTH, not even to a local domain."""
        with connect(self.sandbox, port, tls=tls) as session:
            return expect(session.mail(self.sender), "530 5.7.0")

    def relay_without_auth(self, port: int, *, tls: bool) -> str:
        """No way to a foreign domain, whatever the sender and however the address is dressed up."""
        said = ""
        for sender in (self.sender, "", "somebody@elsewhere.example"):
            for address in self._foreign_addresses():
                with connect(self.sandbox, port, tls=tls) as session:
                    answer = session.mail(sender)
                    if answer[0] == 250:
                        answer = session.docmd("RCPT", f"TO:<{address}>")
                    if answer[0] < 500:
                        raise CheckError(f"from <{sender}> to <{address}>: {answer[0]} {answer[1]!r}")
                    said = f"{answer[0]} {answer[1].decode('utf-8', 'replace')[:5]}"
        return said

    def _foreign_addresses(self) -> tuple[str, ...]:
        domain = self.sandbox.domain
        return (
            "anna@foreign.example",
            f"anna%foreign.example@{domain}",
            f'"anna@foreign.example"@{domain}',
            f"@{domain}:anna@foreign.example",
            "foreign.example!anna",
            "anna@[127.0.0.1]",
        )

    def auth_before_tls(self, port: int) -> str:
        """Not offered and refused in the clear, unless the listener says that loopback may."""
        with connect(self.sandbox, port, tls=False) as session:
            if session.has_extn("auth"):
                return "offered: this loopback listener has plaintext_auth"
            if not session.has_extn("starttls"):
                raise CheckError("neither AUTH nor STARTTLS is offered")
            return expect(session.docmd("AUTH", "PLAIN AGEAYg=="), "538 5.7.11")

    def auth_inside_tls(self, port: int) -> str:
        """PLAIN and LOGIN once TLS is up, and STARTTLS not again."""
        with connect(self.sandbox, port, tls=True) as session:
            offered = session.esmtp_features.get("auth", "").split()
            if not {"PLAIN", "LOGIN"} <= set(offered) or session.has_extn("starttls"):
                raise CheckError(f"EHLO inside TLS says {session.esmtp_features}")
            return " ".join(offered)

    def old_tls(self, port: int) -> str:
        """RFC 8996: TLS 1.1 is over."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        try:
            with smtplib.SMTP(self.sandbox.host, self.sandbox.ports[port], timeout=30) as session:
                session.starttls(context=context)
        except (ssl.SSLError, ConnectionError, smtplib.SMTPServerDisconnected):
            return "handshake refused"
        raise CheckError("TLS 1.1 was accepted")


def run_refusals(table: Table, refusals: Refusals) -> None:
    """Every port, in the clear and inside TLS."""
    checks: list[tuple[str, Callable[[], str]]] = []
    for mechanism in ("PLAIN", "LOGIN"):
        for port in (25, SUBMISSION, IMPLICIT_TLS):
            what = f"wrong password, AUTH {mechanism}, port {port}"
            checks.append((what, partial(refusals.wrong_password, port, mechanism)))
    for port in (25, SUBMISSION, 2525, IMPLICIT_TLS):
        checks += _port_checks(refusals, port)
    for what, run in checks:
        table.check("smtplib", what, run)
    table.check("swaks", f"wrong password, AUTH LOGIN, port {SUBMISSION}", refusals.swaks_wrong_password)


def _port_checks(refusals: Refusals, port: int) -> list[tuple[str, Callable[[], str]]]:
    checks: list[tuple[str, Callable[[], str]]] = []
    for tls in (True,) if port == IMPLICIT_TLS else (False, True):
        where = f"port {port}, {'inside TLS' if tls else 'in the clear'}"
        if port in (SUBMISSION, IMPLICIT_TLS):
            run = partial(refusals.submission_without_auth, port, tls=tls)
            checks.append((f"submission without AUTH, {where}", run))
        checks.append((f"relaying without AUTH, {where}", partial(refusals.relay_without_auth, port, tls=tls)))
    if port != IMPLICIT_TLS:
        checks.append((f"AUTH before STARTTLS, port {port}", partial(refusals.auth_before_tls, port)))
        checks.append((f"TLS 1.1, port {port}", partial(refusals.old_tls, port)))
    checks.append((f"mechanisms inside TLS, port {port}", partial(refusals.auth_inside_tls, port)))
    return checks
