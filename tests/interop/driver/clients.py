"""Clients: how each program is called to send one letter through one port.

A client's `send` returns the exact bytes it handed to the server where they are known, else None. Passwords go by
environment or private files, as they should anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from driver.samples import LINE_LIMIT, Letter
from driver.sandbox import Sandbox
from driver.workplace import PROGRAMS, Workplace

IMPLICIT_TLS = 465

Send = Callable[[Letter, int], bytes | None]


@dataclass(frozen=True, slots=True)
class Client:
    """`send(letter, port)`, where `port` is the documented one: 25, 587, 2525 or 465."""

    name: str
    send: Send


class Clients:
    """All of them, against one sandbox."""

    def __init__(self, workplace: Workplace, sandbox: Sandbox) -> None:
        self.workplace = workplace
        self.sandbox = sandbox
        self._truststore = ""

    # --- the five libraries of the seed samples ------------------------------------------------------------

    def nodemailer(self, letter: Letter, port: int) -> bytes | None:
        self._compose(letter, port, ["node", PROGRAMS / "compose/nodemailer.js"])
        return None

    def nodemailer_raw(self, letter: Letter, port: int, mechanism: str = "") -> bytes:
        return self._raw(letter, port, ["node", PROGRAMS / "compose/nodemailer.js"], mechanism)

    def phpmailer(self, letter: Letter, port: int, mechanism: str = "") -> bytes:
        self._compose(letter, port, [*self.php, PROGRAMS / "compose/phpmailer.php"], mechanism)
        return phpmailer_wire(self._copy(letter).read_bytes())

    def javamail(self, letter: Letter, port: int, mechanism: str = "") -> bytes:
        self._compose(letter, port, [*self.java, "Compose"], mechanism)
        return closed_lines(self._copy(letter).read_bytes())

    def javamail_with(self, letter: Letter, port: int, properties: Sequence[str], **login: str) -> bytes:
        """The same with properties of the JVM, as another user where `login` says so."""
        self._compose(letter, port, [*self.java, *properties, "Compose"], **login)
        return closed_lines(self._copy(letter).read_bytes())

    def smtplib(self, letter: Letter, port: int, mechanism: str = "") -> bytes:
        return self._raw(letter, port, ["python3", PROGRAMS / "compose/smtplib_raw.py"], mechanism)

    def go(self, letter: Letter, port: int) -> bytes:
        return self._raw(letter, port, [self.workplace.root / "bin/compose-gosmtp"])

    def go_with(self, letter: Letter, port: int, **env: str) -> bytes:
        """The same with other values in its environment."""
        return self._raw(letter, port, [self.workplace.root / "bin/compose-gosmtp"], **env)

    # --- programs of the command line ----------------------------------------------------------------------

    def swaks(self, letter: Letter, port: int, *options: str, mechanism: str = "PLAIN") -> bytes:
        # swaks puts a line end before its final dot, whether or not the data has one.
        content = self.workplace.file(f"{letter.case}.eml", letter.content.removesuffix(b"\r\n"))
        self.workplace.program(
            letter.case,
            [
                *("swaks", "--server", self.sandbox.host, "--port", str(self.sandbox.ports[port])),
                *("--tls-on-connect" if port == IMPLICIT_TLS else "--tls", "--tls-verify"),
                *("--tls-ca-path", self.sandbox.ca_file, "--auth", mechanism),
                *("--from", letter.sender, "--to", ",".join(letter.recipients)),
                *("--data", f"@{content}", "--suppress-data", *options),
            ],
            env={
                "SWAKS_OPT_auth_user": self.sandbox.username,
                "SWAKS_OPT_auth_password": self.sandbox.password,
            },
        )
        return letter.content

    def msmtp(self, letter: Letter, port: int, mechanism: str = "on", *, read_recipients: bool = False) -> bytes:
        config = self.msmtp_config(letter.case, port, mechanism)
        recipients = ["-t"] if read_recipients else ["--", *letter.recipients]
        content = letter.content
        if read_recipients:
            content = content.replace(b"Subject:", f"Bcc: {', '.join(letter.bcc)}\r\nSubject:".encode(), 1)
        # On a pipe lines end as Unix lines do; on the wire msmtp makes them CRLF.
        self.workplace.program(
            letter.case,
            ["msmtp", "-C", config, "--debug", "-f", letter.sender, *recipients],
            stdin=content.replace(b"\r\n", b"\n"),
        )
        return letter.content

    def msmtp_config(self, name: str, port: int, mechanism: str) -> Path:
        """A configuration file with the sandbox as the default account."""
        lines = [
            "defaults",
            "tls on",
            f"tls_starttls {'off' if port == IMPLICIT_TLS else 'on'}",
            f"tls_trust_file {self.sandbox.ca_file}",
            "account default",
            f"host {self.sandbox.host}",
            f"port {self.sandbox.ports[port]}",
            f"auth {mechanism}",
            f"user {self.sandbox.username}",
            f"password {self.sandbox.password}",
        ]
        return self.workplace.file(f"{name}.msmtprc", "\n".join([*lines, ""]).encode())

    def curl(self, letter: Letter, port: int, mechanism: str = "PLAIN") -> bytes:
        login = f'user = "{self.sandbox.username}:{self.sandbox.password}"\n'
        scheme = "smtps" if port == IMPLICIT_TLS else "smtp"
        recipients = [word for address in letter.recipients for word in ("--mail-rcpt", address)]
        self.workplace.program(
            letter.case,
            [
                *("curl", "--silent", "--show-error", "--verbose"),
                *("--url", f"{scheme}://{self.sandbox.host}:{self.sandbox.ports[port]}/client.example"),
                *("--ssl-reqd", "--cacert", self.sandbox.ca_file),
                *("--config", self.workplace.file(f"{letter.case}.curlrc", login.encode())),
                *("--login-options", f"AUTH={mechanism}", "--mail-from", letter.sender, *recipients),
                *("--upload-file", self._content_file(letter)),
            ],
        )
        return letter.content

    # --- shared --------------------------------------------------------------------------------------------

    def environment(self, port: int, mechanism: str = "", **more: str) -> dict[str, str]:
        """What a program reads: where to, as whom, by which mechanism (empty: its own choice), trusting which CA."""
        return {
            "SMTP_HOST": self.sandbox.host,
            "SMTP_AUTH": mechanism,
            "SMTP_PORT": str(self.sandbox.ports[port]),
            "SMTP_SECURE": "implicit" if port == IMPLICIT_TLS else "starttls",
            "SMTP_USERNAME": self.sandbox.username,
            "SMTP_PASSWORD": self.sandbox.password,
            "NODE_EXTRA_CA_CERTS": str(self.sandbox.ca_file),
            "NODE_PATH": str(self.workplace.root / "npm/node_modules"),
            "SSL_CERT_FILE": str(self.sandbox.ca_file),
            **more,
        }

    @property
    def php(self) -> list[str]:
        return ["php", "-d", f"openssl.cafile={self.sandbox.ca_file}"]

    @property
    def java(self) -> list[str]:
        """JVM with JavaMail and a trust store that holds the sandbox's CA."""
        if not self._truststore:
            store = self.sandbox.ca_file.with_name("truststore.p12")  # a sandbox each has a CA of its own
            self.workplace.program(
                "keytool",
                [
                    *("keytool", "-importcert", "-noprompt", "-alias", "sandbox", "-storepass", "changeit"),
                    *("-keystore", store, "-file", self.sandbox.ca_file),
                ],
            )
            self._truststore = str(store)
        jars = "/usr/share/java/javax.mail.jar:/usr/share/java/javax.activation.jar"
        return [
            *("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-Djavax.net.ssl.trustStore={self._truststore}"),
            *("-Djavax.net.ssl.trustStorePassword=changeit", "-cp", f"{self.workplace.root / 'bin/java'}:{jars}"),
        ]

    def _compose(self, letter: Letter, port: int, argv: Sequence[str | Path], mechanism: str = "", **more: str) -> None:
        """Let the library compose; it keeps a copy of what it sent where it can."""
        named = {
            "MAIL_FROM": letter.sender,
            "MAIL_TO": ",".join(letter.to),
            "MAIL_CC": ",".join(letter.cc),
            "MAIL_BCC": ",".join(letter.bcc),
            "MAIL_SUBJECT": letter.subject,
            "MAIL_TEXT": str(self.workplace.file(f"{letter.case}.txt", letter.sample.text.encode())),
            "MAIL_SENT_COPY": str(self._copy(letter)),
        }
        if letter.sample.attachment:
            attachment = self.workplace.file(f"{letter.case}.bin", letter.sample.attachment)
            named["MAIL_ATTACHMENT"] = str(attachment)
        self.workplace.program(letter.case, argv, env=self.environment(port, mechanism, **named, **more))

    def _copy(self, letter: Letter) -> Path:
        return self.workplace.run / "files" / f"{letter.case}.sent"

    def _raw(self, letter: Letter, port: int, argv: Sequence[str | Path], mechanism: str = "", **more: str) -> bytes:
        """Let the library send finished bytes."""
        named = {
            "MAIL_FROM": letter.sender,
            "MAIL_RCPT": ",".join(letter.recipients),
            "MAIL_RAW": str(self._content_file(letter)),
        }
        self.workplace.program(letter.case, argv, env=self.environment(port, mechanism, **named, **more))
        return letter.content

    def _content_file(self, letter: Letter) -> Path:
        return self.workplace.file(f"{letter.case}.eml", letter.content)


