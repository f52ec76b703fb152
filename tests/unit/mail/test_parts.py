"""Taking a message apart: what becomes a body, what an attachment, and what is said to be lost."""

from __future__ import annotations

import pytest

from relay.mail.errors import MessageSyntaxError
from relay.mail.mime import Mailbox, decode_charset, decode_words, parse_mailboxes, parse_parameters
from relay.mail.parts import HEADER_OCTETS, MOST_FIELDS, MOST_NESTING, MOST_PARTS, Loss, take_apart

HEAD = "From: Ann <a@example.org>\r\n"


def parts_of(text: str):
    return take_apart((HEAD + text).replace("\r\n", "\n").replace("\n", "\r\n").encode())


def multipart(subtype: str, *children: str, boundary: str = "b", parameters: str = "") -> str:
    body = "".join(f"--{boundary}\n{child}\n" for child in children)
    return f"Content-Type: multipart/{subtype}; boundary={boundary}{parameters}\n\n{body}--{boundary}--\n"


PLAIN = "Content-Type: text/plain; charset=utf-8\n\nhällo"
HTML = "Content-Type: text/html; charset=utf-8\n\n<p>hällo</p>"
PDF = "Content-Type: application/pdf\nContent-Disposition: attachment; filename=a.pdf\n\n%PDF"


# --- bodies and attachments --------------------------------------------------------------------------------


def test_message_without_mime_is_plain_text():
    """RFC 2045 §5.2: no Content-Type means text/plain in US-ASCII."""
    parts = parts_of("\nhello\n")

    assert parts.text == "hello\r\n"
    assert parts.html is None
    assert parts.losses == frozenset()


def test_alternative_fills_both_bodies():
    """Text, HTML and AMP of one alternative each get their place."""
    amp = "Content-Type: text/x-amp-html; charset=utf-8\n\n<html amp4email></html>"
    parts = parts_of(multipart("alternative", PLAIN, amp, HTML))

    assert (parts.text, parts.html, parts.amp) == ("hällo", "<p>hällo</p>", "<html amp4email></html>")
    assert parts.losses == frozenset()


def test_nested_tree_of_a_mail_client():
    """mixed(alternative(plain, related(html, image)), pdf) keeps every part, and the shown image is a loss."""
    shown = "Content-Type: text/html\n\n<img src='cid:logo@x'>"
    image = "Content-Type: image/png\nContent-ID: <logo@x>\nContent-Transfer-Encoding: base64\n\nUE5H"
    related = multipart("related", shown, image, boundary="r")
    parts = parts_of(multipart("mixed", multipart("alternative", PLAIN, related, boundary="a"), PDF))

    assert parts.text == "hällo"
    assert parts.html == "<img src='cid:logo@x'>"
    assert [(item.content_type, item.content, item.inline) for item in parts.attachments] == [
        ("image/png", b"PNG", True),
        ("application/pdf", b"%PDF", False),
    ]
    assert parts.losses == {Loss.INLINE_IMAGE}


def test_content_id_nobody_shows_is_no_loss():
    """Many clients number every attachment; only a reference from the HTML makes an inline image."""
    image = "Content-Type: image/png\nContent-ID: <logo@x>\n\nPNG"

    assert parts_of(multipart("mixed", HTML, image)).losses == frozenset()


def test_second_body_becomes_an_attachment():
    """A footer after the body is shown by mail readers but has no place in a text/html pair."""
    parts = parts_of(multipart("mixed", HTML, PLAIN))

    assert parts.html == "<p>hällo</p>"
    assert parts.text is None
    assert [item.content for item in parts.attachments] == ["hällo".encode()]
    assert parts.losses == {Loss.EXTRA_BODY}


