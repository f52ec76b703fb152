"""The signer: whose name it signs with, what it covers, and what it will not sign."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.signing.dkim import OVERSIGNED, SIGNED, DkimSigner
from relay.signing.keys import KeyStore

BODY = b"\r\nHello\r\n"


@pytest.fixture
def signer(store, clock) -> DkimSigner:
    return DkimSigner(store, clock)


def tags(field: bytes) -> dict[str, str]:
    """The tag list of one signature field, blanks dropped."""
    value = re.sub(rb"\s", b"", field.partition(b":")[2]).decode("ascii")
    return dict(part.split("=", 1) for part in value.split(";"))


def signatures(prefix: bytes) -> list[dict[str, str]]:
    """Each field of a prefix, parsed."""
    return [tags(field) for field in re.split(rb"\r\n(?![ \t])", prefix) if field]


def domains(prefix: bytes) -> list[str]:
    return [found["d"] for found in signatures(prefix)]


@pytest.mark.parametrize(
    ("author", "envelope", "expected"),
    [
        ("joe@example.com", "", "example.com"),
        ("joe@EXAMPLE.com", "other.example", "example.com"),
        ('"Joe, Inc. <x@elsewhere.example>" <joe@example.com>', "", "example.com"),
        ("joe@news.example.com", "", "example.com"),
        ("joe@sub.example.com", "", "sub.example.com"),
        ("joe@deep.sub.example.com", "", "sub.example.com"),
        ("joe@elsewhere.example", "bounces.example.com", "example.com"),
        ("joe@elsewhere.example", "SUB.example.com", "sub.example.com"),
        ("a@elsewhere.example, joe@sub.example.com", "example.com", "example.com"),
        ("no address at all", "example.com", "example.com"),
        ("joe@" + "a" * 20_000 + ".example.com", "example.com", "example.com"),
        ("joe@" + "é" * 200 + ".example.com", "example.com", "example.com"),
    ],
    ids=lambda value: value[:40],
)
def test_domain_that_signs(signer: DkimSigner, author: str, envelope: str, expected: str) -> None:
    """The first author's domain or its nearest parent with keys, else the envelope sender's likewise."""
    content = f"From: {author}\r\n".encode() + BODY
    assert domains(signer.sign(content, envelope)) == [expected, expected]


@pytest.mark.parametrize("domain", ["xample.com", "notexample.com", "com", "example.com.evil.example", "[192.0.2.1]"])
def test_other_domains_are_not_signed(signer: DkimSigner, domain: str) -> None:
    """A domain that merely looks like a known one gets no signature."""
    assert signer.sign(f"From: joe@{domain}\r\n".encode() + BODY, domain) == b""


def test_unicode_domain_signs_as_its_a_label(tmp_path, clock) -> None:
    """Keys are filed under A-labels; a From domain in Unicode finds them (RFC 8616)."""
    keys = KeyStore(tmp_path / "keys")
    keys.add("bücher.example")
    content = "From: joe@Bücher.example\r\n".encode() + BODY
    assert domains(DkimSigner(keys, clock).sign(content, "")) == ["xn--bcher-kva.example"] * 2


@pytest.mark.parametrize(
    "header",
    [
        b"Subject: x\r\n",
        b"From: joe@example.com\r\nFrom: joe@example.com\r\n",
        b" From: joe@example.com\r\n",
        b"From joe@example.com\r\n",
        b"",
        b"From: joe@example.com\r\n" + b"To: a@example.net\r\n" * 1000,
    ],
    ids=["no From", "two From", "continuation first", "no colon", "no header", "a thousand To"],
)
def test_what_is_no_message_is_not_signed(signer: DkimSigner, header: bytes) -> None:
    """Nothing is raised and nothing is signed where From is not there exactly once."""
    assert signer.sign(header + BODY, "example.com") == b""


def test_a_message_without_body_is_signed(signer: DkimSigner) -> None:
    """Header fields alone, with or without the empty line or the last CRLF, are a message."""
    for content in (b"From: joe@example.com", b"From: joe@example.com\r\n", b"From: joe@example.com\r\n\r\n"):
        assert domains(signer.sign(content, "")) == ["example.com"] * 2


def test_tags(signer: DkimSigner, clock) -> None:
    """Algorithms, times in whole seconds, seven days of validity, and never l=."""
    content = b"From: joe@example.com\r\nSubject: a\r\nReceived: x\r\nX-Mailer: y\r\n" + BODY
    rsa, ed25519 = signatures(signer.sign(content, ""))
    assert (rsa["a"], rsa["s"]) == ("rsa-sha256", "relay1")
    assert (ed25519["a"], ed25519["s"]) == ("ed25519-sha256", "relay1e")
    assert rsa["bh"] == ed25519["bh"]
    for found in (rsa, ed25519):
        assert list(found) == ["v", "a", "c", "d", "s", "t", "x", "h", "bh", "b"]
        assert (found["v"], found["c"]) == ("1", "relaxed/relaxed")
        assert (int(found["t"]), int(found["x"])) == (1_700_000_000, 1_700_604_800)


def test_validity_is_a_setting(store, clock) -> None:
    """x= lies as far ahead as told; a validity of nothing is refused."""
    signer = DkimSigner(store, clock, validity=60)
    found = signatures(signer.sign(b"From: joe@example.com\r\n" + BODY, ""))[0]
    assert int(found["x"]) - int(found["t"]) == 60
    with pytest.raises(ValueError, match="at least a second"):
        DkimSigner(store, clock, validity=0)


def test_fields_covered(signer: DkimSigner) -> None:
    """Every occurrence of a listed field is named; the important ones once more, absent ones too."""
    present = [*OVERSIGNED, *SIGNED, "references"]
    content = b"".join(f"{name.upper()}: joe@example.com\r\n".encode() for name in [*present, "received", "bcc"]) + BODY
    named = signatures(signer.sign(content, ""))[0]["h"].split(":")
    assert {name: named.count(name) for name in named} == dict.fromkeys(OVERSIGNED, 2) | dict.fromkeys(SIGNED, 1) | {
        "references": 2
    }
    bare = signatures(signer.sign(b"From: joe@example.com\r\n" + BODY, ""))[0]["h"].split(":")
    assert bare == ["from", *OVERSIGNED]


def test_one_click_unsubscribe_is_covered(signer: DkimSigner) -> None:
    """RFC 8058 §4: receivers honour one-click unsubscribing only under a signature."""
    content = (
        b"From: joe@example.com\r\nList-Unsubscribe: <https://example.com/u>\r\n"
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" + BODY
    )
    named = signatures(signer.sign(content, ""))[0]["h"].split(":")
    assert {"list-unsubscribe", "list-unsubscribe-post"} <= set(named)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    label=st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=60),
    names=st.lists(st.sampled_from(SIGNED), max_size=40),
)
def test_lines_are_short(store, clock, label: str, names: list[str]) -> None:
    """No line is longer than 78 octets and each continuation starts with exactly one space (RFC 5322 §2.1.1)."""
    keys = [
        SimpleNamespace(domain=f"{label}.example", selector=label, algorithm=key.algorithm, sign_digest=key.sign_digest)
        for key in store.keys("example.com")
    ]
    signer = DkimSigner(SimpleNamespace(find=lambda domain: keys), clock)
    prefix = signer.sign(b"From: a@b.example\r\n" + b"".join(f"{name}: x\r\n".encode() for name in names) + BODY, "")
    assert prefix.endswith(b"==\r\n")
    for line in prefix.split(b"\r\n")[:-1]:
        assert len(line) <= 78
        assert line.startswith(b"DKIM-Signature: v=1;") or re.match(rb" \S", line)


@pytest.mark.parametrize("unit", [b"a.", b"@", b'\\"', b"(", b",", b"<", b"\r\n ", b"\xc3\xa9"], ids=repr)
@pytest.mark.usefixtures("processor_alarm")
def test_a_hostile_author_costs_little(signer: DkimSigner, unit: bytes) -> None:
    """A From field of a megabyte is stepped over, not chewed."""
    content = b'From: "' + unit * (1_000_000 // len(unit)) + b"@example.com\r\n" + BODY
    assert isinstance(signer.sign(content, "example.com"), bytes)


@pytest.mark.parametrize("author", ["joe@example.com", "joe@elsewhere.example"], ids=["signs", "has no key"])
@given(st.lists(st.sampled_from([b"a ", b" \r", b"\n", b"\t \r\n", b"x" * 90]), max_size=9))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_body_in_pieces_gets_the_signature_of_the_whole(signer: DkimSigner, author: str, pieces: list[bytes]) -> None:
    """And nobody without a key begins."""
    header = f"From: {author}\r\nSubject: x\r\n".encode()
    signing = signer.begin(header, "elsewhere.example")
    for piece in pieces:
        if signing is not None:
            signing.update(piece)
    found = signing.finish() if signing is not None else b""
    assert found == signer.sign(header + b"\r\n" + b"".join(pieces), "elsewhere.example")
