"""What is read of who logs in: SASL exchanges, bearer tokens, sets of keys, certificates, API keys, passwords.

The tokens are signed by an issuer's own key, so that their claims are read too.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import jwt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "auth"))

from doors import SECURE, Gate, doors
from harness import Octets, Readers, in_loop
from tokens import ISSUER, NOW, ManualClock, jwk, jwks, private_key, token
from transcript import USERS, finish

from relay.auth.jwks import Freshness, JwksError, KeyRing, parse_jwks
from relay.auth.saslprep import saslprep
from relay.auth.tokens import Issuer, TokenVerifier
from relay.mail.errors import AuthUnavailableError
from relay.mail.reply import Reply
from relay.mail.session import Login, Session
from relay.ports import StoredCredential
from relay.smtpd.sasl import Exchange, SaslError

_ALGORITHMS = ("RS256", "ES256", "EdDSA", "PS256")
_HERE = Session("192.0.2.1", 4000, "client.example", "ESMTP", "test", SECURE)
_HANDLER = doors(Gate())[1].handler
_REASONS: list[str] = []


class _Source:
    def find_credential(self, login: str) -> StoredCredential | None:
        return StoredCredential(login, "acme", USERS[login], "") if login in USERS else None


async def _no_document() -> bytes:
    raise OSError("no network here")


def _ring() -> KeyRing:
    ring = KeyRing(_no_document, _ALGORITHMS, Freshness(1e9, 1e9), ManualClock(), lambda words: None)
    ring.take(jwks(jwk("RS256", "k1"), jwk("ES256", "e1"), jwk("EdDSA", "d1")))
    return ring


_VERIFIER = TokenVerifier(
    [Issuer("test", ISSUER, ("smtp",), "email", _ALGORITHMS, 60.0, _ring())],
    _Source(),
    ManualClock(),
    lambda name, reason: _REASONS.append(reason),
)


def _verified(text: str, username: str = "") -> Login | None:
    """Nobody, said why, or a login; the token stands in no reason."""
    _REASONS.clear()
    try:
        login: Login | None = in_loop(_VERIFIER.verify(text, username))
    except AuthUnavailableError:
        return None
    assert (login is None) == bool(_REASONS)
    assert all(reason.isprintable() and "eyJ" not in reason for reason in _REASONS)
    return login


def _token(octets: bytes) -> None:
    assert _verified(octets.decode("latin-1")) is None


def _token_parts(octets: bytes) -> None:
    """Header and claims from the input; nobody has signed them."""
    chosen = Octets(octets)
    header, claims = chosen.take(chosen.number()), chosen.rest()
    parts = (base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (header, claims, b"x" * 64))
    assert _verified(".".join(parts)) is None


def _deep_token(octets: bytes) -> None:
    """Header and claims that nest."""
    chosen = Octets(octets)
    depth = chosen.number() * 16
    kind = chosen.one((b"[", b'{"a":', b'{"kid":'))
    header, claims = (kind * depth, b"{}") if chosen.number(2) else (b'{"alg":"RS256","kid":"k1"}', kind * depth)
    parts = (base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (header, claims, b"x" * 64))
    assert _verified(".".join(parts)) is None


def _signed_token(octets: bytes) -> None:
    """Claims of an issuer's own that are anything at all."""
    chosen = Octets(octets)
    algorithm, kid = chosen.one((("EdDSA", "d1"), ("ES256", "e1")))
    username = chosen.one(("", "alice", "app", "nobody"))
    claims: dict[str, Any] = {"iss": ISSUER, "aud": "smtp", "email": "alice", "exp": NOW + 300}
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(chosen.rest())
        claims |= found if isinstance(found, dict) else {"exp": found}
    payload = json.dumps(claims).encode()
    signed = jwt.PyJWS().encode(payload, private_key(algorithm, 0), algorithm=algorithm, headers={"kid": kid})
    login = _verified(signed, username)
    assert login is None or login.username == claims["email"]


def _keys(octets: bytes) -> None:
    """A set of keys has usable ones, or is refused in words; none of them is a shared secret."""
    try:
        found = parse_jwks(octets, _ALGORITHMS)
    except JwksError as error:
        assert str(error).isprintable()
        return
    assert found
    assert all(key.algorithm_name in _ALGORITHMS for key in found.values())


