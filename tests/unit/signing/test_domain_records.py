"""The records a domain needs: their text, and the zone file an operator pastes."""

from __future__ import annotations

import base64

import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.signing.key import SigningKey
from relay.signing.records import dkim_value, records_for, zone_snippet

HOST = "relay.example.net"


def test_records_of_a_domain(store) -> None:
    """A key each, SPF for the domain and its return path, DMARC that only reports, and a host for bounces."""
    keys = store.keys("example.com")
    records = {(record.name, record.type): record.value for record in records_for("example.com", keys, HOST, "rp")}
    assert records == {
        ("relay1._domainkey.example.com", "TXT"): f"v=DKIM1; k=rsa; p={keys[0].public_base64}",
        ("relay1e._domainkey.example.com", "TXT"): f"v=DKIM1; k=ed25519; p={keys[1].public_base64}",
        ("example.com", "TXT"): "v=spf1 a:relay.example.net ~all",
        ("_dmarc.example.com", "TXT"): "v=DMARC1; p=none; rua=mailto:postmaster@example.com",
        ("rp.example.com", "MX"): "10 relay.example.net",
        ("rp.example.com", "TXT"): "v=spf1 a:relay.example.net ~all",
    }


def test_the_ed25519_record_of_the_standard() -> None:
    """RFC 8463 appendix A.2: the bare 32 octets, not their DER wrapping."""
    seed = base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    key = SigningKey("football.example.com", "brisbane", "ed25519", Ed25519PrivateKey.from_private_bytes(seed))
    assert dkim_value(key) == "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


def test_a_zone_file_reads_back_as_the_records(store) -> None:
    """A DNS server reads the snippet as exactly these records; no string is longer than 255 octets."""
    records = records_for("example.com", store.keys("example.com"), HOST, "rp")
    zone = dns.zone.from_text(
        "$TTL 3600\n" + zone_snippet(records), "example.com.", relativize=False, check_origin=False
    )
    found = set()
    for name, _, rdata in zone.iterate_rdatas():
        strings = getattr(rdata, "strings", None)
        assert strings is None or all(0 < len(string) <= 255 for string in strings)
        value = rdata.to_text().rstrip(".") if strings is None else b"".join(strings).decode()
        found.add((name.to_text().rstrip("."), value))
    assert found == {(record.name, record.value) for record in records}


@pytest.mark.parametrize("text", ['a"b', "a\\b"])
def test_quotes_cannot_end_a_string(text: str, store) -> None:
    """Whatever a value holds, it stays inside its quotes."""
    records = records_for("example.com", [], text, "rp")
    zone = dns.zone.from_text(
        "$TTL 3600\n" + zone_snippet([record for record in records if record.type == "TXT"]),
        "example.com.",
        relativize=False,
        check_origin=False,
    )
    assert text.encode() in zone.find_rdataset("example.com.", "TXT")[0].strings[0]
