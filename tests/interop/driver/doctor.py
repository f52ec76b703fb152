"""Doctor: what people set wrong in real clients, and that `relay sessions` then says what it was and what to change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from driver.clients import IMPLICIT_TLS, Clients
from driver.frontdoor import BOUND, PLAIN, STRICT, FrontDoor
from driver.libraries import Library
from driver.options import SUBMISSION, compose
from driver.samples import PLAIN as ONE
from driver.samples import Letter
from driver.table import Table
from driver.workplace import CheckError, wait_for

# Each library is left without the sandbox's CA.
UNTRUSTED = {"NODE_EXTRA_CA_CERTS": "/dev/null"}
_NO_CA = {"SMTPOptions": {"ssl": {"cafile": "/etc/ssl/certs/ca-certificates.crt"}}}


@dataclass(frozen=True, slots=True)
class Mistake:
    """`symptom` is the first finding that the doctor has of it."""

    client: str
    name: str
    symptom: str
    transport: Mapping[str, Any] = field(default_factory=dict)
    port: int = SUBMISSION
    mail: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def _nodemailer(password: str) -> list[Mistake]:
    def one(name: str, symptom: str, transport: dict[str, Any], port: int = SUBMISSION, **more: Any) -> Mistake:
        quick = {"greetingTimeout": 1500, "socketTimeout": 5000}
        return Mistake("nodemailer", name, symptom, quick | transport, port, **more)

    wrong = {"auth": {"user": BOUND, "pass": "not the password"}}
    bound = {"auth": {"user": BOUND, "pass": password}}
    return [
        one("untrusted certificate, STARTTLS", "left_at_handshake", {"requireTLS": True}, env=UNTRUSTED),
        one("untrusted certificate, port 465", "plain_on_tls_port", {"secure": True}, IMPLICIT_TLS, env=UNTRUSTED),
        one("certificate of another name", "left_at_handshake", {"tls": {"servername": "mail.other.example"}}),
        one("ignoreTLS, a login", "no_starttls", {"ignoreTLS": True, "auth": None}),
        one("ignoreTLS, forceAuth", "auth_in_clear", {"ignoreTLS": True, "forceAuth": True}),
        one(
            "ignoreTLS, forceAuth, LOGIN",
            "auth_in_clear",
            {"ignoreTLS": True, "forceAuth": True, "authMethod": "LOGIN"},
        ),
        one("secure true, port 587", "tls_on_starttls_port", {"secure": True}),
        one("secure false, port 465", "plain_on_tls_port", {}, IMPLICIT_TLS),
        one("secure true, no TLS there", "tls_on_plain_port", {"secure": True}, PLAIN),
        one("requireTLS, no TLS there", "starttls_not_here", {"requireTLS": True}, PLAIN),
        one("wrong password", "wrong_password", wrong),
        one("wrong password, LOGIN", "wrong_password", wrong | {"authMethod": "LOGIN"}),
        one("authMethod CRAM-MD5", "auth_mechanism", {"authMethod": "CRAM-MD5"}),
        one("no login", "no_auth", {"auth": None}),
        one("sender of somebody else", "sender_right", bound, mail={"from": "ceo@elsewhere.example"}),
        one(
            "TLS 1.1",
            "tls_too_old",
            {"tls": {"minVersion": "TLSv1", "maxVersion": "TLSv1.1", "ciphers": "ALL:@SECLEVEL=0"}},
        ),
        one("name with a space", "bad_helo", {"name": "my printer"}),
        one(
            "recipient that is none",
            "bad_address",
            {},
            mail={"envelope": {"from": "a@b.example", "to": f"{'x' * 65}@c.example"}},
        ),
        one(
            "8-bit text undeclared, strict",
            "undeclared_8bit",
            {},
            STRICT,
            mail={"raw": "Subject: x\r\n\r\nGrüße\r\n", "envelope": {"from": "a@b.example", "to": "c@d.example"}},
        ),
        one("no login, port 25", "relaying", {"auth": None}, 25),
    ]


def _phpmailer(password: str) -> list[Mistake]:
    def one(name: str, symptom: str, transport: dict[str, Any], port: int = SUBMISSION, **more: Any) -> Mistake:
        return Mistake("PHPMailer", name, symptom, {"Timeout": 3} | transport, port, **more)

    tls: dict[str, Any] = {"SMTPSecure": "tls"}
    bound = {"Username": BOUND, "Password": password}
    return [
        one("untrusted certificate, STARTTLS", "certificate_refused", tls | _NO_CA),
        one("untrusted certificate, SMTPAutoTLS", "certificate_refused", _NO_CA),
        one("untrusted certificate, port 465", "certificate_refused", {"SMTPSecure": "ssl"} | _NO_CA, IMPLICIT_TLS),
        one("SMTPSecure '', SMTPAutoTLS off", "no_starttls", {"SMTPSecure": "", "SMTPAutoTLS": False}),
        one("the same, without a login", "no_starttls", {"SMTPAutoTLS": False, "SMTPAuth": False}),
        one("SMTPSecure ssl, port 587", "tls_on_starttls_port", {"SMTPSecure": "ssl"}),
        one("SMTPSecure tls, port 465", "plain_on_tls_port", tls, IMPLICIT_TLS),
        one("SMTPSecure ssl, no TLS there", "tls_on_plain_port", {"SMTPSecure": "ssl"}, PLAIN),
        one("SMTPSecure tls, no TLS there", "starttls_not_here", tls, PLAIN),
        one("wrong password", "wrong_password", tls | bound | {"Password": "not the password"}),
        one("SMTPAuth off", "no_auth", tls | {"SMTPAuth": False}),
        one("SMTPAuth off, port 25", "relaying", {"SMTPAuth": False}, 25),
        one("sender of somebody else", "sender_right", tls | bound, mail={"from": "root@elsewhere.example"}),
        one("do_verp", "parameter_not_offered", {"do_verp": True}),
        one("Helo with a space", "bad_helo", {"Helo": "my printer"}),
        one("Encoding 8bit, strict", "undeclared_8bit", {"Encoding": "8bit"}, STRICT, mail={"text": "Grüße"}),
    ]


class Doctor:
    """Remembers what was known before, so that one look at the list after each client is enough."""

    def __init__(self, door: FrontDoor) -> None:
        self.door = door
        self._known = door.failed_sessions()

    def finds(self, symptom: str) -> str:
        """The session that has failed since the last look is this, and what to change is said."""

        def failed() -> list[dict[str, Any]]:
            now = self.door.failed_sessions()
            new = [entry for one, entry in now.items() if self._known.get(one, {}).get("times") != entry["times"]]
            self._known = now
            return new

        entries = wait_for("a failed session in `relay sessions list`", failed)
        names = [entry["findings"][0]["symptom"] for entry in entries]
        if set(names) != {symptom}:
            raise CheckError(f"it finds {', '.join(names)}, not {symptom}")
        if not all(finding["change"] for entry in entries for finding in entry["findings"]):
            raise CheckError("it does not say what to change")
        return f"{symptom}: {entries[0]['findings'][0]['happened'][:60]}"


def run_doctor(table: Table, door: FrontDoor) -> None:
    password = door.add_credential(BOUND, "--sender-domain", door.sandbox.domain)
    doctor = Doctor(door)
    libraries = {name: Library(name, door.clients) for name in ("nodemailer", "PHPMailer")}
    for number, mistake in enumerate([*_nodemailer(password), *_phpmailer(password)]):

        def check(number: int = number, mistake: Mistake = mistake) -> str:
            slug = f"doctor-{number}"
            mail = {**compose(door.sender, [f"anna@{slug}.example"], slug), **mistake.mail}
            call = {"transport": mistake.transport, "mails": [mail]}
            (said,) = libraries[mistake.client].call(slug, mistake.port, call, **mistake.env)
            if said.ok:
                raise CheckError(f"it was sent: {said.reply}")
            return doctor.finds(mistake.symptom)

        table.check(mistake.client, f"mistake: {mistake.name}", check)
    for client, name, symptom, run in _programs(door.clients, door.sender):

        def program(symptom: str = symptom, run: Callable[[], object] = run) -> str:
            try:
                run()
            except CheckError:
                return doctor.finds(symptom)
            raise CheckError("it was sent")

        table.check(client, f"mistake: {name}", program)
    table.check("relay sessions", "show: what happened, what to change, the words", lambda: _shown(door))


def _programs(clients: Clients, sender: str) -> list[tuple[str, str, str, Callable[[], object]]]:
    """The same mistakes where the client is no library of an application."""

    def letter(name: str) -> Letter:
        return Letter(f"doctor-{name}", sender, ONE)

    def argv(name: str, port: int, *options: str) -> None:
        host = f"{clients.sandbox.host}:{clients.sandbox.ports[port]}"
        words = ["swaks", "--server", host, "--from", sender, "--to", f"anna@{name}.example", *options]
        clients.workplace.program(name, words)

    def curl(name: str, *options: str) -> None:
        host = f"{clients.sandbox.host}:{clients.sandbox.ports[SUBMISSION]}"
        words = ["curl", "--silent", "--show-error", "--url", f"smtp://{host}/client.example", *options]
        message = clients.workplace.file(f"{name}.eml", letter(name).content)
        to = ["--mail-from", sender, "--mail-rcpt", f"anna@{name}.example", "--upload-file", str(message)]
        clients.workplace.program(name, [*words, *to])

    bad_java = ["-Djavax.net.ssl.trustStore=/dev/null"]
    return [
        ("JavaMail", "untrusted certificate, STARTTLS", "certificate_refused",
         lambda: clients.javamail_with(letter("java-untrusted"), SUBMISSION, bad_java)),
        ("JavaMail", "untrusted certificate, port 465", "certificate_refused",
         lambda: clients.javamail_with(letter("java-untrusted-465"), IMPLICIT_TLS, bad_java)),
        ("JavaMail", "wrong password", "wrong_password",
         lambda: clients.javamail_with(letter("java-password"), SUBMISSION, [], SMTP_PASSWORD="no")),
        ("Go net/smtp", "untrusted certificate", "certificate_refused",
         lambda: clients.go_with(letter("go-untrusted"), SUBMISSION, SSL_CERT_FILE="/dev/null")),
        ("Go net/smtp", "wrong password", "wrong_password",
         lambda: clients.go_with(letter("go-password"), SUBMISSION, SMTP_PASSWORD="no")),
        ("curl", "untrusted certificate", "certificate_refused", lambda: curl("curl-untrusted", "--ssl-reqd")),
        ("curl", "no TLS, no login", "no_starttls", lambda: curl("curl-clear")),
        ("swaks", "no login", "no_auth", lambda: argv("swaks-no-auth", SUBMISSION, "--tls")),
        ("swaks", "port 465 without TLS", "plain_on_tls_port",
         lambda: argv("swaks-465", IMPLICIT_TLS, "--timeout", "2")),
        ("swaks", "HTTP to the port", "http", lambda: _http(clients)),
    ]  # fmt: skip


def _http(clients: Clients) -> None:
    """curl takes our 554 for a page of HTTP 0.9 and may be content with it."""
    host = f"{clients.sandbox.host}:{clients.sandbox.ports[SUBMISSION]}"
    clients.workplace.program("doctor-http", ["curl", "--silent", "--http0.9", "--fail", f"http://{host}/"])
    raise CheckError("nothing was sent")


def _shown(door: FrontDoor) -> str:
    entry = next(one for one in door.failed_sessions().values() if one["findings"][0]["symptom"] == "wrong_password")
    said = door.relay("sessions-show", "sessions", "show", entry["id"])
    for words in ("wrong_password: User name or password is wrong", "  change: ", "  C: EHLO ", "  S: 535 5.7.8 "):
        if words not in said:
            raise CheckError(f"it has no {words!r}")
    if door.sandbox.password in said or "not the password" in said:
        raise CheckError("it shows the password")
    return entry["id"]
