"""Smuggling: false ends of data and line ends in addresses, through the relay, to a real Postfix that believes them.

Postfix is set to end data at a bare line feed, as it did before CVE-2023-51764: what the relay lets through becomes a
second message there, as the first check shows without the relay.
"""

from __future__ import annotations

import json
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from driver.postfix import running_postfix
from driver.sandbox import Arrived, Sandbox, running_sandbox
from driver.sink import running_sink
from driver.table import Table
from driver.workplace import CheckError, Workplace, wait_for

_FALSE_ENDS = {
    "LF.LF": b"\n.\n",
    "LF.CR": b"\n.\r",
    "LF.CRLF": b"\n.\r\n",
    "CR.CR": b"\r.\r",
    "CR.LF": b"\r.\n",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CRLF.CR": b"\r\n.\r",
    "LFLF.CRLF": b"\n\n.\r\n",
    "CRCR.CRCR": b"\r\r.\r\r",
    "CRLFLF.CRLF": b"\r\n\n.\r\n",
    "CRCRLF.CRCRLF": b"\r\r\n.\r\r\n",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "CRLF.LFCRLF": b"\r\n.\n\r\n",
    "CRLFNUL.CRLF": b"\r\n\0.\r\n",
    "CRLF.NULCRLF": b"\r\n.\0\r\n",
    "VT.VT": b"\x0b.\x0b",
    "NEL.NEL": b"\xc2\x85.\xc2\x85",
    "CRLF..CRLF": b"\r\n..\r\n",
}
_MALLORY = "mallory@smuggled.example"
_SMUGGLED = b"MAIL FROM:<" + _MALLORY.encode() + b">\r\nRCPT TO:<" + _MALLORY.encode() + b">\r\nDATA\r\nx\r\n.\r\n"
_LENIENT = {"smtpd_forbid_bare_newline": "no", "smtpd_forbid_unauth_pipelining": "no"}
_PARAMETERS = (
    "ORCPT=rfc822;a+0D+0ARCPT+20TO:<" + _MALLORY + ">",
    "ORCPT=rfc822;a+0ARCPT+20TO:<" + _MALLORY + ">",
    "ORCPT=rfc822;a+00b",
)
_LOCAL_PARTS = (
    "a;reboot",
    "a`id`",
    "a$(id)",
    "|cat",
    "'a'",
    '"a b"',
    '"a\\"b"',
    '"<a>"',
    "a%smuggled.example",
    '"a@smuggled.example"',
)


@dataclass(slots=True)
class _Sent:
    """What the relay said of each recipient of this run."""

    accepted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def note(self, recipient: str, code: int) -> int:
        (self.accepted if code == 250 else self.refused).append(recipient)
        return code


def run_smuggling(table: Table, workplace: Workplace, offset: int) -> None:
    """Client -> relay -> lenient Postfix -> recording sink."""
    sink_port, door = offset + 2670, offset + 2671

    def configure(config: Path) -> None:
        text = config.read_text()
        text += '\n[[route]]\nname = "all"\nvia = ["smarthost:postfix"]\n'
        text += f'\n[smarthost.postfix]\nhost = "127.0.0.1"\nport = {door}\ntls = "none"\n'
        config.write_text(text)

    settings = {"relayhost": f"[127.0.0.1]:{sink_port}", "allow_percent_hack": "no", **_LENIENT}
    with (
        running_sink(sink_port) as sink,
        running_postfix(workplace, "postfix-smuggling", {door: {}}, settings),
        running_sandbox(workplace, "relay-smuggling", offset, configure) as sandbox,
    ):
        table.check("Postfix", "smuggling, without the relay", lambda: _believes(door, sink.arrived))
        logins = {"strict": (sandbox.username, sandbox.password), "tolerant": _tolerant(workplace, sandbox)}
        for name, login in logins.items():
            sent = _Sent()
            for verb in ("DATA", "BDAT"):
                run = partial(_smuggle, sandbox, login, verb, f"{name}-{verb.lower()}", sent)
                table.check("Postfix", f"smuggling by {verb}, {name} login", run)
            table.check("Postfix", f"what came of it, {name} login", partial(_check_arrived, sent, sink.arrived))
        sent = _Sent()
        run = partial(_inject, sandbox, logins["strict"], sent)
        table.check("Postfix", "line ends and shell signs in recipients", run)
        table.check("Postfix", "what came of them", partial(_check_arrived, sent, sink.arrived))


