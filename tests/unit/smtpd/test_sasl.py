"""AUTH exchanges without a connection."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtpd.sasl import Credentials, Exchange, SaslError, Steps, login, plain

_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30)


def _b64(text: str) -> bytes:
    return base64.b64encode(text.encode())


@given(username=_text, password=_text, authorize_as=st.one_of(st.just(""), _text))
def test_plain_carries_any_text_without_nul(username: str, password: str, authorize_as: str) -> None:
    """RFC 4616: with the command, or after an empty challenge."""
    line = _b64(f"{authorize_as}\0{username}\0{password}")
    later = Exchange(plain())

    assert Exchange(plain()).begin(line) == Credentials(username, password, authorize_as)
    assert later.begin(b"") == b""
    assert later.respond(line) == Credentials(username, password, authorize_as)


@given(username=_text, password=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_login_carries_any_text(username: str, password: str) -> None:
    exchange = Exchange(login())

    assert exchange.begin(b"") == base64.b64encode(b"Username:")
    assert exchange.respond(_b64(username)) == base64.b64encode(b"Password:")
    assert exchange.respond(_b64(password) or b"=") == Credentials(username, password)


@given(st.sampled_from([plain, login]), st.lists(st.binary(max_size=40), min_size=2, max_size=2))
def test_any_response_is_read_or_refused(mechanism: Callable[[], Steps], lines: list[bytes]) -> None:
    exchange = Exchange(mechanism())
    result: bytes | Credentials | str
    try:
        result = exchange.begin(lines[0] or b"=")
        if isinstance(result, bytes):
            result = exchange.respond(lines[1])
    except SaslError as error:
        result = str(error)

    assert isinstance(result, Credentials) or result.isascii()


def test_a_password_shows_in_no_repr() -> None:
    """Logs print values; this one keeps its secret."""
    assert "hunter2" not in repr(Credentials("alice", "hunter2"))


@pytest.mark.parametrize("mechanism", [plain, login])
def test_mechanisms_start_anew(mechanism: Callable[[], Steps]) -> None:
    """Two exchanges share nothing."""
    one, other = Exchange(mechanism()), Exchange(mechanism())

    assert one.begin(b"") == other.begin(b"")
