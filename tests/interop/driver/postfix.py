"""Postfix: instances of Debian's real one, each with its own folder, on loopback high ports."""

from __future__ import annotations

import ipaddress
import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from driver.workplace import CheckError, Workplace, listens, wait_for

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True, slots=True)
class Postfix:
    """A running instance."""

    port: int
    log: Path


@contextmanager
def running_postfix(workplace: Workplace, name: str, port: int, settings: Mapping[str, str]) -> Iterator[Postfix]:
    """`settings` are added to a main.cf that relays for loopback and delivers nothing locally."""
    folder = workplace.run / name
    config = _configure(folder, name, port, settings)
    command = ["/usr/sbin/postfix", "-c", config]
    workplace.program(f"{name}-start", [*command, "start"])
    try:
        wait_for(f"Postfix on port {port}", lambda: listens(port))
        yield Postfix(port, folder / "maillog")
    finally:
        workplace.program(f"{name}-stop", [*command, "stop"])


def _configure(folder: Path, name: str, port: int, settings: Mapping[str, str]) -> Path:
    if os.geteuid() != 0:
        raise CheckError("Postfix has to be started by root")
    config, queue, data = folder / "etc", folder / "spool", folder / "data"
    for path in (folder, config, queue, data):
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    owner = pwd.getpwnam("postfix")
    os.chown(data, owner.pw_uid, owner.pw_gid)
    values = {
        "compatibility_level": "3.6",
        "queue_directory": str(queue),
        "data_directory": str(data),
        "command_directory": "/usr/sbin",
        "daemon_directory": "/usr/lib/postfix/sbin",
        "maillog_file": str(folder / "maillog"),
        "maillog_file_prefixes": str(folder),
        "myhostname": f"{name}.example",
        "mydestination": "",
        "mynetworks": "127.0.0.0/8",
        "inet_protocols": "ipv4",
        "smtpd_relay_restrictions": "permit_mynetworks, reject",
        "local_transport": "error:no local delivery here",
        "local_recipient_maps": "",
        "alias_maps": "",
        "smtp_host_lookup": "native",
        "smtputf8_autodetect_classes": "all",
        **settings,
    }
    lines = [f"{key} = {value}\n" for key, value in values.items()]
    (config / "main.cf").write_text("".join(lines))
    (config / "master.cf").write_text(_MASTER.format(port=port))
    return config


def make_certificate(workplace: Workplace, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and 127.0.0.1, which is also its own CA file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (
        workplace.file(f"{name}.pem", certificate.public_bytes(Encoding.PEM)),
        workplace.file(f"{name}.key", private),
    )
