"""Keys of an issuer: which are taken, and when they are read again."""

from __future__ import annotations

import asyncio
import json

import pytest
from jwt.algorithms import ECAlgorithm
from tokens import ManualClock, jwk, jwks, private_key

from relay.auth.jwks import Freshness, JwksError, KeyRing, parse_jwks
from relay.mail.errors import AuthUnavailableError

ALL = ("RS256", "ES256", "EdDSA")


class Address:
    """Where keys are: counts how often it is asked; an exception is raised, a gate waited for."""

    def __init__(self, document: bytes | Exception) -> None:
        self.document = document
        self.asked = 0
        self.gate: asyncio.Event | None = None

    async def read(self) -> bytes:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.document, Exception):
            raise self.document
        return self.document


def ring(address: Address, clock: ManualClock, failures: list[str] | None = None) -> KeyRing:
    failed = (failures if failures is not None else []).append
    return KeyRing(address.read, ALL, Freshness(age=3600, floor=60), clock, failed)


def test_only_keys_that_can_verify_are_taken() -> None:
    """No secret, no private half, nothing for encryption, nothing weak, no algorithm that is not allowed."""
    weak = {**jwk("RS256", "weak"), "n": jwk("RS256", "weak")["n"][:170]}
    keys = parse_jwks(
        jwks(
            jwk("RS256", "a"),
            jwk("ES256", "b"),
            jwk("EdDSA", "c"),
            {"kty": "oct", "kid": "secret", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"},
            jwk("RS256", "enc", use="enc"),
            jwk("RS256", "sign", key_ops=["sign"]),
            jwk("PS256", "pss"),
            {**ECAlgorithm.to_jwk(private_key("ES256", 0), as_dict=True), "kid": "private", "key_ops": ["verify"]},
            {"kty": "new", "kid": "new"},
            {"kty": "oct", "kid": "no secret"},
            {"kty": "EC", "kid": "half", "alg": "ES256", "crv": "P-256", "x": 1},
            jwk("RS256", "number", key_ops=1),
            weak,
        ),
        ALL,
    )

    assert sorted(keys) == ["a", "b", "c"]
    assert sorted(parse_jwks(jwks(jwk("RS256", "a"), jwk("ES256", "b")), ("ES256",))) == ["b"]
    assert private_key("RS256", 0).key_size == 2048


@pytest.mark.parametrize(
    "document",
    [
        b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": 5}', b'{"keys": []}', b'{"keys": [5, {}, []]}', b"\xff", b"null",
        b'{"keys": ' + b"[" * 100_000, json.dumps({"keys": [{"kty": "RSA", "n": 5, "e": None}]}).encode(),
    ],
)  # fmt: skip
def test_what_is_no_set_of_keys_is_told(document: bytes) -> None:
    with pytest.raises(JwksError):
        parse_jwks(document, ALL)


def test_an_unknown_key_makes_it_read_again_but_not_within_the_floor() -> None:
    """Who makes up key ids makes us ask once a minute."""

    async def run() -> None:
        clock, address = ManualClock(), Address(jwks(jwk("RS256", "k1")))
        keys = ring(address, clock)
        assert await keys.find("k1")
        assert address.asked == 1
        for _ in range(20):
            assert await keys.find("made up") is None
            assert await keys.find("k1")
        assert address.asked == 1
        clock.time += 61
        address.document = jwks(jwk("RS256", "k1"), jwk("RS256", "k2"))
        assert await keys.find("k2")
        assert address.asked == 2
        assert await keys.find("made up") is None
        assert address.asked == 2

    asyncio.run(run())


def test_old_keys_are_used_while_they_are_renewed() -> None:
    """Nobody waits for it; one that was taken away is gone then."""

    async def run() -> None:
        clock, address = ManualClock(), Address(jwks(jwk("RS256", "k1")))
        keys = ring(address, clock)
        await keys.find("k1")
        clock.time += 3601
        address.gate, address.document = asyncio.Event(), jwks(jwk("RS256", "k2"))
        assert await keys.find("k1")
        assert await keys.find("k1")
        await asyncio.sleep(0)
        assert address.asked == 2
        address.gate.set()
        assert await keys.find("k2")
        assert await keys.find("k1") is None

    asyncio.run(run())


def test_many_that_ask_at_once_share_one_reading_and_who_leaves_takes_it_from_nobody() -> None:
    async def run() -> None:
        address = Address(jwks(jwk("RS256", "k1")))
        address.gate = asyncio.Event()
        keys = ring(address, ManualClock())
        asking = [asyncio.create_task(keys.find("k1")) for _ in range(10)]
        await asyncio.sleep(0)
        asking[0].cancel()
        await asyncio.sleep(0)
        address.gate.set()
        assert all(await asyncio.gather(*asking[1:]))
        assert address.asked == 1

    asyncio.run(run())


def test_keys_that_cannot_be_read_are_used_for_a_day_and_then_none() -> None:
    """The client hears of a temporary trouble, not that its token is bad."""

    async def run() -> None:
        clock, failures = ManualClock(), list[str]()
        address = Address(OSError("https://login.example.com/jwks answers 503"))
        keys = ring(address, clock, failures)
        with pytest.raises(AuthUnavailableError):
            await keys.find("k1")
        with pytest.raises(AuthUnavailableError):
            await keys.find("k1")
        assert address.asked == 1
        clock.time += 61
        address.document = jwks(jwk("RS256", "k1"))
        assert await keys.find("k1")
        address.document = b"<html>"
        clock.time += 86_300
        assert await keys.find("k1")
        await asyncio.sleep(0.01)
        clock.time += 101
        with pytest.raises(AuthUnavailableError):
            await keys.find("k1")
        clock.time += 61
        address.document = jwks(jwk("RS256", "k1"))
        assert await keys.find("k1")
        assert failures[0] == "https://login.example.com/jwks answers 503"
        assert "no JSON Web Key Set" in failures[1]

    asyncio.run(run())


def test_a_token_without_a_key_id_means_the_only_key() -> None:
    async def run() -> None:
        clock = ManualClock()
        keys = ring(Address(jwks(jwk("ES256", "k1"))), clock)
        assert await keys.find(None)
        keys.take(jwks(jwk("ES256", "k1"), jwk("RS256", "k2")))
        assert await keys.find(None) is None
        keys.take(jwks(jwk("ES256", None)))
        assert await keys.find(None)

    asyncio.run(run())