def _believes(door: int, arrived: Callable[[], list[Arrived]]) -> str:
    """Postfix alone makes two messages of one: else this section would prove nothing."""
    session = smtplib.SMTP("127.0.0.1", door, timeout=30)
    session.ehlo()
    session.mail("a@b.example")
    session.rcpt("control@far.example")
    session.docmd("DATA")
    session.send(b"Subject: one\r\n\r\none" + _FALSE_ENDS["LF.CRLF"] + _SMUGGLED.replace(b"mallory", b"control"))
    wait_for("two messages", lambda: len(arrived()) == 2)
    session.close()
    return "two messages of one"


def _tolerant(workplace: Workplace, sandbox: Sandbox) -> tuple[str, str]:
    """A credential whose bare line ends are mended."""
    username = f"device@{sandbox.domain}"
    relay = (workplace.relay, "--config", sandbox.var / "relay.toml", "credential")
    said = workplace.program("credential-add", [*relay, "add", username, "--json"])
    password = str(json.loads(said[said.index("{") : said.rindex("}") + 1])["password"])
    workplace.program("credential-tolerate", [*relay, "tolerate", username, "bare_lf", "undeclared_8bit"])

    def mends() -> bool:
        try:
            with _session(sandbox, (username, password)) as session:
                return _data(session, "mended@far.example", b"Subject: one\n\none\r\n.\r\n", "DATA") == 250
        except smtplib.SMTPAuthenticationError:
            return False

    wait_for("the tolerant credential", mends)
    return username, password


def _session(sandbox: Sandbox, login: tuple[str, str]) -> smtplib.SMTP:
    session = smtplib.SMTP("127.0.0.1", sandbox.ports[587], timeout=30)
    session.starttls(context=ssl.create_default_context(cafile=str(sandbox.ca_file)))
    session.login(*login)
    return session


def _data(session: smtplib.SMTP, recipient: str, content: bytes, verb: str, options: str = "") -> int:
    """The code of the last reply; `content` holds the end of data. One NOOP behind it is answered as one."""
    session.mail("shop@sandbox.example")
    # smtplib's own rcpt() reads an address first, and makes another of some.
    code, _ = session.docmd("RCPT", f"TO:<{recipient}> {options}".rstrip())
    if code != 250:
        return code
    if verb == "DATA":
        session.docmd("DATA")
        session.send(content)
    else:
        content = content.removesuffix(b".\r\n")
        session.send(b"BDAT %d LAST\r\n" % len(content) + content)
    code, _ = session.getreply()
    if session.noop()[0] != 250:
        raise CheckError("what is in the message was read as commands")
    return code


def _smuggle(sandbox: Sandbox, login: tuple[str, str], verb: str, name: str, sent: _Sent) -> str:
    codes: list[int] = []
    for number, end in enumerate(_FALSE_ENDS.values()):
        recipient = f"{name}-{number}@far.example"
        content = b"From: <shop@sandbox.example>\r\nSubject: one\r\n\r\none" + end + _SMUGGLED
        with _session(sandbox, login) as session:
            codes.append(sent.note(recipient, _data(session, recipient, content, verb)))
    return f"{codes.count(250)} taken as one message, {len(codes) - codes.count(250)} refused"


def _inject(sandbox: Sandbox, login: tuple[str, str], sent: _Sent) -> str:
    content = b"From: <shop@sandbox.example>\r\nSubject: one\r\n\r\none\r\n.\r\n"
    recipients = [(f"parameter-{number}@far.example", option) for number, option in enumerate(_PARAMETERS)]
    recipients += [(f"{local}@far.example", "") for local in _LOCAL_PARTS]
    with _session(sandbox, login) as session:
        for recipient, option in recipients:
            code = sent.note(recipient, _data(session, recipient, content, "DATA", option))
            if code != 250:
                session.rset()
    return f"{len(sent.accepted)} taken, {len(sent.refused)} refused"


def _check_arrived(sent: _Sent, arrived: Callable[[], list[Arrived]]) -> str:
    """Everything that was taken arrived as one message to its own recipient; nothing else did."""
    prefixes = {address.rpartition("@")[0] for address in (*sent.accepted, *sent.refused)}

    def ours() -> list[Arrived]:
        return [one for one in arrived() if any(to.rpartition("@")[0] in prefixes for to in one.rcpt_to)]

    wait_for("what was taken", lambda: len(ours()) >= len(sent.accepted), 60)
    served = sorted(address for one in ours() for address in one.rcpt_to)
    if served != sorted(sent.accepted):
        raise CheckError(f"arrived {set(served) ^ set(sent.accepted)} or more than once")
    everyone = {address for one in arrived() for address in one.rcpt_to}
    if _MALLORY in everyone:
        raise CheckError("a message inside a message was delivered")
    return f"{len(served)} messages, none of them two"
