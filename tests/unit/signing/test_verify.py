"""What `relay inbox verify` and `relay domain verify` rest on: dkimpy's word on each signature, and no exception."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ports import SystemClock
from relay.signing import verify as room
from relay.signing.dkim import DkimSigner
from relay.signing.keys import KeyStore
from relay.signing.records import dkim_value
from relay.signing.verify import key_names, verify

MESSAGE = b"From: a@example.com\r\nTo: b@example.org\r\nSubject: Hello\r\n\r\nHi\r\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    store = KeyStore(tmp_path_factory.mktemp("var") / "keys")
    store.add("example.com")
    return store


@pytest.fixture(scope="module")
def signed(keys: KeyStore) -> bytes:
    return DkimSigner(keys, SystemClock()).sign(MESSAGE, "example.com") + MESSAGE


@pytest.fixture(scope="module")
def zone(keys: KeyStore) -> dict[str, str]:
    return {key.dns_name: dkim_value(key) for key in keys.keys("example.com")}


def test_signatures_of_ours_hold(signed: bytes, zone: dict[str, str]) -> None:
    found = [(one.domain, one.selector, one.algorithm, one.holds) for one in verify(signed, zone)]
    assert found == [
        ("example.com", "relay1", "rsa-sha256", True),
        ("example.com", "relay1e", "ed25519-sha256", True),
    ]
    assert key_names(signed) == ["relay1._domainkey.example.com", "relay1e._domainkey.example.com"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"\r\nHi", b"\r\nHo", "body hash mismatch"),
        (b"Subject: Hello", b"Subject: Hallo", "the header was changed, or signed by another key"),
    ],
)
def test_a_changed_message_does_not_hold(
    signed: bytes, zone: dict[str, str], old: bytes, new: bytes, reason: str
) -> None:
    rsa, _ = verify(signed.replace(old, new), zone)
    assert rsa.holds is False
    assert reason in rsa.reason


def test_a_key_that_dns_does_not_have_is_named(signed: bytes) -> None:
    assert [one.reason for one in verify(signed, {})] == [
        "there is no key at relay1._domainkey.example.com",
        "there is no key at relay1e._domainkey.example.com",
    ]


def test_ed25519_without_its_library_is_not_checked_and_says_how(
    signed: bytes, zone: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*arguments: object, **named: object) -> bool:
        raise room.dkim.NaClNotFoundError("pynacl")

    monkeypatch.setattr(room.dkim.DKIM, "verify", missing)
    assert [(one.holds, "pip install pynacl" in one.reason) for one in verify(signed, zone)] == [(None, True)] * 2


def test_a_message_without_signature_has_no_verdict(zone: dict[str, str]) -> None:
    assert verify(MESSAGE, zone) == []


_TAGS = st.sampled_from(["d=example.com", "s=relay1", "a=rsa-sha256", "b=", "bh=x", "h=from", "v=1", "l=9", "x=-", ";"])


@given(st.lists(_TAGS | st.text(max_size=6), max_size=8).map("; ".join))
def test_no_signature_makes_it_raise(zone: dict[str, str], value: str) -> None:
    head = "".join(c for c in value if c not in "\r\n").encode("utf-8", "replace")
    content = b"DKIM-Signature: " + head + b"\r\n" + MESSAGE
    assert all(one.holds is False for one in verify(content, zone))


@pytest.mark.parametrize(
    ("signature", "key", "reason"),
    [
        ("l=3", "", "only the beginning of the body is signed (l=)"),
        ("a=rsa-sha1", "", "rsa-sha1 is no proof any more"),
        ("i=@mail.example.com", "t=y : s", "the key is for its own domain alone (t=s), and i= names another"),
    ],
)
def test_a_signature_that_proves_too_little_does_not_hold(signature: str, key: str, reason: str) -> None:
    """Though dkimpy takes it; the replay of a signature with `l=` needs no key."""
    content = f"DKIM-Signature: v=1; d=example.com; s=k; {signature}\r\n".encode() + MESSAGE
    [verdict] = verify(content, {"k._domainkey.example.com": f"v=DKIM1; p=; {key}"})
    assert (verdict.holds, verdict.reason) == (False, reason)


def test_a_header_that_dkimpy_cannot_read_is_no_exception(signed: bytes, zone: dict[str, str]) -> None:
    content = signed.replace(b"Subject:", b"no field at all\r\nSubject:")
    assert [one.holds for one in verify(content, zone)] == [False, False]


def test_signatures_beyond_the_tenth_are_not_checked(signed: bytes, zone: dict[str, str]) -> None:
    content = b"DKIM-Signature: v=1; d=example.com; s=relay1\r\n" * 9 + signed
    assert [one.holds for one in verify(content, zone)[8:]] == [False, True, None]
