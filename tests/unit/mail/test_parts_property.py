"""Taking apart is the inverse of putting together, and no bytes make it do anything but answer or refuse."""

from __future__ import annotations

import base64
import quopri
import unicodedata
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mail.errors import MessageSyntaxError
from relay.mail.mime import one_line
from relay.mail.parts import Loss, Parts, take_apart

PRINTABLE = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"))
LINES = st.text(st.one_of(PRINTABLE, st.just("\n")), max_size=200).map(lambda text: text.replace("\n", "\r\n"))
WORDS = st.text(PRINTABLE, min_size=1, max_size=60).map(lambda text: " ".join(text.split())).filter(bool)
ENCODINGS = st.sampled_from(["base64", "quoted-printable", "8bit"])


def encoded(data: bytes, encoding: str) -> bytes:
    if encoding == "base64":
        return base64.encodebytes(data).replace(b"\n", b"\r\n")
    if encoding == "quoted-printable":
        return quopri.encodestring(data.replace(b"\r\n", b"\n"), quotetabs=True).replace(b"\n", b"\r\n")
    return data


def word(text: str) -> str:
    """One encoded word a character: correct whatever the character is."""
    return " ".join(f"=?utf-8?b?{base64.b64encode(c.encode()).decode()}?=" for c in text)


def leaf(kind: str, data: bytes, encoding: str, *fields: str) -> bytes:
    head = [f"Content-Type: {kind}", f"Content-Transfer-Encoding: {encoding}", *fields]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + encoded(data, encoding)


def wrapped(kind: str, boundary: str, children: list[bytes]) -> bytes:
    mark = b"--" + boundary.encode()
    head = f"Content-Type: multipart/{kind}; boundary={boundary}\r\n\r\n".encode()
    return head + b"".join(mark + b"\r\n" + child + b"\r\n" for child in children) + mark + b"--\r\n"


@st.composite
def messages(draw):
    """A message of known parts, and the parts."""
    subject, name = draw(WORDS), draw(WORDS)
    text, html = draw(LINES), draw(LINES.filter(lambda text: "cid:" not in text.lower()))
    files = draw(st.lists(st.tuples(WORDS, st.binary(max_size=300)), max_size=3))
    bodies = [
        leaf("text/plain; charset=utf-8", text.encode(), draw(ENCODINGS)),
        leaf("text/html; charset=utf-8", html.encode(), draw(ENCODINGS)),
    ]
    tree = wrapped("alternative", "=_alternative", bodies)
    if files:
        attached = [
            leaf("application/x-thing", data, "base64", f"Content-Disposition: attachment; filename*=UTF-8''{quote(n)}")
            for n, data in files
        ]
        tree = wrapped("mixed", "=_mixed", [tree, *attached])
    head = f"From: {word(name)} <a@example.org>\r\nSubject: {word(subject)}\r\nMIME-Version: 1.0\r\n".encode()
    return head + tree, (subject, name, text, html, files)


@settings(max_examples=150, deadline=None, database=None)
@given(messages())
def test_parts_equal_what_the_message_was_made_of(made):
    """Subject, name, bodies and files come back exactly, with no loss reported."""
    content, (subject, name, text, html, files) = made
    parts = take_apart(content)

    assert parts.subject == subject
    assert parts.from_[0].name == name
    assert parts.text == text
    assert parts.html == html
    assert [(item.filename, item.content) for item in parts.attachments] == files
    assert parts.losses == frozenset()


def header_strings(parts: Parts):
    yield parts.subject or ""
    yield from (value for pair in parts.headers for value in pair)
    for mailbox in (*parts.from_, *parts.reply_to, *parts.to, *parts.cc):
        yield from (mailbox.address, mailbox.name)
    for item in parts.attachments:
        yield from (item.filename, item.content_id)


PIECES = st.sampled_from([
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"--b", b"--b--", b";", b"=", b'"', b"\\", b"(", b")",
    b"<", b">", b":", b",", b"@", b"=?utf-8?q?=0d=0aBcc:x@y?=", b"=?utf-8?b?Cg==?=", b"=?x?q?", b"?=", b"*0*=", b"''",
    b"Content-Type: multipart/mixed; boundary=b", b"Content-Type: multipart/alternative; boundary=\"b\"",
    b"Content-Type: message/rfc822", b"Content-Type: text/plain; charset=", b"Content-Transfer-Encoding: base64",
    b"Content-Disposition: attachment; filename", b"From: a@b", b"To: ", b"Subject: ", b"X-A: ", b"utf-16", b"\xe9",
    "\u2028\u0085é".encode(), b"a@b.example",
])  # fmt: skip


@settings(max_examples=600, deadline=None, database=None)
@given(st.lists(st.one_of(PIECES, st.binary(max_size=5)), max_size=40).map(b"".join))
def test_any_bytes_are_taken_apart_or_refused(content):
    """MessageSyntaxError is the only exception, and no header string ever holds a line break or control character."""
    for candidate in (content, b"From: a@b\r\n" + content):
        try:
            parts = take_apart(candidate)
        except MessageSyntaxError:
            continue
        for text in header_strings(parts):
            assert one_line(text) == (text, True)
            assert not any(unicodedata.category(character) == "Cc" for character in text)
        if parts.text is None and parts.html is None and not parts.attachments:
            assert Loss.CHARSET not in parts.losses
