"""Content: what a known client may not send, and what port 25 takes from strangers."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Callable
from functools import partial

from driver.clients import Clients
from driver.farend import FarEnd, check_envelope, check_suffix, check_trace
from driver.refusals import SUBMISSION, connect, expect
from driver.table import Table
from driver.workplace import CheckError, wait_for

_SMUGGLED = b"MAIL FROM:<mallory@sandbox.example>\r\nRCPT TO:<mallory@smuggled.example>\r\nDATA\r\nsmuggled\r\n.\r\n"
# What some servers take for the end of data, and this one may not (RFC 5321 §2.3.8, §4.1.1.4).
_FALSE_ENDS = {
    "LF.LF": b"\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CR.CR": b"\r.\r",
    "CRLF.CR": b"\r\n.\r",
}


class Contents:
    """Each method is one check; it returns the reply for the table."""

    def __init__(self, clients: Clients, far_end: FarEnd) -> None:
        self.clients = clients
        self.sandbox = clients.sandbox
        self.far_end = far_end
        self.sender = f"shop@{self.sandbox.domain}"

    def session(self, username: str = "", password: str = "") -> smtplib.SMTP:
        """On port 587, inside TLS and logged in."""
        session = connect(self.sandbox, SUBMISSION, tls=True)
        session.login(username or self.sandbox.username, password or self.sandbox.password)
        return session

    def sender_without_right(self) -> str:
        """A credential bound to one domain sends from it, and neither MAIL FROM nor From may name another."""
        username = f"bound@{self.sandbox.domain}"
        relay = (self.clients.workplace.relay, "--config", self.sandbox.var / "relay.toml")
        options = ("--sender-domain", self.sandbox.domain, "--json")
        said = self.clients.workplace.program("credential-add", [*relay, "credential", "add", username, *options])
        added = json.loads(said[said.index("{") : said.rindex("}") + 1])
        wait_for("the new credential", lambda: self._accepted(username, added["password"]))
        with self.session(username, added["password"]) as session:
            first = expect(session.mail("ceo@elsewhere.example"), "550 5.7.1")
            if session.mail(self.sender)[0] != 250 or session.rcpt("anna@bound.example")[0] != 250:
                raise CheckError("its own domain was refused too")
            answer = session.data(b"From: <ceo@elsewhere.example>\r\nSubject: no\r\n\r\nno\r\n")
            second = expect(answer, "550 5.7.60")
            session.sendmail(self.sender, "anna@bound.example", f"From: <{self.sender}>\r\n\r\nyes\r\n")
        check_envelope(self.far_end.collect(["anna@bound.example"]), self.sender, ["anna@bound.example"])
        return f"{first} and {second}"

    def _accepted(self, username: str, password: str) -> bool:
        """The server looks for new credentials once a second."""
        try:
            self.session(username, password).quit()
        except smtplib.SMTPAuthenticationError:
            return False
        return True

    def bare_line_end(self, end: bytes) -> str:
        """554, the whole of it read as one message, and no command in it obeyed."""
        with self.session() as session:
            session.mail(self.sender)
            session.rcpt("anna@bare.example")
            expect(session.docmd("DATA"), "354")
            session.send(b"From: <" + self.sender.encode() + b">\r\n\r\none" + end + _SMUGGLED)
            said = expect(session.getreply(), "554 5.6.0")
            expect(session.noop(), "250")
        if self.sandbox.listing(to="mallory@smuggled.example"):
            raise CheckError("the message inside the message was delivered")
        return said

    def bare_lf_command(self) -> str:
        with self.session() as session:
            session.send(b"NOOP\n")
            return expect(session.getreply(), "500 5.5.2")

    def for_the_own_domain(self) -> str:
        """Port 25 takes mail for the domain of [inbound] from anybody, and never signs it."""
        recipient, content = f"postmaster@{self.sandbox.domain}", b"From: <a@b.example>\r\nDate: x\r\n\r\nhello\r\n"
        with connect(self.sandbox, 25, tls=True) as session:
            session.sendmail("a@b.example", [recipient], content)
        arrived = self.far_end.collect([recipient])
        check_envelope(arrived, "a@b.example", [recipient])
        check_trace(arrived[0], word="ESMTPS")
        check_suffix(arrived[0].raw, content)
        if arrived[0].signed:
            raise CheckError(f"signed for {arrived[0].signed}")
        return "taken, not signed"


def run_contents(table: Table, contents: Contents) -> None:
    """Rights, line ends, and the one thing that needs no login."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("sender without the right, in MAIL FROM and From", contents.sender_without_right),
        ("bare LF behind a command", contents.bare_lf_command),
        ("port 25, for the own domain without AUTH", contents.for_the_own_domain),
    ]
    for name, end in _FALSE_ENDS.items():
        checks.append((f"bare line end in data, {name}", partial(contents.bare_line_end, end)))
    for what, run in checks:
        table.check("smtplib", what, run)
