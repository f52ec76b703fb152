"""A message without its last attachments: what is left, what is cut, and what cannot be."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from relay.mail.detach import detached

HEAD = b"From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
TEXT = b"--b\r\n\r\nhello\r\n"
FILE = b"--b\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=%s\r\n\r\n%s\r\n"


def mixed(*parts: bytes) -> bytes:
    return HEAD + b"".join(parts) + b"--b--\r\n"


def test_as_many_of_the_last_attachments_go_as_must_and_the_rest_stays_in_order() -> None:
    """What is left is the beginning of the message, octet by octet, and whole."""
    content = mixed(TEXT, FILE % (b"1.csv", b"x" * 50), FILE % (b"2.csv", b"y" * 900), FILE % (b"3.csv", b"z" * 5))
    found = detached(content, 500)

    assert found is not None
    assert [(one.filename, one.content) for one in found.attachments] == [("2.csv", b"y" * 900), ("3.csv", b"z" * 5)]
    assert found.rest == mixed(TEXT, FILE % (b"1.csv", b"x" * 50))
    assert len(found.rest) <= 500


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "8bit"])
def test_an_attachment_is_cut_decoded(encoding: str) -> None:
    """With its type, its name in any script, and its Content-ID."""
    message = EmailMessage(policy=policy.SMTP)
    message["From"] = "a@example.org"
    message.set_content("hello")
    message.add_attachment("Grüße\n" * 40, subtype="csv", filename="Größe.csv", cte=encoding, cid="<c@x>")
    found = detached(message.as_bytes(), 300)

    assert found is not None
    [one] = found.attachments
    assert one.content.decode().split() == ["Grüße"] * 40
    assert (one.filename, one.content_type, one.content_id) == ("Größe.csv", "text/csv", "c@x")
    left = message_from_bytes(found.rest, policy=policy.SMTP)
    assert left.get_content_type() == "multipart/mixed"
    assert [part.get_content_type() for part in left.iter_parts()] == ["text/plain"]
    assert not left.defects


LARGE = b"x" * 900


@pytest.mark.parametrize(
    "content",
    [
        b"From: a@example.org\r\n\r\n" + LARGE,
        mixed(b"--b\r\n\r\n" + LARGE + b"\r\n"),
        mixed(FILE % (b"1.csv", LARGE)),
        mixed(TEXT, b"--b\r\nContent-Type: text/plain\r\n\r\n" + LARGE + b"\r\n"),
        mixed(TEXT, FILE % (b"1.csv", LARGE)).replace(b"text/csv", b"message/rfc822"),
        mixed(TEXT, FILE % (b"1.csv", LARGE), b"--b\r\n\r\na footer of a list\r\n"),
        mixed(TEXT, FILE % (b"1.csv", LARGE)).replace(b"mixed", b"signed"),
        mixed(TEXT, FILE % (b"1.csv\r\nContent-Transfer-Encoding: base64", b"%" + LARGE)),
        mixed(TEXT, FILE % (b"1.csv", LARGE), FILE % (b"empty.csv", b"")),
    ],
)  # fmt: skip
def test_what_is_no_attachment_at_the_end_is_not_cut(content: bytes) -> None:
    assert detached(content, 500) is None
