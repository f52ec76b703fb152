"""A second opinion on every signature: dkimpy, which shares no line with our signer."""

from __future__ import annotations

import dkim
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.ports import SystemClock
from relay.signing.dkim import OVERSIGNED, SIGNED, DkimSigner
from relay.signing.keys import KeyStore
from relay.signing.records import dkim_value

# dkimpy strips vertical tab and form feed from values, against RFC 6376 §3.4.2, and NUL may not occur in mail.
TEXT = st.binary(max_size=40).map(lambda raw: bytes(octet for octet in raw if octet not in b"\0\r\n\x0b\x0c"))
BLANKS = st.sampled_from([b"", b" ", b"\t", b"  ", b" \t "])
FOLD = st.sampled_from([b"", b"", b"\r\n ", b"\r\n\t", b" \r\n  "])
VALUE = st.lists(st.tuples(BLANKS, TEXT, FOLD), max_size=4).map(
    lambda parts: b"".join(b"".join(part) for part in parts)
)
NAME = st.sampled_from([*OVERSIGNED[1:], *SIGNED, "received", "x-spam", "DKIM-Signature-Not"]).flatmap(
    lambda name: st.sampled_from([name.encode(), name.title().encode(), name.upper().encode()])
)
LINE = st.tuples(BLANKS, TEXT, BLANKS, st.sampled_from([b"\r\n", b"\r\n\r\n", b" \r\n\t\r\n"])).map(b"".join)
AUTHOR = st.sampled_from(
    [
        b"joe@example.com",
        b'"Joe  S"\t<joe@example.com>',
        b"Joe\r\n <joe@news.example.com>",
        b"J\xc3\xb6 <j@example.com>",
    ]
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Mail with one From somewhere among odd, repeated and folded fields, and any kind of body."""
    fields = [name + b":" + value + b"\r\n" for name, value in draw(st.lists(st.tuples(NAME, VALUE), max_size=12))]
    fields.insert(draw(st.integers(0, len(fields))), b"From: " + draw(AUTHOR) + b"\r\n")
    body = b"".join(draw(st.lists(LINE, max_size=6))) + draw(st.sampled_from([b"", b"no end", b".\r\n", b" \t\r\n"]))
    return b"".join(fields) + b"\r\n" + body


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    keys = KeyStore(tmp_path_factory.mktemp("var") / "keys")
    keys.add("example.com")
    return keys


def verdicts(store: KeyStore, message: bytes) -> list[bool]:
    """What dkimpy says of the first and of the second signature."""
    zone = {f"{key.dns_name}.".encode(): dkim_value(key).encode() for key in store.keys("example.com")}

    def holds(index: int) -> bool:
        try:
            return dkim.DKIM(message).verify(idx=index, dnsfunc=lambda name, timeout=5: zone.get(name))
        except dkim.ValidationError:
            # How dkimpy tells a changed body; a changed header is False.
            return False

    return [holds(0), holds(1)]


@settings(max_examples=300, deadline=None)
@given(content=messages())
def test_any_message_verifies(store: KeyStore, content: bytes) -> None:
    """Both signatures of any message hold, whatever its blanks, folds, repetitions and octets."""
    prefix = DkimSigner(store, SystemClock()).sign(content, "")
    # On the wire a last line always ends.
    sent = content if content.endswith(b"\r\n") else content + b"\r\n"
    assert verdicts(store, prefix + sent) == [True, True]


CONTENT = (
    b"From: joe@example.com\r\nTo: a@example.net\r\nSubject: Offer\r\nDate: Fri, 1 Jan 2027 00:00:00 +0000\r\n"
    b"List-Unsubscribe: <https://example.com/u>\r\n\r\nThe price is 10.\r\n"
)


@pytest.mark.parametrize(
    ("old", "new", "holds"),
    [
        (b"price is 10.", b"price is 10.", True),
        (b"price is 10.", b"price  is\t10. ", True),
        (b"Subject: Offer", b"SUBJECT:  Offer", True),
        (b"10.\r\n", b"10.\r\n\r\n\r\n", True),
        (b"From:", b"Received: from x\r\nFrom:", True),
        (b"price is 10.", b"price is 11.", False),
        (b"10.\r\n", b"10.\r\nBuy here.\r\n", False),
        (b"From:", b"From: evil@example.net\r\nFrom:", False),
        (b"From:", b"Subject: You won\r\nFrom:", False),
        (b"From:", b"Cc: b@example.net\r\nFrom:", False),
        (b"From:", b"Reply-To: evil@example.net\r\nFrom:", False),
        (b"From:", b"Content-Type: text/html\r\nFrom:", False),
        (b"From:", b"Message-ID: <x@example.net>\r\nFrom:", False),
        (b"https://example.com/u", b"https://example.net/u", False),
        (b"Fri, 1 Jan", b"Sat, 2 Jan", False),
    ],
)
def test_what_a_signature_withstands(store: KeyStore, old: bytes, new: bytes, holds: bool) -> None:
    """Relays may add trace fields and change blanks; nobody may add text or a field that readers see."""
    prefix = DkimSigner(store, SystemClock()).sign(CONTENT, "")
    assert verdicts(store, prefix + CONTENT.replace(old, new, 1)) == [holds, holds]
