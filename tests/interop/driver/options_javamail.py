"""JavaMail's properties (`mail.smtp.*`), given on the command line of its composing program."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from driver.clients import IMPLICIT_TLS
from driver.farend import check_suffix
from driver.frontdoor import ROBOT, FrontDoor
from driver.options import SUBMISSION, Look, Sent, asked, mail_from, notified, received_has
from driver.samples import PLAIN, SAMPLES, Letter, Sample
from driver.table import Table

_EIGHT_BIT = next(sample for sample in SAMPLES if sample.name == "8-bit text")
_LARGE = next(sample for sample in SAMPLES if sample.attachment)
_FROM_UTF8 = Sample("UTF-8 recipient", "Hello.", to=("jörg@{case}.example",))


@dataclass(frozen=True, slots=True)
class Property:
    """`given` are properties after `mail.smtp.`, or whole names."""

    given: dict[str, str]
    looks: tuple[Look, ...] = ()
    sample: Sample = PLAIN
    port: int = SUBMISSION
    sender: str = ""
    password: str = ""

    @property
    def name(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.given.items())


def run_javamail(table: Table, door: FrontDoor) -> None:
    for number, one in enumerate(_properties(door)):
        table.check("JavaMail", f"option: {one.name}"[:60], partial(_run, door, number, one))


def _properties(door: FrontDoor) -> list[Property]:
    user = (received_has(f"authenticated as {door.sandbox.username}"),)
    returns = f"returns@{door.sandbox.domain}"
    return [
        Property({"localhost": "java.client.example"}, (received_has("from java.client.example "),)),
        Property({"localaddress": "127.0.0.9"}, (received_has("[127.0.0.9]"),)),
        Property({"from": returns}, (mail_from(returns),)),
        Property({"dsn.ret": "HDRS"}, (asked(ret="HDRS"),)),
        Property({"dsn.notify": "SUCCESS"}, (notified("anna@javamail-option-4.example"),)),
        Property({"dsn.notify": "NEVER"}),
        Property({"allow8bitmime": "true"}, (), _EIGHT_BIT),
        Property({"mailextension": "MT-PRIORITY=-3"}, (asked(priority=-3),)),
        Property({"submitter": door.sender}, (asked(submitter=door.sender),)),
        Property({"chunksize": "65536"}, (), _LARGE),
        Property({"mail.mime.allowutf8": "true"}, (received_has("UTF8SMTPSA"),), _FROM_UTF8),
        Property({"userset": "true", "quitwait": "true"}),
        Property({"ssl.protocols": "TLSv1.2"}, (received_has("using TLSv1.2"),)),
        Property({"ssl.protocols": "TLSv1.3"}, (received_has("using TLSv1.3"),), port=IMPLICIT_TLS),
        Property({"auth.mechanisms": "LOGIN"}, user),
        Property({"auth.mechanisms": "PLAIN"}, user),
        Property({"auth.mechanisms": "XOAUTH2"}, (received_has(f"authenticated as {ROBOT}"),), sender=ROBOT,
                 password=door.token()),
    ]  # fmt: skip


def _run(door: FrontDoor, number: int, one: Property) -> str:
    letter = Letter(f"javamail-option-{number}", one.sender or door.sender, one.sample)
    given = {name if name.startswith("mail.") else f"mail.smtp.{name}": value for name, value in one.given.items()}
    login = {"SMTP_USERNAME": one.sender, "SMTP_PASSWORD": one.password} if one.password else {}
    properties = [f"-D{name}={value}" for name, value in given.items()]
    exact = door.clients.javamail_with(letter, one.port, properties, **login)
    (recipient,) = letter.recipients
    sent = Sent(door, door.one(recipient))
    check_suffix(sent.arrived.raw, exact)
    return "; ".join(filter(None, ("exact bytes", *(look(sent) for look in one.looks))))