def test_text_file_is_an_attachment():
    """A named text part is a file even when it comes first, and no loss."""
    file = "Content-Type: text/plain\nContent-Disposition: attachment; filename=log.txt\n\nlines"
    parts = parts_of(multipart("mixed", file, PLAIN))

    assert parts.text == "hällo"
    assert [item.filename for item in parts.attachments] == ["log.txt"]
    assert parts.losses == frozenset()


@pytest.mark.parametrize(
    ("body", "losses"),
    [
        (multipart("signed", PLAIN, "Content-Type: application/pgp-signature\n\nx"), {Loss.SIGNED}),
        (multipart("encrypted", "Content-Type: application/pgp-encrypted\n\nx"), {Loss.ENCRYPTED}),
        (multipart("report", PLAIN, "Content-Type: message/delivery-status\n\nx"),
         {Loss.REPORT, Loss.ATTACHED_MESSAGE}),
        ("Content-Type: application/pkcs7-mime; smime-type=signed-data\n\nx", {Loss.SIGNED}),
        ("Content-Type: application/pkcs7-mime\n\nx", {Loss.ENCRYPTED}),
        (multipart("alternative", PLAIN, "Content-Type: text/calendar; method=REQUEST\n\nBEGIN"), {Loss.CALENDAR}),
        (multipart("alternative", PLAIN, "Content-Type: text/enriched\n\nx"), {Loss.ALTERNATIVE}),
        (multipart("mixed", PLAIN, "Content-Type: message/rfc822\n\nSubject: x\n\ny"), {Loss.ATTACHED_MESSAGE}),
        (multipart("digest", "\nSubject: x\n\ny"), {Loss.ATTACHED_MESSAGE}),
        ("Content-Type: text/plain; charset=x-unknown\n\nx", {Loss.CHARSET}),
        ("Content-Type: text/plain; charset=utf-7\n\n+AAo-", {Loss.CHARSET}),
        ("Content-Transfer-Encoding: base64\n\n!!", {Loss.TRANSFER_ENCODING}),
        ("Content-Transfer-Encoding: x-uuencode\n\nx", {Loss.TRANSFER_ENCODING}),
        ("Content-Type: text/plain; format=flowed\n\nx", {Loss.FORMAT_FLOWED}),
        ("Subject: a\nSubject: b\n\nx", {Loss.DUPLICATE_HEADER}),
        ("Content-Type: text/plain\nContent-Type: text/html\n\nx", {Loss.DUPLICATE_HEADER}),
        ("Subject: =?utf-8?q?a=0d=0aBcc:_x?=\n\nx", {Loss.HEADER_VALUE}),
        ("Subject: =?x-unknown?q?a?=\n\nx", {Loss.HEADER_VALUE}),
        ("X-Odd: a\x01b\n\nx", {Loss.HEADER_VALUE}),
    ],
)  # fmt: skip
def test_each_loss_is_named(body, losses):
    """What a text/html/attachments model cannot hold is said in one word each."""
    assert parts_of(body).losses == losses


def test_nothing_is_dropped_with_a_loss():
    """The bytes of a part that has no place are still there as an attachment."""
    parts = parts_of(multipart("alternative", PLAIN, "Content-Type: text/calendar; method=REQUEST\n\nBEGIN:VCALENDAR"))

    assert [(item.content_type, item.content) for item in parts.attachments] == [("text/calendar", b"BEGIN:VCALENDAR")]


def test_body_in_the_wrong_charset_is_kept_as_bytes():
    """Bytes that do not fit their charset are never guessed into a body."""
    parts = take_apart(HEAD.encode() + b"Content-Type: text/plain\r\n\r\ncaf\xe9")

    assert parts.text is None
    assert parts.attachments[0].content == b"caf\xe9"
    assert parts.losses == {Loss.CHARSET}


def test_unlabelled_utf8_is_read_as_utf8():
    """US-ASCII said or implied, UTF-8 meant: what every mail reader does."""
    assert take_apart(HEAD.encode() + "\r\ncafé".encode()).text == "café"


