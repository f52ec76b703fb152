"""Far end: what must be true of a message after it went through the relay. Every check raises CheckError."""

from __future__ import annotations

import email
import email.policy
from collections import Counter
from collections.abc import Collection, Iterable
from email.message import EmailMessage, Message

from driver.dkimcheck import DkimRecords
from driver.samples import Letter
from driver.sandbox import Arrived, Sandbox
from driver.workplace import CheckError, wait_for


class FarEnd:
    """The sandbox's inbox, asked about one letter at a time; remembers every recipient it has seen served."""

    def __init__(self, sandbox: Sandbox, records: DkimRecords) -> None:
        self.sandbox = sandbox
        self.records = records
        self.expected: Counter[str] = Counter()

    def collect(self, recipients: Collection[str], known: Collection[str] = ()) -> list[Arrived]:
        """Every message for these recipients, waiting until each of them was served. Ids in `known` are left out."""
        self.expected.update(recipients)
        first_of_domain = {address.rpartition("@")[2]: address for address in reversed(list(recipients))}

        def complete() -> list[dict[str, object]]:
            entries = {
                entry["id"]: entry
                for address in first_of_domain.values()
                for entry in self.sandbox.listing(to=address)
                if entry["id"] not in known and set(entry["rcpt_to"]) & set(recipients)
            }
            served = {address for entry in entries.values() for address in entry["rcpt_to"]}
            return list(entries.values()) if served >= set(recipients) else []

        entries = wait_for(f"arrival for {', '.join(sorted(first_of_domain.values()))}", complete)
        return [self.sandbox.fetch(entry) for entry in entries]

    def check_letter(self, letter: Letter, *, exact: bytes | None) -> str:
        """Envelope, bytes, trace, TLS and signature of a letter. `exact`: the bytes the client sent, when known."""
        arrived = self.collect(letter.recipients)
        check_envelope(arrived, letter.sender, letter.recipients)
        for message in arrived:
            check_trace(message)
            check_no_bcc(message, letter.bcc)
            check_contents(message, letter)
            if exact is not None:
                check_suffix(message.raw, exact)
            self.check_signed(message)
        return "exact bytes" if exact is not None else "decoded equal"

    def check_signed(self, message: Arrived) -> None:
        """Signed for the sandbox domain, by dkimpy's verdict and by the inbox's own words."""
        self.records.verify(message.raw)
        if self.records.domain not in message.signed:
            raise CheckError(f"the inbox names the signatures {message.signed}")


def check_envelope(arrived: Iterable[Arrived], sender: str, recipients: Iterable[str]) -> None:
    """The same sender, and every recipient once."""
    served: Counter[str] = Counter()
    for message in arrived:
        served.update(message.rcpt_to)
        if message.mail_from != sender:
            raise CheckError(f"MAIL FROM is {message.mail_from!r}, sent was {sender!r}")
    wanted = Counter(recipients)
    if served != wanted:
        raise CheckError(f"RCPT TO differs: missing {list(wanted - served)}, too many {list(served - wanted)}")


def check_trace(message: Arrived, *, word: str = "ESMTPSA") -> None:
    """The relay's own Received says how the message came in, and the way out was encrypted too."""
    fields = [str(value) for value in parsed(message.raw).get_all("Received", [])]
    # RFC 6531 §4.3: Go's net/smtp asks for SMTPUTF8 wherever it is offered.
    words = [f" with {known} id " for known in (word, word.replace("ESMTP", "UTF8SMTP"))]
    ours = [value for value in fields if "(Sendrelay)" in value and any(w in " ".join(value.split()) for w in words)]
    if not ours:
        raise CheckError(f"no Received field of the relay says {word}: {fields}")
    if "S" in word.removeprefix("ESMTP") and "using TLSv1." not in ours[0]:
        raise CheckError(f"Received names no TLS version: {ours[0]!r}")
    if not message.tls.startswith("TLSv1."):
        raise CheckError(f"the delivery to the MX was not encrypted: {message.tls!r}")


def check_no_bcc(message: Arrived, hidden: Iterable[str]) -> None:
    """No Bcc field, and no hidden recipient's address anywhere in the bytes."""
    if parsed(message.raw)["Bcc"] is not None:
        raise CheckError("a Bcc field arrived")
    for address in hidden:
        if address.encode() in message.raw:
            raise CheckError(f"the hidden recipient {address} is named in the message")


def check_suffix(raw: bytes, exact: bytes) -> None:
    """What the client sent is the end of what arrived, octet for octet."""
    if raw.endswith(exact):
        return
    ending = raw[-len(exact) :]
    at = next((i for i, (a, b) in enumerate(zip(ending, exact, strict=False)) if a != b), 0)
    raise CheckError(f"bytes differ from octet {at}: sent {exact[at : at + 40]!r}, arrived {ending[at : at + 40]!r}")


def check_contents(message: Arrived, letter: Letter) -> None:
    """Decoded text, attachment and subject are what was composed; To and Cc name whom they should."""
    mail = email.message_from_bytes(message.raw, policy=email.policy.default)
    assert isinstance(mail, EmailMessage)
    body = mail.get_body(("plain",))
    text = body.get_content() if body is not None else ""
    if _lines(text) != _lines(letter.sample.text):
        raise CheckError(f"the text differs: {text[:60]!r}")
    files = [part.get_content() for part in mail.iter_attachments()]
    if files != ([letter.sample.attachment] if letter.sample.attachment else []):
        raise CheckError(f"attachments differ: {[len(file) for file in files]} octets")
    if mail["Subject"] != letter.subject:
        raise CheckError(f"Subject is {mail['Subject']!r}")
    for name, addresses in (("To", letter.to), ("Cc", letter.cc)):
        if _addresses(mail, name) != addresses:
            raise CheckError(f"{name} is {mail[name]!r}")


def parsed(raw: bytes) -> Message:
    """The header block without interpretation."""
    return email.message_from_bytes(raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", policy=email.policy.compat32)


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").rstrip("\n").split("\n")


def _addresses(mail: EmailMessage, name: str) -> list[str]:
    field = mail[name]
    return [] if field is None else [address.addr_spec for address in field.addresses]
