"""Client certificates: the names they go by, and the credential they stand for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from relay.auth.certificates import CertificateBook, certificate_names, plain_name
from relay.mail.session import Login, SenderRights
from relay.ports import StoredCredential

RIGHTS = SenderRights()


def certificate(*names: x509.GeneralName, subject: str = "") -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    named = [x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else []
    builder = x509.CertificateBuilder(x509.Name([]), x509.Name(named), key.public_key(), x509.random_serial_number())
    now = datetime(2026, 1, 1, tzinfo=UTC)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256())


@dataclass
class Source:
    """Names of certificates to user names; who is in `disabled` is nobody."""

    names: dict[str, str]
    disabled: set[str] = field(default_factory=set)

    def certificate_user(self, name: str) -> str | None:
        return self.names.get(name)

    def find_credential(self, login: str) -> StoredCredential | None:
        name = login.lower().partition("@")[0]
        known = name in self.names.values() and name not in self.disabled
        return StoredCredential(name, "acme", RIGHTS, "") if known else None


def _login(source: Source, one: x509.Certificate, username: str = "") -> str | None:
    found = CertificateBook(source).login(one.public_bytes(Encoding.DER), username)
    assert found is None or found == Login("acme", found.username, RIGHTS)
    return found.username if found else None


def test_the_names_a_certificate_goes_by() -> None:
    one = certificate(
        x509.DNSName("Printer.Example"),
        x509.RFC822Name("App@Example.com"),
        x509.UniformResourceIdentifier("spiffe://acme/App"),
        x509.DNSName("printer.example"),
        subject="app, one",
    )

    assert certificate_names(one.public_bytes(Encoding.DER)) == (
        f"sha256:{one.fingerprint(hashes.SHA256()).hex()}",
        "email:app@example.com",
        "dns:printer.example",
        "uri:spiffe://acme/App",
        "subject:CN=app\\, one",
    )
    assert len(certificate_names(certificate().public_bytes(Encoding.DER))) == 1
    assert certificate_names(b"") == certificate_names(b"\x30\x03\x02\x01\x01") == ()


def test_the_first_kind_of_name_that_is_known_decides() -> None:
    """One certificate may be singled out from all that carry the same name."""
    one, other = certificate(x509.DNSName("a.example"), subject="x"), certificate(x509.DNSName("a.example"))
    print_of_one = f"sha256:{one.fingerprint(hashes.SHA256()).hex()}"
    source = Source({print_of_one: "app1", "dns:a.example": "app2", "subject:CN=x": "app3"})

    assert (_login(source, one), _login(source, other)) == ("app1", "app2")
    assert _login(source, one, "app2") is None
    assert _login(source, certificate(subject="x")) == "app3"
    assert _login(source, certificate(subject="y")) is None


def test_one_that_speaks_of_two_needs_the_client_to_say_which() -> None:
    one = certificate(x509.DNSName("a.example"), x509.DNSName("b.example"))
    source = Source({"dns:a.example": "app1", "dns:b.example": "app2", "dns:c.example": "app3"})

    assert _login(source, one) is None
    assert CertificateBook(source).known(one.public_bytes(Encoding.DER))
    assert (_login(source, one, "app1"), _login(source, one, "APP2@acme.example")) == ("app1", "app2")
    assert _login(source, one, "app3") is None
    assert _login(source, one, "nobody") is None


def test_a_disabled_credential_lets_no_certificate_in_and_nobody_else_takes_its_place() -> None:
    one = certificate(x509.RFC822Name("a@b.example"), x509.DNSName("a.example"))
    source = Source({"email:a@b.example": "app1", "dns:a.example": "app2"}, disabled={"app1"})

    assert _login(source, one) is None
    assert _login(source, one, "app2") is None
    assert not CertificateBook(source).known(one.public_bytes(Encoding.DER))
    assert not CertificateBook(source).known(b"")
    assert CertificateBook(source).login(b"", "app2") is None


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("SHA256:AB:" + ":".join(["0F"] * 31), "sha256:ab" + "0f" * 31),
        ("DNS:Printer.Example", "dns:printer.example"),
        ("email:A@B.example", "email:a@b.example"),
        ("uri:spiffe://acme/App", "uri:spiffe://acme/App"),
        ("subject:CN=App,O=Acme", "subject:CN=App,O=Acme"),
    ],
)
def test_a_name_as_typed_is_a_name_as_stored(typed: str, stored: str) -> None:
    assert plain_name(typed) == stored


@pytest.mark.parametrize("typed", ["", "app1", "dns:", "ip:192.0.2.1", "sha256:abcd", "sha256:" + "g" * 64])
def test_what_is_no_name_is_told(typed: str) -> None:
    with pytest.raises(ValueError, match="name"):
        plain_name(typed)