def _key_fields(octets: bytes) -> None:
    """Keys that are right but for one field."""
    chosen = Octets(octets)
    key: dict[str, Any] = jwk(chosen.one(("RS256", "ES256", "EdDSA")), "k1")
    name = chosen.one(("kty", "alg", "kid", "use", "key_ops", "n", "e", "crv", "x", "y", "d", "x5c", "k"))
    with contextlib.suppress(ValueError, RecursionError):
        key[name] = json.loads(chosen.rest())
    _keys(json.dumps({"keys": [key]}).encode())


def _exchange(octets: bytes) -> None:
    """Any mechanism, any responses: a challenge, a claim or SaslError."""
    chosen = Octets(octets)
    mechanisms = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "XOAUTH2", "OAUTHBEARER", "EXTERNAL")
    exchange: Exchange = _HANDLER.exchange(_HERE, chosen.one(mechanisms))
    plain = chosen.number(4)
    step = exchange.begin
    for _ in range(4):
        response = chosen.take(chosen.number()) if chosen else b""
        try:
            result = step(response if plain == 0 else base64.b64encode(response))
        except SaslError as error:
            assert str(error).isprintable()
            assert str(error).isascii()
            return
        if not isinstance(result, bytes):
            answer: Reply | Login = finish(_HANDLER.authenticate(_HERE, result))  # type: ignore[arg-type]
            result.last_words(answer)
            assert "hidden" in repr(result) or "password" not in repr(result)
            return
        assert base64.b64decode(result, validate=True) is not None
        step = exchange.respond


def _saslprep(octets: bytes) -> None:
    """What is prepared stays as it is when it is prepared again."""
    once = saslprep(octets.decode("utf-8", "replace"))
    assert once is None or once


def target() -> Readers:
    found = Readers(
        (_token, _token_parts, _deep_token, _signed_token, _keys, _key_fields, _exchange, _exchange, _saslprep),
        pure=(_token, _keys, _saslprep),
    )
    good = token("EdDSA", "d1").encode()
    found.more = [
        found.seed(_token, good[:-1] + b"A"),
        found.seed(_token_parts, b"\x1a" + b'{"alg":"RS256","kid":"k1"}' + json.dumps({"iss": ISSUER}).encode()),
        found.seed(_token_parts, b"\x1e" + b'{"alg":"none","b64":false}    ' + json.dumps({"iss": ISSUER,
        "exp": 1}).encode()),
        *(found.seed(_deep_token, bytes((depth, kind, place))) for depth in (1, 60, 255) for kind in (0,
        1) for place in (0, 1)),
        found.seed(_signed_token, b'\0\0{"exp":1e999,"nbf":1.5,"iat":1800000000,"aud":["a","smtp"]}'),
        found.seed(_signed_token, b'\1\1{"email_verified":false,"iss":[],"aud":{},"email":null}'),
        found.seed(_signed_token, b"\0\0" + b"9" * 310),
        found.seed(_keys, jwks(jwk("RS256", "k1"), jwk("ES256", "e1"), jwk("EdDSA", "d1"))),
        found.seed(_keys, b'{"keys":[{"kty":"oct","k":"AAAA","alg":"HS256"}]}'),
        *(found.seed(_key_fields, bytes((0, number)) + value) for number in range(13) for value in (b"[]", b"1",
        b'"AQAB"')),
        *(found.seed(_exchange, bytes((number, 1)) + words) for number, words in (
            (0, b"\x0d\0alice\0secret"), (1, b"\0\5alice\6secret"), (2,
            b"\x10n,,n=alice,r=abc\x20c=biws,r=abcx,p=AAAA"),
            (3, b"\x2ap=tls-server-end-point,,n=alice,r=abcdefgh\0"), (4, b"\x20user=alice\1auth=Bearer of.alice\1\1"),
            (5, b"\x24n,a=alice,\1auth=Bearer of.alice\1\1"), (6, b"\5alice"), (2, b"\x12n,,n=a=2Cb=,r=abc\1x"),
        )),
        found.seed(_saslprep, "pä\u00adß\u00a0x\u0627".encode()),
    ]  # fmt: skip
    return found