@pytest.mark.parametrize(
    "header",
    [
        "attachment; filename=\"Übersicht.pdf\"",
        "attachment; filename*=UTF-8''%C3%9Cbersicht.pdf; filename=\"Ubersicht.pdf\"",
        "attachment; filename*0*=UTF-8''%C3%9Cber; filename*1=\"sicht\"; filename*2*=.pdf",
        "attachment; filename=\"=?utf-8?q?=C3=9Cbersicht=2Epdf?=\"",
        "attachment; filename*=iso-8859-1'de'%DCbersicht.pdf",
    ],
)  # fmt: skip
def test_file_names_in_every_spelling(header):
    """RFC 2231 with and without continuations, RFC 2047 in quotes and raw UTF-8 all mean the same name."""
    parts = parts_of(multipart("mixed", PLAIN, f"Content-Type: application/pdf\nContent-Disposition: {header}\n\nx"))

    assert parts.attachments[0].filename == "Übersicht.pdf"


# --- headers -----------------------------------------------------------------------------------------------


def test_display_values_are_decoded():
    """Subject and names come as people read them; addresses as they stand."""
    parts = parts_of(
        "Subject: =?iso-8859-1?q?caf=E9?= =?utf-8?b?4oKs?= today\n"
        'To: "Doe, J." <j@x.example>, =?utf-8?q?J=C3=B6?= <jo@x.example>, plain@x.example (Plain)\n'
        "Cc: friends: b@x.example, c@x.example;, undisclosed-recipients:;\n"
        "Reply-To: <r@x.example>\n\nx"
    )

    assert parts.subject == "café€ today"
    assert parts.from_ == (Mailbox("a@example.org", "Ann"),)
    assert parts.to == (
        Mailbox("j@x.example", "Doe, J."),
        Mailbox("jo@x.example", "Jö"),
        Mailbox("plain@x.example", "Plain"),
    )
    assert parts.cc == (Mailbox("b@x.example"), Mailbox("c@x.example"))
    assert parts.reply_to == (Mailbox("r@x.example"),)


def test_fields_worth_handing_on():
    """Custom fields keep their spelling and order; trace, signatures, Bcc and what has its own place stay behind."""
    parts = parts_of(
        "Received: x\nDKIM-Signature: x\nARC-Seal: x\nBcc: secret@x.example\nMIME-Version: 1.0\n"
        "Message-ID: <1@x>\nX-Relay-Tag: one, two\nX-Relay-Secret: x\nList-Unsubscribe: <https://u.example>,\n"
        " <mailto:u@x.example>\nX-Name: =?utf-8?q?=C3=BC?=\n\nx"
    )

    assert parts.headers == (
        ("Message-ID", "<1@x>"),
        ("List-Unsubscribe", "<https://u.example>, <mailto:u@x.example>"),
        ("X-Name", "=?utf-8?q?=C3=BC?="),
    )
    assert parts.subject is None


def test_to_given_twice_is_read_whole():
    """Two To fields (against RFC 5322 §3.6) name two recipients; losing one would hide them."""
    assert len(parts_of("To: a@x.example\nTo: b@x.example\n\nx").to) == 2


@pytest.mark.parametrize(
    ("text", "mailboxes"),
    [
        ('"j d"@x.y', [Mailbox('"j d"@x.y')]),
        ("<@r1,@r2:u@h>", [Mailbox("u@h")]),
        ("a@b; c@d", [Mailbox("a@b"), Mailbox("c@d")]),
        ('"a, b <x@y>" <c@d>', [Mailbox("c@d", "a, b <x@y>")]),
        ("(c (nested) , x@y) a@b", [Mailbox("a@b", "c (nested) , x@y")]),
        ("nobody, <>, ;", []),
        ('"open <a@b>', [Mailbox("a@b", '"open')]),
    ],
)
def test_address_lists(text, mailboxes):
    """Quotes, comments, groups, routes and rubbish."""
    assert list(parse_mailboxes(text)[0]) == mailboxes