def crlf_lines(text: bytes) -> bytes:
    """The same lines, whatever ended them."""
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def closed_lines(copy: bytes) -> bytes:
    """What a library wrote as its copy, as it goes over the wire: the last line has an end."""
    text = crlf_lines(copy)
    return text if text.endswith(b"\r\n") else text + b"\r\n"


def phpmailer_wire(copy: bytes) -> bytes:
    """What PHPMailer's SMTP class makes of a message: what is behind the last line end is one more, empty line, and
    header lines over 998 octets go on in a new one at their last space."""
    header, blank, body = crlf_lines(copy).partition(b"\r\n\r\n")
    lines: list[bytes] = []
    for line in header.split(b"\r\n"):
        while len(line) > LINE_LIMIT:
            at = line.rindex(b" ", 0, LINE_LIMIT)
            lines.append(line[:at])
            line = b"\t" + line[at + 1 :]
        lines.append(line)
    return b"\r\n".join(lines) + blank + body + b"\r\n"


def all_clients(clients: Clients) -> list[Client]:
    """Every client that sends every sample."""
    return [
        Client("nodemailer", clients.nodemailer),
        Client("nodemailer raw", clients.nodemailer_raw),
        Client("PHPMailer", clients.phpmailer),
        Client("smtplib", clients.smtplib),
        Client("Go net/smtp", clients.go),
        Client("JavaMail", clients.javamail),
        Client("swaks", clients.swaks),
        Client("msmtp", clients.msmtp),
        Client("curl", clients.curl),
    ]
