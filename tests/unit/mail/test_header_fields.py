"""Header fields: what is one and how it reads, in the common form and in every odd one."""

from __future__ import annotations

import pytest

from relay.mail.dialects import has_directives
from relay.mail.line_ends import has_bare_line_ends
from relay.mail.message import header_fields


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        (b"Subject:  hi \r\nX-A-1: b\r\n", [("subject", b"hi"), ("x-a-1", b"b")]),
        (b"Subject: a\r\n b\r\nTo: c\r\n", [("subject", b"a b"), ("to", b"c")]),
        (b"Subject: a\r\n\tb\r\n", [("subject", b"a\tb")]),
        (b"Subject : a\r\n", [("subject", b"a")]),
        (b"X_odd!: a\r\n", [("x_odd!", b"a")]),
        (b"Subject: a\rb\r\n", [("subject", b"a\rb")]),
        (b"Subject: a\nb: c\r\n", []),
        (b"no field\r\nTo: c\r\n", [("to", b"c")]),
        (b": no name\r\nTo: c\r\n", [("to", b"c")]),
        (b"Caf\xe9: a\r\nTo: c\r\n", [("to", b"c")]),
        (b"To: c", [("to", b"c")]),
    ],
)
def test_fields_read_the_same_in_one_line_folded_or_odd(header: bytes, fields: list[tuple[str, bytes]]) -> None:
    found = list(header_fields(header))

    assert [(field.name, field.value) for field in found] == fields
    assert all(field.raw in header for field in found)


@pytest.mark.parametrize(
    ("header", "asks"),
    [
        (b"X-Relay-Tag: a\r\n", True),
        (b"To: a\r\nRESEND-Tag: a\r\n", True),
        (b"To: a\r\nx-pm-tag : a\r\n", True),
        (b"To: x-pm-tag: a\r\n", False),
        (b"X-Mailer: a\r\n", False),
    ],
)
def test_a_dialect_is_found_wherever_its_field_stands(header: bytes, asks: bool) -> None:
    assert has_directives(header) is asks


@pytest.mark.parametrize(
    ("content", "bare"),
    [
        (b"a\r\nb\r\n", False),
        (b"", False),
        (b"a\nb\r\n", True),
        (b"a\rb\r\n", True),
        (b"a\n\r", True),
        (b"\r\r\n", True),
    ],
)
def test_a_cr_or_lf_that_stands_alone_is_found(content: bytes, bare: bool) -> None:
    assert has_bare_line_ends(content) is bare
