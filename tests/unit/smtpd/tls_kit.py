"""Certificates for tests: pairs on disk, handshakes in memory, a clock and an observer of one's own."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import trustme

from relay.mail.certificate import Certificate
from relay.settings import Settings
from relay.smtpd.tls_certificates import Certificates
from relay.smtpd.tls_tickets import TicketContexts

DAY: Final = 86_400.0
NOW: Final = 1_790_000_000.0
AUTHORITY: Final = trustme.CA()
_NO_DATES: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h; `ssl` has no name for it


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Heard:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.loaded: list[Certificate] = []
        self.refused: list[str] = []
        self.expiring: list[tuple[str, int]] = []
        self.served: list[Certificate] = []

    def certificate_loaded(self, certificate: Certificate, days_left: int) -> None:
        self.loaded.append(certificate)

    def certificate_refused(self, file: str, reason: str) -> None:
        self.refused.append(f"{Path(file).name}: {reason}")

    def certificate_expires(self, certificate: Certificate, days_left: int) -> None:
        self.expiring.append((Path(certificate.file).name, days_left))

    def certificates_served(self, certificates: Sequence[Certificate]) -> None:
        self.served = list(certificates)


class Setting:
    """A folder with pairs, the settings that name them, and a worker's certificates over them."""

    def __init__(self, folder: Path, ahead: int = 0) -> None:
        self.folder = folder
        self.clock = Clock()
        self.heard = Heard()
        self.tickets = TicketContexts(self.clock, ahead)
        self.certificates = Certificates(self.tickets, self.clock, self.heard)
        self.more: list[str] = []

    def write(self, name: str, *names: str, days: float = 90, start: float = -1, rsa: bool = False) -> None:
        """`name`.pem and `name`.key, for `names`, valid between two days from now."""
        kind = trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA
        made = AUTHORITY.issue_cert(*names, key_type=kind, not_before=_at(start), not_after=_at(days))
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        for end, data in (("pem", chain), ("key", made.private_key_pem.bytes())):
            new = self.folder / f"{name}.{end}.new"
            new.write_bytes(data)
            new.replace(self.folder / f"{name}.{end}")

    def settings(self, **tls: Any) -> Settings:
        """`main` and the pairs of `more`."""
        main = {end: self.folder / f"main.{file}" for end, file in (("certificate", "pem"), ("key", "key"))}
        more = [{"certificate": self.folder / f"{name}.pem", "key": self.folder / f"{name}.key"} for name in self.more]
        return Settings.model_validate({"server": {"var": self.folder}, "tls": {**main, "certificates": more, **tls}})

    def start(self, **tls: Any) -> None:
        self.certificates.use(self.certificates.prepare(self.settings(**tls)))

    def names_for(self, asked: str | None) -> list[str]:
        """What the certificate lists that a client gets who asks for a name."""
        client, _ = handshake(self.certificates.context, client_context(), asked)
        return [value for _, value in client.getpeercert()["subjectAltName"]]  # type: ignore[index]


def _at(days: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(NOW + days * DAY, datetime.UTC)


def client_context() -> ssl.SSLContext:
    """Trusts the authority, and looks at no name and no date: those of the tests follow a clock of their own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(context)
    context.check_hostname = False
    context.verify_flags |= _NO_DATES
    return context


def handshake(
    server_context: ssl.SSLContext,
    context: ssl.SSLContext,
    name: str | None = None,
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Client and server after it. Raises ssl.SSLError."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    waiting = {client, server}
    for side in (client, server, client, server, client, server):
        if side in waiting:
            try:
                side.do_handshake()
                waiting.discard(side)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    try:
        client.read(1)  # the tickets of TLS 1.3 come after the handshake
    except ssl.SSLWantReadError:
        pass
    return client, server