def test_split_characters_are_joined_before_decoding():
    """A character cut in two by neighbouring words of one charset is whole again."""
    assert decode_words("=?utf-8?b?w7Y=?= =?utf-8?q?=C3?= =?utf-8?q?=B6?=") == ("öö", True)


@pytest.mark.parametrize("label", ["idna", "punycode", "unicode_escape", "utf-7", "rot13", "zlib", "undefined", "../x"])
def test_codecs_that_are_traps_are_not_charsets(label):
    """Only character sets of mail are ever looked up for decoding."""
    assert decode_charset(b"abc", label) is None


def test_superset_is_tried_where_the_label_is_too_narrow():
    """gb2312 is what senders write who mean gb18030."""
    assert decode_charset("镕".encode("gb18030"), "gb2312") == "镕"


def test_parameters_beyond_the_cap_are_ignored():
    """A thousand parameters are an attack."""
    value, found, clean = parse_parameters("a/b" + "; a=1" * 1000)

    assert (value, found, clean) == ("a/b", {"a": "1"}, False)


# --- limits ------------------------------------------------------------------------------------------------


def nested(depth: int) -> str:
    text = "x"
    for level in range(depth):
        text = multipart("mixed", text, boundary=f"n{level}")
    return text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("Content-Type: multipart/mixed\n\nx", "usable boundary"),
        ('Content-Type: multipart/mixed; boundary=""\n\nx', "usable boundary"),
        (f"Content-Type: multipart/mixed; boundary={'b' * 300}\n\nx", "usable boundary"),
        ("Content-Type: multipart/mixed; boundary=b\n\nx", "never stands"),
        (nested(MOST_NESTING + 1), "nested deeper"),
        (multipart("mixed", *["\nx"] * MOST_PARTS), "parts"),
        ("X: y\n" * MOST_FIELDS + "\nx", "header fields"),
        ("X: " + "y" * HEADER_OCTETS + "\n\nx", "octets of header"),
        (multipart("mixed", *[f"X: {'y' * 3000}\n\nx"] * 99), "octets of header"),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\n\n" + "--bx\n" * 11_000, "too many lines"),
    ],
)
def test_limits_refuse_with_a_reason(body, words):
    """Every cap raises MessageSyntaxError and nothing else."""
    with pytest.raises(MessageSyntaxError, match=words):
        parts_of(body)


def test_deepest_allowed_nesting_is_read():
    """The cap is no lower than it says."""
    assert parts_of(nested(MOST_NESTING)).text == "x"


def test_empty_and_headerless_content_is_refused():
    """There is nothing a provider could be given."""
    for content in (b"", b"\r\n", b"\r\nbody", b"no header at all\r\n"):
        with pytest.raises(MessageSyntaxError, match="no header"):
            take_apart(content)


def test_scan_budget_ends_a_nesting_bomb():
    """Many levels around much content would be scanned once a level; it is refused first."""
    inner = "y" * 1_000_000
    text = f"\n{inner}"
    for level in range(40):
        text = multipart("mixed", text, boundary=f"n{level}")
    with pytest.raises(MessageSyntaxError, match="nested too deep"):
        parts_of(text)


def test_missing_close_delimiter_keeps_the_last_part():
    """A truncated message still yields what it has."""
    parts = parts_of("Content-Type: multipart/mixed; boundary=b\n\npreamble\n--b\n\none\n--b\n" + PDF)

    assert parts.text == "one"
    assert parts.attachments[0].content == b"%PDF"


def test_boundary_of_an_outer_part_does_not_end_an_inner_longer_one():
    """`b` and `bb` are different boundaries."""
    inner = multipart("alternative", PLAIN, HTML, boundary="bb")
    parts = parts_of(multipart("mixed", inner, PDF))

    assert (parts.text, parts.html, len(parts.attachments)) == ("hällo", "<p>hällo</p>", 1)
