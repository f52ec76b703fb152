"""A message with binary parts as lines: nothing lost, nothing encoded twice, nothing that is signed touched."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.line_ends import has_bare_line_ends
from relay.mail.text_form import text_form

DATA = bytes(range(256)) * 3 + b"\r\n--edge\n\0"


def part(data: bytes, encoding: str = "binary", kind: str = "application/x-data") -> bytes:
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + data


def mixed(*parts: bytes, kind: str = "mixed", header: bytes = b"") -> bytes:
    head = f'Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/{kind}; boundary="b1"\r\n'.encode() + header
    return head + b"\r\npreamble\r\n" + b"".join(b"--b1\r\n" + one + b"\r\n" for one in parts) + b"--b1--\r\nend\r\n"


def parsed(content: bytes | None) -> EmailMessage:
    assert content is not None
    assert b"\0" not in content
    assert not has_bare_line_ends(content)
    assert max(map(len, content.split(b"\r\n"))) <= 998
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not [defect for each in message.walk() for defect in each.defects]
    return message


def test_a_binary_part_is_base64_and_the_others_keep_every_octet():
    text = part("grüße\r\n".encode(), "8bit", "text/plain; charset=utf-8")
    quoted = part(b"a=3Db", "quoted-printable", "text/plain")
    made = text_form(mixed(text, part(DATA), quoted, header=b"Content-Transfer-Encoding: binary\r\n"))
    message = parsed(made)
    one, two, three = message.iter_parts()
    assert two.get_payload(decode=True) == DATA
    assert two["Content-Transfer-Encoding"] == "base64"
    assert message["Content-Transfer-Encoding"] == "8bit"
    assert text in made
    assert quoted in made
    assert (one.get_content(), three.get_content()) == ("grüße\r\n", "a=b")


def test_a_message_that_is_one_binary_part_is_encoded_whole():
    message = parsed(text_form(b"Subject: x\r\nMIME-Version: 1.0\r\n" + part(DATA)))
    assert message.get_payload(decode=True) == DATA
    assert message["Subject"] == "x"


def test_an_attached_message_is_not_encoded_but_its_parts_are():
    inner = mixed(part(DATA)).replace(b"b1", b"b2")
    made = text_form(mixed(part(inner, "binary", "message/rfc822")))
    [attached] = parsed(made).iter_parts()
    assert attached["Content-Transfer-Encoding"] == "8bit"
    [nested] = attached.get_payload(0).iter_parts()
    assert nested.get_payload(decode=True) == DATA


def test_what_calls_itself_text_and_is_none_is_encoded_too():
    [one] = parsed(text_form(mixed(part(b"a\nb\0", "8bit", "text/plain")))).iter_parts()
    assert one.get_payload(decode=True) == b"a\nb\0"


def test_a_message_of_lines_stays_as_it_is():
    content = mixed(part(b"a\r\n", "7bit", "text/plain"))
    assert text_form(content) == content


@pytest.mark.parametrize(
    "content",
    [
        mixed(part(DATA), part(b"sig", "7bit", "application/pgp-signature"), kind="signed"),
        b"DKIM-Signature: v=1; a=rsa-sha256; d=x.example\r\n" + mixed(part(DATA)),
        mixed(part(DATA)).replace(b"--b1--\r\n", b""),
        mixed(part(DATA)).replace(b'; boundary="b1"', b""),
        mixed(part(DATA)).replace(b"preamble", b"pre\0amble"),
        mixed(part(b"QUJD\0", "base64")),
    ],
    ids=["signed", "dkim", "without an end", "without a boundary", "binary preamble", "binary base64"],
)
def test_what_is_signed_or_cannot_be_taken_apart_has_no_other_form(content):
    assert text_form(content) is None


def test_parts_nested_too_deep_are_left_alone():
    content = part(DATA)
    for number in range(30):
        content = (
            f"Content-Type: multipart/mixed; boundary=d{number}x\r\n\r\n--d{number}x\r\n".encode()
            + content
            + f"\r\n--d{number}x--\r\n".encode()
        )
    assert text_form(content) is None


@given(st.binary(max_size=300))
def test_whatever_a_part_holds_comes_back(data):
    [one] = parsed(text_form(mixed(part(data)))).iter_parts()
    assert one.get_payload(decode=True) == data


_NESTED = b"Content-Type: multipart/mixed; boundary=b1"
_BITS = (b"--b1", b"--b1--", b"\r\n", b"\n", b"\0", b"a", _NESTED, b"Content-Transfer-Encoding: binary")


@given(st.lists(st.sampled_from(_BITS), max_size=30))
def test_whatever_comes_is_lines_or_nothing(pieces):
    made = text_form(mixed(b"".join(pieces)))
    assert made is None or (b"\0" not in made and not has_bare_line_ends(made))
