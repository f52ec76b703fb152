"""Postfix: instances of Debian's real one, each with its own folder, on loopback high ports."""

from __future__ import annotations

import ipaddress
import os
import pwd
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from driver.workplace import CheckError, Workplace, listens, wait_for

_MASTER = """\
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


# Ports to listen on, each with settings of its own.
Ports = Mapping[int, Mapping[str, str]]


@contextmanager
def running_postfix(workplace: Workplace, name: str, ports: Ports, settings: Mapping[str, str]) -> Iterator[Path]:
    """`settings` are added to a main.cf that relays for loopback and delivers nothing locally; yields its log."""
    folder = workplace.run / name
    config = _configure(folder, name, ports, settings)
    command = ["/usr/sbin/postfix", "-c", config]
    workplace.program(f"{name}-start", [*command, "start"])
    try:
        for port in ports:
            wait_for(f"Postfix on port {port}", lambda port=port: listens(port))
        yield folder / "maillog"
    finally:
        workplace.program(f"{name}-stop", [*command, "stop"])


def sasl_settings(workplace: Workplace, name: str, username: str, password: str) -> dict[str, str]:
    """What makes smtpd offer AUTH PLAIN and LOGIN and know this one user (Cyrus SASL over a sasldb file)."""
    # Debian's smtpd looks for smtpd.conf beside main.cf and nowhere else.
    folder = workplace.run / name / "etc/sasl"
    folder.mkdir(mode=0o755, parents=True)
    database = workplace.run / f"{name}-users"
    user, _, realm = username.partition("@")
    command = ["saslpasswd2", "-p", "-c", "-f", database, "-u", realm, user]
    workplace.program(f"{name}-saslpasswd2", command, stdin=password.encode())
    shutil.chown(database, "postfix")
    (folder / "smtpd.conf").write_text(
        f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\nsasldb_path: {database}\n"
    )
    return {
        "smtpd_sasl_local_domain": realm,
        "smtpd_sasl_authenticated_header": "yes",
    }


def _configure(folder: Path, name: str, ports: Ports, settings: Mapping[str, str]) -> Path:
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
    doors = [
        f"127.0.0.1:{port} inet n - n - - smtpd\n" + "".join(f"  -o {key}={value}\n" for key, value in own.items())
        for port, own in ports.items()
    ]
    (config / "master.cf").write_text("".join(doors) + _MASTER)
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
