"""CertificateBook: the certificate a client showed in its handshake, and the credential it stands for.

In: a certificate (DER) that TLS has verified against the listener's CAs. Out: a Login. A certificate goes by several
names: `sha256:HEX` of itself, `email:`, `dns:` and `uri:` of its subject alternative names, and `subject:` (RFC 4514).
The registry knows names; the first kind of name that is known decides, and a certificate that speaks of two
credentials by it needs the client to say which. Never raises for a certificate it cannot read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from relay.mail.session import Login
from relay.ports import CertificateSource, StoredCredential

KINDS: Final = ("sha256", "email", "dns", "uri", "subject")


def certificate_names(der: bytes) -> tuple[str, ...]:
    """What it goes by, the most particular first; nothing for octets that are no certificate."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        return tuple(dict.fromkeys(_names(certificate)))
    except ValueError:
        return ()


def plain_name(text: str) -> str:
    """A name as an operator types it, as it is stored. Raises ValueError with the fix."""
    kind, _, value = text.partition(":")
    kind = kind.lower()
    if kind not in KINDS or not value.strip():
        raise ValueError(f"name {text!r}: write sha256:HEX, email:, dns:, uri: or subject: and the value")
    if kind == "sha256":
        value = value.replace(":", "").replace(" ", "").lower()
        if len(value) != 64 or set(value) - set("0123456789abcdef"):
            raise ValueError(f"name {text!r}: a SHA-256 fingerprint has 64 hexadecimal digits")
    return f"{kind}:{value.lower() if kind in ('dns', 'email') else value.strip()}"


def _names(certificate: x509.Certificate) -> Iterator[str]:
    yield f"sha256:{certificate.fingerprint(hashes.SHA256()).hex()}"
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        extension = x509.SubjectAlternativeName([])
    yield from (f"email:{name.lower()}" for name in extension.get_values_for_type(x509.RFC822Name))
    yield from (f"dns:{name.lower()}" for name in extension.get_values_for_type(x509.DNSName))
    yield from (f"uri:{name}" for name in extension.get_values_for_type(x509.UniformResourceIdentifier))
    subject = certificate.subject.rfc4514_string()
    if subject:
        yield f"subject:{subject}"


class CertificateBook:
    """The port of the same name."""

    def __init__(self, source: CertificateSource) -> None:
        self._source = source

    def known(self, certificate: bytes) -> bool:
        """See the port."""
        return bool(certificate and self._named(certificate))

    def login(self, certificate: bytes, username: str) -> Login | None:
        """See the port."""
        named = self._named(certificate) if certificate else {}
        if username:
            wanted = self._source.find_credential(username)
            credential = named.get(wanted.username) if wanted is not None else None
        else:
            credential = next(iter(named.values())) if len(named) == 1 else None
        return Login(credential.account, credential.username, credential.rights) if credential is not None else None

    def _named(self, certificate: bytes) -> dict[str, StoredCredential]:
        """Enabled credentials by the first kind of name that the registry knows."""
        names = certificate_names(certificate)
        for kind in KINDS:
            usernames = [self._source.certificate_user(name) for name in names if name.startswith(f"{kind}:")]
            known = [username for username in usernames if username is not None]
            if known:
                found = (self._source.find_credential(username) for username in known)
                return {one.username: one for one in found if one is not None}
        return {}
