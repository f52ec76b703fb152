"""A certificate and its key: read from two files, checked together, and kept as the octets that were checked.

In: two paths. Out: a Pair. Raises SettingsError, one line with the fix, for files that are missing, unreadable, no PEM,
or do not fit each other. Source: RFC 5280 §4.2.1.6 (names), RFC 7468 (PEM).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from relay.mail.certificate import Certificate
from relay.mail.errors import SettingsError
from relay.settings import Settings
from relay.smtpd.tls_context import new_context

Stamp = tuple[tuple[int, ...], ...]
"""What tells one state of two files from another without reading them."""


@dataclass(frozen=True, slots=True)
class PairFiles:
    """Where a pair lies; `setting` is what an operator has to look at."""

    certificate: Path
    key: Path
    setting: str = "tls.certificate"


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A certificate with the key that fits it."""

    files: PairFiles
    facts: Certificate
    stamp: Stamp
    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)

    @property
    def kind(self) -> str:
        """Of the key: RSA, ECDSA ... OpenSSL holds one pair of each in a context and takes what a client can."""
        return self.facts.key_type.partition(" ")[0]

    def load_into(self, context: ssl.SSLContext) -> None:
        """Raises ssl.SSLError. From memory: the files may have changed since they were checked."""
        with _as_file(self.chain) as chain, _as_file(self.key) as key:
            # Without a password of ours OpenSSL would ask for that of an encrypted key on the terminal.
            context.load_cert_chain(chain, key, password="")


def pair_files(settings: Settings) -> tuple[PairFiles, ...]:
    """Every pair of the configuration; the main one, for clients that name no host we know, is the first."""
    folder = settings.server.var / "certs"
    main = PairFiles(settings.tls.certificate or folder / "server.pem", settings.tls.key or folder / "server.key")
    more = (PairFiles(one.certificate, one.key, "tls.certificates") for one in settings.tls.certificates)
    return (main, *more)


def stamp_of(files: PairFiles) -> Stamp | None:
    """None when a file is not there. Links are followed: certbot and Kubernetes renew by changing a link."""
    try:
        return tuple(_stamp(os.stat(path)) for path in (files.certificate, files.key))
    except OSError:
        return None


def _stamp(seen: os.stat_result) -> tuple[int, ...]:
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def read_pair(files: PairFiles) -> Pair:
    """Raises SettingsError. Dates are the caller's matter."""
    stamp = stamp_of(files)
    chain, key = _read(files)
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        facts = _facts(files, certificates)
        pair = Pair(files, facts, stamp or (), chain, key)
        pair.load_into(new_context())
    except (ValueError, ssl.SSLError) as error:
        what = _plain(error)
        raise SettingsError(f"{files.setting}: cannot use {files.certificate} with {files.key}: {what}") from error
    return pair


def _read(files: PairFiles) -> tuple[bytes, bytes]:
    try:
        return files.certificate.read_bytes(), files.key.read_bytes()
    except FileNotFoundError as error:
        fix = "`relay init` makes certificate and key" if files.setting == "tls.certificate" else "check the path"
        raise SettingsError(f"{files.setting}: {error.filename} is missing; {fix}") from error
    except OSError as error:
        raise SettingsError(
            f"{files.setting}: cannot use {files.certificate} with {files.key}: {error.filename}: {error.strerror}"
        ) from error


def _plain(error: ValueError | ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLError):
        fixes = {
            "KEY_VALUES_MISMATCH": "the key is that of another certificate (KEY_VALUES_MISMATCH)",
            "EE_KEY_TOO_SMALL": "its key is too short for today; make one of 2048 bits (EE_KEY_TOO_SMALL)",
            "CA_MD_TOO_WEAK": "it is signed by a hash that is broken; get another (CA_MD_TOO_WEAK)",
        }
        reason = str(error.reason or error)
        return fixes.get(reason, f"the key has a pass phrase or is none ({reason.replace('_', ' ')})")
    return "the first is no certificate in PEM"


def _facts(files: PairFiles, certificates: list[x509.Certificate]) -> Certificate:
    leaf = certificates[0]
    return Certificate(
        file=str(files.certificate),
        key_file=str(files.key),
        names=_names(leaf),
        issuer=_issuer(leaf.issuer),
        key_type=_key_type(leaf),
        serial=f"{leaf.serial_number:x}",
        starts=leaf.not_valid_before_utc.timestamp(),
        expires=leaf.not_valid_after_utc.timestamp(),
        chain=len(certificates),
    )


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    """In the order of the certificate. None from the common name: clients do not look there (RFC 9525 §2)."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError, TypeError):
        return ()
    names = [name.lower() for name in found.get_values_for_type(x509.DNSName)]
    return (*names, *map(str, found.get_values_for_type(x509.IPAddress)))


def _issuer(name: x509.Name) -> str:
    """Organization and common name: an intermediate of a public CA is called no more than R11."""
    oids = (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
    parts = [str(attribute.value) for oid in oids for attribute in name.get_attributes_for_oid(oid)]
    return " ".join(parts) or name.rfc4514_string()


def _key_type(leaf: x509.Certificate) -> str:
    try:
        key = leaf.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return "unknown"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    kinds = {ed25519.Ed25519PublicKey: "Ed25519", ed448.Ed448PublicKey: "Ed448"}
    return next((name for kind, name in kinds.items() if isinstance(key, kind)), type(key).__name__)


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path to octets in memory, for OpenSSL reads certificates from files only."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
