"""Bearer tokens: what lets in, and every way in which a token is none."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tokens import ISSUER, NOW, ManualClock, jwk, jwks, private_key, token

from relay.auth.jwks import Freshness, KeyRing
from relay.auth.tokens import Issuer, TokenVerifier
from relay.mail.errors import AuthUnavailableError
from relay.mail.session import Login, SenderRights
from relay.ports import StoredCredential

RIGHTS = SenderRights((), ("acme.example",))
CREDENTIALS = {
    name: StoredCredential(name.partition("@")[0], "acme", RIGHTS, "") for name in ("app1", "app1@acme.x", "app2")
}
KEYS = jwks(jwk("RS256", "k1"), jwk("ES256", "k2"), jwk("EdDSA", "k3"))


class Source:
    def find_credential(self, login: str) -> StoredCredential | None:
        return CREDENTIALS.get(login)


def verify(text: str, username: str = "", **changes: Any) -> tuple[Login | None, list[tuple[str, str]]]:
    """The login, and what was told of a refusal."""
    refusals: list[tuple[str, str]] = []

    async def unreadable() -> bytes:
        raise OSError("not now")

    async def run() -> Login | None:
        clock = ManualClock()
        algorithms = changes.pop("algorithms", ("RS256", "ES256", "EdDSA"))
        keys = KeyRing(unreadable, algorithms, Freshness(3600, 60), clock, lambda reason: None)
        if changes.pop("keys", True):
            keys.take(KEYS)
        facts = {"username_claim": "email", "skew": 60.0, **changes}
        issuer = Issuer("main", ISSUER, ("smtp", "mail"), algorithms=algorithms, keys=keys, **facts)
        verifier = TokenVerifier([issuer], Source(), clock, lambda *words: refusals.append(words))
        return await verifier.verify(text, username)

    return asyncio.run(run()), refusals


@pytest.mark.parametrize(("algorithm", "kid"), [("RS256", "k1"), ("ES256", "k2"), ("EdDSA", "k3")])
@pytest.mark.parametrize("username", ["", "app1", "app1@acme.x"])
def test_a_good_token_lets_in_as_the_credential_its_claim_names(algorithm: str, kid: str, username: str) -> None:
    """Whichever spelling of the same credential the client uses, or none."""
    assert verify(token(algorithm, kid), username) == (Login("acme", "app1", RIGHTS), [])
    assert verify(token(algorithm, kid, aud=["other", "mail"]), username)[0]


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"iss": ISSUER + "/"}, "its issuer is none of ours"),
        ({"iss": None}, "its issuer is none of ours"),
        ({"iss": [ISSUER]}, "its issuer is none of ours"),
        ({"aud": "other"}, "not meant for us"),
        ({"aud": None}, "not meant for us"),
        ({"aud": []}, "not meant for us"),
        ({"aud": {"smtp": 1}}, "not meant for us"),
        ({"aud": [["smtp"]]}, "not meant for us"),
        ({"exp": None}, "its exp is no time"),
        ({"exp": "tomorrow"}, "its exp is no time"),
        ({"exp": True}, "its exp is no time"),
        ({"exp": float("inf")}, "its exp is no time"),
        ({"exp": float("nan")}, "its exp is no time"),
        ({"exp": 10**400}, "its exp is no time"),
        ({"nbf": "now"}, "its nbf is no time"),
        ({"exp": NOW - 60}, "expired"),
        ({"nbf": NOW + 61}, "not valid yet"),
        ({"iat": NOW + 61}, "not valid yet"),
        ({"email": None}, "has no claim 'email'"),
        ({"email": ""}, "has no claim 'email'"),
        ({"email": 5}, "has no claim 'email'"),
        ({"email": "nobody"}, "names no enabled credential"),
        ({"email_verified": False}, "is not verified"),
    ],
)
def test_a_claim_that_is_not_right_is_told_to_the_operator(claims: dict[str, Any], words: str) -> None:
    login, [(issuer, reason)] = verify(token(**claims))

    assert login is None
    assert words in reason
    assert issuer == ("" if "iss" in claims else "main")


@pytest.mark.parametrize(
    "claims",
    [{"exp": NOW - 59}, {"nbf": NOW + 59, "iat": NOW + 59}, {"nbf": None, "iat": None}, {"email_verified": True}],
)
def test_clocks_may_differ_a_little(claims: dict[str, Any]) -> None:
    assert verify(token(**claims))[0]


def test_the_claim_is_the_one_that_is_configured() -> None:
    """`email_verified` speaks of `email` alone."""
    text = token(email="nobody", sub="app2", email_verified=False)

    assert verify(text, username_claim="sub")[0] == Login("acme", "app2", RIGHTS)


def test_nobody_comes_in_by_somebody_elses_token() -> None:
    for username in ("app2", "nobody"):
        assert verify(token(), username) == (None, [("main", "the client names another user than its token does")])


def _forged(header: dict[str, Any], sign: Any = lambda text: b"") -> str:
    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    claims = {"iss": ISSUER, "aud": "smtp", "email": "app1", "exp": NOW + 300}
    text = part(json.dumps(header).encode()) + b"." + part(json.dumps(claims).encode())
    return (text + b"." + part(sign(text))).decode()


def _public_pem() -> bytes:
    return private_key("RS256", 0).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _by_secret(text: bytes) -> bytes:
    """The old trick: the public key as a shared secret."""
    return hmac.digest(_public_pem(), text, hashlib.sha256)


@pytest.mark.parametrize(
    "text",
    [
        _forged({"alg": "none", "kid": "k1"}),
        _forged({"alg": "None", "kid": "k1"}),
        _forged({"alg": "HS256", "kid": "k1"}, _by_secret),
        _forged({"alg": "RS256", "kid": "k1"}, _by_secret),
        _forged({"kid": "k1"}),
        _forged({"alg": "RS256", "kid": 5}),
        _forged({"alg": "RS256", "kid": ["k1"]}),
        _forged({"alg": "RS256", "kid": "k1", "crit": ["x"], "x": 1}),
        _forged({"alg": "RS256", "kid": "k1", "b64": False, "crit": ["b64"]}),
        token("RS256", "k2"),
        token("ES256", "k1"),
        token("RS256", "k1", which=1),
        token("RS256", "k9"),
        token("RS256", None),
        token()[:-8] + "AAAAAAAA",
        token() + ".x",
        token() + "A" * 9000,
        "", ".", "..", "a.b.c", "ya29.opaque",
    ],
)  # fmt: skip
def test_what_its_issuer_did_not_sign_is_none(text: str) -> None:
    """`none`, a public key as a secret, another's key, another kind of key, no key."""
    login, [(_, reason)] = verify(text)

    assert login is None
    assert text[-40:] not in reason or not text.strip(".")


def test_an_algorithm_that_is_not_allowed_is_none_though_the_key_is_the_issuers() -> None:
    assert verify(token("RS256", "k1"), algorithms=("ES256",))[0] is None
    assert verify(token("ES256", "k2"), algorithms=("ES256",))[0]


def test_without_keys_it_is_a_temporary_trouble() -> None:
    with pytest.raises(AuthUnavailableError):
        verify(token(), keys=False)


_segments = st.one_of(
    st.binary(max_size=40).map(lambda value: base64.urlsafe_b64encode(value).rstrip(b"=").decode()),
    st.recursive(st.none() | st.floats() | st.text(max_size=5), st.lists, max_leaves=5).map(
        lambda value: (
            base64.urlsafe_b64encode(json.dumps({"iss": ISSUER, "alg": "RS256", "kid": value}).encode())
            .rstrip(b"=")
            .decode()
        )
    ),
    st.sampled_from(token().split(".")),
    st.text(st.characters(codec="ascii"), max_size=8),
)


@given(st.lists(_segments, max_size=4))
def test_any_text_is_a_token_or_refused(segments: list[str]) -> None:
    login, refusals = verify(".".join(segments))

    assert (login is None) == bool(refusals)
