"""Next hop: the relay through a real Postfix as smarthost, and a real Postfix through the relay."""

from __future__ import annotations

import smtplib
from collections import Counter
from pathlib import Path

from driver.clients import Clients
from driver.dkimcheck import DkimRecords
from driver.farend import FarEnd, check_contents, check_envelope, check_no_bcc, check_suffix, check_trace
from driver.postfix import Postfix, make_certificate, running_postfix
from driver.samples import SAMPLES, Letter
from driver.sandbox import Arrived, running_sandbox
from driver.sink import running_sink
from driver.table import Table
from driver.workplace import CheckError, Workplace, wait_for

# Postfix folds lines beyond 998 octets on the way out (smtp_line_length_limit), which is its right.
LETTERS = tuple(sample for sample in SAMPLES if sample.name != "long lines")


def add_smarthost(config: Path, port: int, ca_file: Path) -> None:
    """What an operator writes to send everything through a smarthost: its section, and a route before the others."""
    smarthost = f'\n[smarthost.postfix]\nhost = "localhost"\nport = {port}\ntls = "starttls"\nca_file = "{ca_file}"\n'
    route = '[[route]]\nname = "by-postfix"\nvia = ["smarthost:postfix"]\n\n'
    text = config.read_text()
    at = text.find("\n[[route]]") + 1
    config.write_text((text[:at] + route + text[at:] if at else f"{text}\n{route}") + smarthost)


def run_smarthost(table: Table, workplace: Workplace, offset: int) -> None:
    """Client -> relay -> Postfix (STARTTLS, certificate checked) -> recording sink."""
    certificate, key = make_certificate(workplace, "smarthost")
    postfix_port, sink_port = offset + 2626, offset + 2627
    settings = {
        "smtpd_tls_security_level": "may",
        "smtpd_tls_cert_file": str(certificate),
        "smtpd_tls_key_file": str(key),
        "smtpd_tls_loglevel": "1",
        "smtpd_tls_received_header": "yes",
        "relayhost": f"[127.0.0.1]:{sink_port}",
    }
    with (
        running_sink(sink_port) as sink,
        running_postfix(workplace, "postfix-smarthost", postfix_port, settings),
        running_sandbox(
            workplace, "relay-smarthost", offset, lambda config: add_smarthost(config, postfix_port, certificate)
        ) as sandbox,
    ):
        records = DkimRecords.of(sandbox.var, sandbox.domain)
        clients = Clients(workplace, sandbox)
        for number, sample in enumerate(LETTERS):
            letter = Letter(f"by-postfix-{number}", f"shop@{sandbox.domain}", sample)

            def check(letter: Letter = letter) -> str:
                clients.smtplib(letter, 587)
                arrived = wait_for("arrival behind Postfix", lambda: _complete(sink.arrived(), letter), 60)
                for message in arrived:
                    _check_behind_postfix(message, letter, records)
                check_envelope(arrived, letter.sender, letter.recipients)
                return "exact bytes"

            table.check("Postfix", f"as our smarthost, STARTTLS: {sample.name}", check)


def _complete(arrived: list[Arrived], letter: Letter) -> list[Arrived]:
    mine = [message for message in arrived if set(message.rcpt_to) & set(letter.recipients)]
    served = {address for message in mine for address in message.rcpt_to}
    return mine if served >= set(letter.recipients) else []


def _check_behind_postfix(message: Arrived, letter: Letter, records: DkimRecords) -> None:
    received = " ".join(message.raw.partition(b"by postfix-smarthost.example")[0].decode("utf-8", "replace").split())
    if "using TLSv1." not in received:
        raise CheckError("Postfix's own Received says nothing of TLS from the relay")
    check_suffix(message.raw, letter.content)
    check_contents(message, letter)
    check_no_bcc(message, letter.bcc)
    records.verify(message.raw)


def run_postfix_client(table: Table, clients: Clients, far_end: FarEnd, offset: int) -> None:
    """Mail given to a Postfix whose relayhost is our submission port: SASL, certificate checked, every recipient."""
    workplace, sandbox = clients.workplace, clients.sandbox
    target = f"[localhost]:{sandbox.ports[587]}"
    passwords = workplace.file("sasl_passwd", f"{target} {sandbox.username}:{sandbox.password}\n".encode())
    settings = {
        "relayhost": target,
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_password_maps": f"texthash:{passwords}",
        "smtp_sasl_security_options": "noanonymous",
        "smtp_tls_security_level": "secure",
        "smtp_tls_CAfile": str(sandbox.ca_file),
        "smtp_tls_loglevel": "1",
    }
    with running_postfix(workplace, "postfix-client", offset + 2628, settings) as postfix:
        for number, sample in enumerate(LETTERS):
            letter = Letter(f"from-postfix-{number}", f"shop@{sandbox.domain}", sample)
            table.check(
                "Postfix",
                f"as our client, SASL, port 587: {sample.name}",
                lambda letter=letter: _through_postfix(far_end, postfix, letter),
            )


def _through_postfix(far_end: FarEnd, postfix: Postfix, letter: Letter) -> str:
    with smtplib.SMTP("127.0.0.1", postfix.port, timeout=60) as session:
        session.sendmail(letter.sender, letter.recipients, letter.content)
    arrived = far_end.collect(letter.recipients)
    check_envelope(arrived, letter.sender, letter.recipients)
    for message in arrived:
        check_trace(message)
        check_suffix(message.raw, letter.content)
        check_contents(message, letter)
        check_no_bcc(message, letter.bcc)
        far_end.check_signed(message)
    return "exact bytes"


def run_everything_once(table: Table, far_end: FarEnd) -> None:
    """At the very end: nobody got anything twice, and nobody got what was not sent."""

    def check() -> str:
        served: Counter[str] = Counter()
        for entry in far_end.sandbox.listing():
            served.update(entry["rcpt_to"])
        if served != far_end.expected:
            more, less = served - far_end.expected, far_end.expected - served
            raise CheckError(f"{_some(more)} too many, {_some(less)} missing")
        return f"{served.total()} recipients"

    def _some(counter: Counter[str]) -> str:
        names = ", ".join(list(counter)[:3])
        return f"{counter.total()} ({names} ...)" if counter else "none"

    table.check("all", "every recipient of the run served once", check)
