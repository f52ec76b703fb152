"""XOAUTH2 and OAUTHBEARER messages."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.reply import reply
from relay.mail.session import Login
from relay.smtpd.sasl import Exchange, SaslError
from relay.smtpd.sasl_bearer import BearerClaim, oauthbearer, xoauth2

REFUSED = reply(535, "5.7.8", "no")


def _b64(text: str) -> bytes:
    return base64.b64encode(text.encode("utf-8", "surrogatepass")) or b"="


def _claim(exchange: Exchange, text: str) -> BearerClaim:
    claim = exchange.begin(_b64(text))
    assert isinstance(claim, BearerClaim)
    return claim


def test_the_examples_of_their_authors() -> None:
    """Google's page, and RFC 7628 §4.1, where host and port come first."""
    one = _claim(
        Exchange(xoauth2()), "user=someuser@example.com\1auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGE\1\1"
    )
    other = _claim(
        Exchange(oauthbearer("")),
        "n,a=user@example.com,\1host=server.example.com\1port=143\1"
        "auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\1\1",
    )

    assert (one.username, one.token) == ("someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGE")
    assert (other.username, other.token) == ("user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")


def test_forms_that_clients_send() -> None:
    assert _claim(Exchange(oauthbearer("")), "n,,\1auth=Bearer a.b-c_d~e+f/g==\1\1").username == ""
    assert _claim(Exchange(oauthbearer("")), "y,a=a=3Db=2Cc,\1auth=bearer  t\1mac=x\1\1").username == "a=b,c"
    assert _claim(Exchange(xoauth2()), "user=a b\1auth=BEARER t\1\1").username == "a b"


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "user=a\1auth=Bearer t\1", "user=\1auth=Bearer t\1\1", "user=a\1auth=Bearer \1\1",
        "user=a\1auth=Basic t\1\1", "user=a\1auth=Bearer t t\1\1", "user=a\1auth=Bearer t\1\1x", "auth=Bearer t\1\1",
        "user=a\1user=b\1auth=Bearer t\1\1", "user=a\1auth=Bearer t\1\1\n", "user=a\1auth=Bearer t\u00e9\1\1",
    ],
)  # fmt: skip
def test_what_is_no_xoauth2_is_refused(text: str) -> None:
    with pytest.raises(SaslError):
        Exchange(xoauth2()).begin(_b64(text))


@pytest.mark.parametrize(
    "text",
    [
        "", "\1", "n,,\1\1", "n,\1auth=Bearer t\1\1", ",,\1auth=Bearer t\1\1", "n,,\1auth=Bearer t\1",
        "n,,auth=Bearer t\1\1", "n,,\1auth=Bearer t\1auth=Bearer u\1\1",
        "n,a=,\1auth=Bearer t\1\1", "n,a=a=b,\1auth=Bearer t\1\1",
        "p=tls-unique,,\1auth=Bearer t\1\1", "n,,\1host\1auth=Bearer t\1\1", "n,,\1auth=Bearer t\1\1x",
    ],
)  # fmt: skip
def test_what_is_no_oauthbearer_is_refused(text: str) -> None:
    with pytest.raises(SaslError):
        Exchange(oauthbearer("")).begin(_b64(text))


def test_a_client_that_is_refused_is_told_in_json_and_no_other() -> None:
    """RFC 7628 §3.2.2."""
    one = _claim(Exchange(xoauth2()), "user=a\1auth=Bearer t\1\1")
    other = _claim(Exchange(oauthbearer("https://login.example/conf")), "n,,\1auth=Bearer t\1\1")

    assert json.loads(one.last_words(REFUSED)) == {"status": "401", "schemes": "bearer"}
    assert json.loads(other.last_words(REFUSED)) == {
        "status": "invalid_token",
        "openid-configuration": "https://login.example/conf",
    }
    for result in (Login("acme", "a"), reply(454, "4.7.0", "later"), reply(421, "4.7.0", "too many")):
        assert one.last_words(result) == b""


def test_a_token_shows_in_no_repr() -> None:
    assert "hunter2" not in repr(BearerClaim("a", "hunter2", b""))


@given(
    st.lists(
        st.one_of(
            st.sampled_from(["n,,", "n,a=u,", "user=u", "\1", "\1\1", "auth=Bearer ", "t", "host=h", "=", ","]),
            st.text(max_size=4),
        ),
        max_size=9,
    ),
    st.booleans(),
)
def test_any_response_is_read_or_refused(pieces: list[str], one: bool) -> None:
    exchange = Exchange(xoauth2() if one else oauthbearer(""))
    result: object
    try:
        result = exchange.begin(_b64("".join(pieces)))
    except SaslError as error:
        result = str(error)

    assert isinstance(result, BearerClaim) or (isinstance(result, str) and result.isascii())


@pytest.mark.parametrize("start", [xoauth2, lambda: oauthbearer("")])
def test_a_long_response_that_is_almost_right_is_refused_at_once(start) -> None:
    """No pattern goes back over what it has read: this would take hours if one did."""
    for text in ("n,,\1" + "a=b\1" * 2000 + "auth=Bearer !", "user=" + "a" * 9000 + "\1auth=Bearer " + "a=" * 1000):
        with pytest.raises(SaslError):
            Exchange(start()).begin(_b64(text))
