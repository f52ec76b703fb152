"""MAIL and RCPT lines read as values; what is not exact is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import parse_address
from relay.smtpd.commands import CommandError, MailCommand, parse_mail, parse_rcpt


@pytest.mark.parametrize(
    ("argument", "command"),
    [
        (b"FROM:<>", MailCommand(None)),
        (b"from:<a@B.Example> BODY=8BITMIME", MailCommand("a@b.example", body_8bit=True)),
        (b"FROM:<A@b.example> SIZE=10 BODY=7BIT AUTH=<>", MailCommand("A@b.example", size=10, submitter="<>")),
        (b"FROM:<> AUTH=e+3Dmc2@Example.com", MailCommand(None, submitter="e=mc2@example.com")),
        (b"FROM:<> AUTH=+22a+20b+22@b.example", MailCommand(None, submitter='"a b"@b.example')),
        (b"FROM:<@x.example,@y.example:a@b.example>", MailCommand("a@b.example")),
        ("FROM:<ä@ö.example> SMTPUTF8".encode(), MailCommand("ä@ö.example", smtputf8=True)),
    ],
)
def test_mail(argument: bytes, command: MailCommand) -> None:
    """The null sender is None; the local part keeps its case; a source route is dropped (RFC 5321 §4.1.1.3)."""
    assert parse_mail(argument) == command


@given(st.binary(max_size=80), st.sampled_from([b"FROM:<", b"FROM:<a@b.example>", b"TO:<", b""]), st.booleans())
def test_whatever_is_accepted_is_an_exact_address(octets: bytes, start: bytes, smtputf8: bool) -> None:
    """Any octets: an address that parses again to itself, without controls and brackets, or a permanent refusal."""
    for parse in (lambda line: parse_mail(line).address, lambda line: parse_rcpt(line, smtputf8=smtputf8)):
        try:
            address, refusal = parse(start + octets), None
        except CommandError as error:
            address, refusal = None, error.reply
        assert refusal is None or refusal.permanent
        assert address is None or str(parse_address(address)) == address
        assert address is None or not set("\r\n\0<>") & set(address)


@pytest.mark.parametrize(
    "value", [b"alice", b"a@b.example+", b"a@b.example+0D+0A", b"a+3d@b.example", b"<a@b.example>", b"a" * 600]
)
def test_a_submitter_that_is_no_address_in_xtext_is_refused(value: bytes) -> None:
    """RFC 4954 §5."""
    with pytest.raises(CommandError) as refused:
        parse_mail(b"FROM:<a@b.example> AUTH=" + value)

    assert str(refused.value.reply) == "501 5.5.4 Bad value for MAIL parameter AUTH"


def test_a_time_before_the_first_year_is_no_value() -> None:
    """In UTC it has no date, so what is said of it later could not be written."""
    with pytest.raises(CommandError, match="HOLDUNTIL"):
        parse_mail(b"FROM:<> HOLDUNTIL=0001-01-01T00:00:00+23:59")
