"""Published DKIM vectors: what others signed, our canonical form and keys must give again, octet by octet.

The files lie outside the project (`SENDRELAY_SUITES`, else `../shared/suites` beside it); without them it skips.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key

from relay.mail.message import header_fields, split_message
from relay.signing.canonical import relaxed_body_hash, relaxed_field
from relay.signing.dkim import signable_fields, signature_fields
from relay.signing.key import SigningKey
from relay.signing.records import dkim_value

SUITES = Path(os.environ.get("SENDRELAY_SUITES") or Path(__file__).parents[2].parent / "shared" / "suites")
SIGNED = SUITES / "dkim" / "signed-mail"
KEYS = SUITES / "dkim" / "rfc-and-keys"

pytestmark = pytest.mark.skipif(not KEYS.is_dir(), reason=f"no DKIM vectors under {SUITES}; set SENDRELAY_SUITES")

RELAXED_HEADER = ["001", "003", "004", "005", "006"]
RELAXED_BODY = ["001", "006"]


def vector(name: str) -> tuple[dict[str, str], bytes]:
    """The DNS records on top of a file, and its message with CRLF."""
    records, _, message = (SIGNED / f"{name}.txt").read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
    zone = dict(line.split(" ", 1) for line in records.decode().splitlines())
    return zone, message.replace(b"\n", b"\r\n")


def tags(value: bytes) -> dict[str, str]:
    text = re.sub(r"\s", "", value.decode("ascii"))
    return dict(part.split("=", 1) for part in text.split(";") if part)


def signatures(message: bytes) -> list[tuple[dict[str, str], bytes]]:
    """Tags and SHA-256 of the signed header octets of each signature in a message."""
    fields = list(header_fields(split_message(message)[0]))
    found = []
    for field in fields:
        if field.name != "dkim-signature":
            continue
        parsed = tags(field.value)
        left = {name: [f for f in fields if f.name == name] for name in {f.name for f in fields}}
        chosen = [left[name].pop() for name in parsed["h"].lower().split(":") if left.get(name)]
        covered = b"".join(relaxed_field(f.raw) for f in chosen)
        unsigned = re.sub(rb"([\s;]b=)[^;]*", rb"\1", relaxed_field(field.raw)[:-2])
        found.append((parsed, hashlib.sha256(covered + unsigned).digest()))
    return found


def public_key(record: str) -> RSAPublicKey | Ed25519PublicKey:
    parsed = tags(record.encode())
    octets = base64.b64decode(parsed["p"])
    if parsed.get("k") == "ed25519":
        return Ed25519PublicKey.from_public_bytes(octets)
    return load_der_public_key(octets)


def verify(key: RSAPublicKey | Ed25519PublicKey, signature: bytes, digest: bytes) -> None:
    """Raises InvalidSignature."""
    if isinstance(key, Ed25519PublicKey):
        key.verify(signature, digest)
    else:
        key.verify(signature, digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))


@pytest.mark.parametrize("name", RELAXED_HEADER)
def test_our_canonical_header_fits_signatures_of_others(name: str) -> None:
    """Each signature with a relaxed header holds over the octets we would sign."""
    zone, message = vector(name)
    for parsed, digest in signatures(message)[: len(zone)]:
        record = zone[f"{parsed['s']}._domainkey.{parsed['d']}"]
        verify(public_key(record), base64.b64decode(parsed["b"]), digest)


@pytest.mark.parametrize("name", RELAXED_BODY)
def test_our_canonical_body_fits_hashes_of_others(name: str) -> None:
    """Each `bh=` with a relaxed body is the one we would write."""
    _, message = vector(name)
    body_hash = base64.b64encode(relaxed_body_hash(split_message(message)[1])).decode()
    assert {parsed["bh"] for parsed, _ in signatures(message)} == {body_hash}


def seed_key(domain: str, selector: str) -> SigningKey:
    """The Ed25519 key of RFC 8463 appendix A.1."""
    seed = base64.b64decode((KEYS / "rfc8032_7_1.key").read_text())
    return SigningKey(domain, selector, "ed25519", Ed25519PrivateKey.from_private_bytes(seed))


def pem_key(name: str, domain: str, selector: str) -> SigningKey:
    private = load_pem_private_key((KEYS / name).read_bytes(), None)
    assert isinstance(private, RSAPrivateKey)
    return SigningKey(domain, selector, "rsa", private)


def test_rfc_8463_appendix_a() -> None:
    """From the standard's key and message come the standard's record and the standard's signature."""
    zone, message = vector("001")
    key = seed_key("football.example.com", "brisbane")
    assert tags(zone[key.dns_name].encode()) == tags(dkim_value(key).encode())
    parsed, digest = signatures(message)[0]
    assert parsed["a"] == "ed25519-sha256"
    assert base64.b64encode(key.sign_digest(digest)).decode() == parsed["b"]


@pytest.mark.parametrize(
    ("private", "public"),
    [
        ("2048_testkey_PKCS8.key", "2048_testkey_PKCS8.key.pub.txt"),
        ("2048_testkey.key", "2048_testkey_wo_markers.pub.txt"),
        ("1024_testkey.key", "1024_testkey_wo_markers.pub.txt"),
    ],
)
def test_published_halves_of_known_keys(private: str, public: str) -> None:
    """`p=` for a known private key is the public half published with it."""
    record = (KEYS / public).read_bytes()
    assert pem_key(private, "example.com", "test").public_base64 == tags(record)["p"]


@pytest.mark.parametrize(
    "name", ["rfc6376.msg", "rfc6376.w1258.msg", "test.message", "test_extra.message", "message.mbox"]
)
def test_known_messages_signed_with_known_keys(name: str) -> None:
    """dkimpy accepts what we sign over its own test messages with its own keys."""
    content = (KEYS / name).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if content.startswith(b"From "):
        content = content.partition(b"\r\n")[2]
    header, body = split_message(content)
    keys = [pem_key("2048_testkey_PKCS8.key", "example.com", "rsa"), seed_key("example.com", "ed")]
    fields = signable_fields(header)
    assert fields is not None
    message = signature_fields(fields, relaxed_body_hash(body), keys, 1_700_000_000, 4_000_000_000) + content
    zone = {f"{key.dns_name}.".encode(): dkim_value(key).encode() for key in keys}
    for index in (0, 1):
        assert dkim.DKIM(message).verify(idx=index, dnsfunc=lambda name, timeout=5: zone.get(name))


def test_a_message_without_from_is_not_signed() -> None:
    """RFC 6376 §5.4: From has to be signed, so without one there is no signature."""
    assert signable_fields(split_message((KEYS / "test_nofrom.message").read_bytes())[0]) is None
