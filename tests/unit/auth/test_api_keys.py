"""API keys: form, scopes, and what does not open."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.auth.api_keys import ApiKeyGrant, ApiKeyVerifier, digest_of, generate_key, unknown_scopes
from relay.mail.session import Login, SenderRights
from relay.ports import StoredApiKey

RIGHTS = SenderRights((), ("example.com",))


@dataclass
class Source:
    """Keys by public id; remembers what was asked for."""

    keys: dict[str, StoredApiKey] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def find_api_key(self, key_id: str) -> StoredApiKey | None:
        self.asked.append(key_id)
        return self.keys.get(key_id)


def stored(key, scopes=("messages:send",)) -> StoredApiKey:
    return StoredApiKey(key.id, "acme", RIGHTS, scopes, key.digest)


def test_key_opens_its_account_with_its_scopes_and_rights():
    """The grant tells account, public name, rights and scopes."""
    key = generate_key()
    grant = ApiKeyVerifier(Source({key.id: stored(key)})).verify(key.text)
    assert grant == ApiKeyGrant(Login("acme", f"sk_live_{key.id}", RIGHTS), ("messages:send",))


def test_keys_are_unique_and_hold_256_random_bits():
    """43 base-62 characters of secret behind a 12-character id; repr shows neither key nor digest."""
    keys = [generate_key() for _ in range(100)]
    assert len({key.text for key in keys}) == len({key.id for key in keys}) == 100
    for key in keys:
        prefix, secret = key.text.rsplit("_", 1)
        assert prefix == f"sk_live_{key.id}"
        assert len(secret) == 43
        assert secret not in repr(key)
    assert 62**43 > 2**256


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: text + "\n",
        lambda text: text.swapcase(),
        lambda text: text.replace("sk_live_", "sk_test_"),
        lambda text: text.rpartition("_")[0],
        lambda text: " " + text,
        lambda text: "",
        lambda text: "\udc80" * 64,
    ],
)
def test_anything_but_the_whole_key_is_refused(spoil):
    """One wrong, missing or added character, or no key at all."""
    key = generate_key()
    assert ApiKeyVerifier(Source({key.id: stored(key)})).verify(spoil(key.text)) is None


def test_a_key_does_not_open_another_id():
    """The digest covers id and secret together."""
    first, second = generate_key(), generate_key()
    source = Source({first.id: stored(first), second.id: stored(second)})
    mixed = second.text.rpartition("_")[0] + "_" + first.text.rpartition("_")[2]
    assert ApiKeyVerifier(source).verify(mixed) is None


def test_zero_digest_opens_nothing():
    """The stand-in digest of unknown ids is no way in."""
    key = generate_key()
    assert ApiKeyVerifier(Source()).verify(key.text) is None


@given(st.text(max_size=80))
def test_any_text_is_answered_and_only_well_formed_ids_are_looked_up(text):
    """No text raises, and nothing but an id's characters reaches the source."""
    source = Source()
    assert ApiKeyVerifier(source).verify(text) is None
    assert source.asked == []


@pytest.mark.parametrize(
    ("granted", "wanted", "allowed"),
    [
        (("messages:send",), "messages:send", True),
        (("messages:send",), "messages:read", False),
        (("messages:*",), "messages:read", True),
        (("messages:*",), "logs:read", False),
        (("*",), "logs:read", True),
        ((), "messages:send", False),
        (("messages",), "messages:send", False),
    ],
)
def test_scopes(granted, wanted, allowed):
    """A scope is granted as such, by its noun's star, or by the star."""
    assert ApiKeyGrant(Login("a", "b"), granted).allows(wanted) is allowed


def test_unknown_scopes_are_named():
    """The CLI can tell which word is wrong."""
    assert unknown_scopes(["messages:send", "messages:*", "*", "mesages:send", "foo:*", "messages"]) == [
        "mesages:send",
        "foo:*",
        "messages",
    ]


def test_digest_is_sha256_of_the_text():
    """Other programs can compute what the registry holds."""
    import hashlib

    assert digest_of("sk_live_x") == hashlib.sha256(b"sk_live_x").digest()
