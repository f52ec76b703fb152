"""Next hop: the relay through a real Postfix as smarthost, and a real Postfix through the relay."""

from __future__ import annotations

import json
import smtplib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from driver.clients import Clients
from driver.dkimcheck import DkimRecords
from driver.farend import FarEnd, check_contents, check_envelope, check_no_bcc, check_suffix, check_trace
from driver.postfix import make_certificate, running_postfix, sasl_settings
from driver.samples import SAMPLES, Letter, Sample
from driver.sandbox import Arrived, running_sandbox
from driver.sink import running_sink
from driver.table import Table
from driver.workplace import CheckError, Workplace, wait_for

# Postfix folds lines beyond 998 octets on the way out (smtp_line_length_limit), which is its right.
LETTERS = tuple(sample for sample in SAMPLES if sample.name != "long lines")

SENDER = "shop@sandbox.example"
USERNAME, PASSWORD = "relay@smarthost.example", "for this run only"


@dataclass(frozen=True, slots=True)
class Way:
    """How the relay speaks to Postfix: settings of its smarthost, of Postfix's port, and what Postfix then records."""

    name: str
    port: int
    tls: str
    login: bool
    door: Mapping[str, str]
    samples: Sequence[Sample]

    @property
    def letters(self) -> list[Letter]:
        return [Letter(f"{self.name}-{number}", SENDER, sample) for number, sample in enumerate(self.samples)]


def ways(first_port: int) -> list[Way]:
    """Everything through the usual one, a few letters through each of the others."""
    login = {
        "smtpd_sasl_auth_enable": "yes",
        "smtpd_relay_restrictions": "permit_sasl_authenticated,reject",
        "smtpd_recipient_restrictions": "permit_sasl_authenticated,reject",
    }
    encrypted, implicit = {"smtpd_tls_security_level": "encrypt"}, {"smtpd_tls_wrappermode": "yes"}
    few = LETTERS[:4]
    return [
        Way("starttls-auth", first_port, "starttls", True, encrypted | login, LETTERS),
        Way("starttls", first_port + 1, "starttls", False, encrypted, few),
        Way("implicit-auth", first_port + 2, "implicit", True, implicit | login, few),
        Way("plain", first_port + 3, "none", False, {"smtpd_tls_security_level": "none"}, few),
    ]


def add_smarthosts(config: Path, workplace: Workplace, all_ways: Iterable[Way], ca_file: Path) -> None:
    """What an operator writes: a section for each smarthost, and the route to it by the domains of its letters."""
    password = workplace.file("smarthost-password", f"{PASSWORD}\n".encode())
    text = config.read_text()
    for way in all_ways:
        domains = sorted({address.rpartition("@")[2] for letter in way.letters for address in letter.recipients})
        text += f'\n[[route]]\nname = "{way.name}"\nvia = ["smarthost:{way.name}"]\n'
        text += f"match = {{ recipient_domain = {json.dumps(domains)} }}\n"
        text += f'\n[smarthost.{way.name}]\nhost = "localhost"\nport = {way.port}\ntls = "{way.tls}"\n'
        text += f'ca_file = "{ca_file}"\n' if way.tls != "none" else ""
        text += f'username = "{USERNAME}"\npassword_file = "{password}"\n' if way.login else ""
    config.write_text(text)


def run_smarthost(table: Table, workplace: Workplace, offset: int) -> None:
    """Client -> relay -> Postfix -> recording sink."""
    certificate, key = make_certificate(workplace, "smarthost")
    sink_port, all_ways = offset + 2626, ways(offset + 2627)
    settings = {
        "smtpd_tls_cert_file": str(certificate),
        "smtpd_tls_key_file": str(key),
        "smtpd_tls_loglevel": "1",
        "smtpd_tls_received_header": "yes",
        "relayhost": f"[127.0.0.1]:{sink_port}",
        **sasl_settings(workplace, "postfix-smarthost", USERNAME, PASSWORD),
    }
    ports = {way.port: way.door for way in all_ways}
    with (
        running_sink(sink_port) as sink,
        running_postfix(workplace, "postfix-smarthost", ports, settings),
        running_sandbox(
            workplace,
            "relay-smarthost",
            offset,
            lambda config: add_smarthosts(config, workplace, all_ways, certificate),
        ) as sandbox,
    ):
        records = DkimRecords.of(sandbox.var, sandbox.domain)
        clients = Clients(workplace, sandbox)
        for way in all_ways:
            for letter in way.letters:

                def check(way: Way = way, letter: Letter = letter) -> str:
                    clients.smtplib(letter, 587)
                    arrived = wait_for("arrival behind Postfix", lambda: _complete(sink.arrived(), letter), 20)
                    for message in arrived:
                        _check_behind_postfix(message, letter, way, records)
                    check_envelope(arrived, letter.sender, letter.recipients)
                    return "exact bytes"

                table.check("Postfix", f"smarthost, {way.name}: {letter.sample.name}", check)


def _complete(arrived: list[Arrived], letter: Letter) -> list[Arrived]:
    mine = [message for message in arrived if set(message.rcpt_to) & set(letter.recipients)]
    served = {address for message in mine for address in message.rcpt_to}
    return mine if served >= set(letter.recipients) else []


def _check_behind_postfix(message: Arrived, letter: Letter, way: Way, records: DkimRecords) -> None:
    received = " ".join(message.raw.partition(b"(Postfix)")[0].decode("utf-8", "replace").split())
    for fact, wanted in (("using TLSv1.", way.tls != "none"), (f"(Authenticated sender: {USERNAME})", way.login)):
        if (fact in received) is not wanted:
            raise CheckError(f"Postfix's own Received {'lacks' if wanted else 'has'} {fact!r}: {received[-200:]}")
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
    port = offset + 2640
    with running_postfix(workplace, "postfix-client", {port: {}}, settings):
        for number, sample in enumerate(LETTERS):
            letter = Letter(f"from-postfix-{number}", f"shop@{sandbox.domain}", sample)
            table.check(
                "Postfix",
                f"client, SASL, port 587: {sample.name}",
                lambda letter=letter: _through_postfix(far_end, port, letter),
            )


def _through_postfix(far_end: FarEnd, port: int, letter: Letter) -> str:
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as session:
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
