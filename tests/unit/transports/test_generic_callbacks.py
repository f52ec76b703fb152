"""Kind http: how a callback its operator described is proved, and which line he is told where that makes no sense."""

from __future__ import annotations

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.errors import SettingsError
from relay.settings import ProviderSettings, Settings
from relay.transports.build import build_doors
from relay.transports.providers import build_provider
from relay.transports.providers.base import Callback, CallbackError, Provider
from relay.transports.providers.callbacks import seconds
from relay.transports.providers.generic import Http

NOW = 1_795_600_000.0
STAMP = str(int(NOW))
BODY = b'{"event":"delivered","id":"m-1"}'
PLAIN: dict[str, Any] = {"event": ["/event"], "words": {"delivered": "delivered"}, "id": "/id"}
LOGIN = {**PLAIN, "basic": True}
SECRET = "user:password-0123"


def built(**callback: Any) -> Provider:
    options = {**Http.example, "callback": {**PLAIN, **callback}}
    return build_provider("any", ProviderSettings(kind="http", api_key_file=Path("unused"), options=options))


def signature(body: bytes, algorithm: str = "sha256", encoding: str = "hex") -> str:
    digest = hmac.digest(SECRET.encode(), body, algorithm)
    return digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()


def believed(adapter: Provider, headers: dict[str, str], body: bytes = BODY, now: float = NOW) -> bool:
    try:
        [event] = adapter.events(Callback(headers, body, SECRET, now))
    except CallbackError as error:
        return not error.forged
    return event.remote_id == "m-1"


STAMPED = f"{STAMP}.".encode() + BODY
SIGNED = [
    ({"header": "X-Sig"}, {"x-sig": signature(BODY)}),
    ({"header": "X-Sig"}, {"x-sig": signature(BODY).upper()}),
    ({"header": "X-Sig", "algorithm": "sha1", "prefix": "sha1="}, {"x-sig": "sha1=" + signature(BODY, "sha1")}),
    ({"header": "X-Sig", "encoding": "base64"}, {"x-sig": f"old, {signature(BODY, encoding='base64')}"}),
    (
        {"header": "X-Sig", "timestamp_header": "X-Time", "signed": "{timestamp}.{body}"},
        {"x-sig": signature(STAMPED), "x-time": STAMP},
    ),
    (
        {"header": "X-Sig", "timestamp_header": "X-Sig", "timestamp_prefix": "t=", "prefix": "v1=",
         "signed": "{timestamp}.{body}"},
        {"x-sig": f"t={STAMP},v0=aa,v1=bb,v1={signature(STAMPED)}"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("how", "headers"), SIGNED)
def test_a_signature_that_fits_is_believed_and_no_other(how: dict[str, Any], headers: dict[str, str]) -> None:
    """Neither other octets, nor none, nor another key, nor a field that is empty or full of other things."""
    adapter = built(signature=how)

    assert believed(adapter, headers)
    assert not believed(adapter, headers, BODY + b" ")
    assert not believed(adapter, {})
    assert not believed(adapter, dict.fromkeys(headers, ""))
    assert not believed(adapter, {name: "a," * 1000 + value for name, value in headers.items()})
    with pytest.raises(CallbackError, match="signature is wrong"):
        adapter.events(Callback(headers, BODY, "another:secret", NOW))


@pytest.mark.parametrize("age", [-3600, 3600])
def test_a_signature_with_a_time_is_none_an_hour_later(age: int) -> None:
    how, headers = SIGNED[-1]

    assert not believed(built(signature=how), headers, now=NOW + age)


def test_a_time_that_was_changed_makes_the_signature_wrong() -> None:
    how, headers = SIGNED[-2]

    assert not believed(built(signature=how), {**headers, "x-time": str(int(NOW) + 1)})


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("Basic " + base64.b64encode(SECRET.encode()).decode(), True),
        ("basic " + base64.b64encode(SECRET.encode()).decode(), True),
        ("Basic " + base64.b64encode(b"user:other").decode(), False),
        ("Basic " + SECRET, False),
        ("Bearer " + base64.b64encode(SECRET.encode()).decode(), False),
        ("", False),
    ],
)
def test_a_login_is_believed_where_it_is_the_one_in_the_file(value: str, good: bool) -> None:
    assert believed(built(basic=True), {"authorization": value}) == good


def test_the_same_event_has_the_same_key_and_another_has_another() -> None:
    """By its id; without one by what it says, and by its time where it has one."""
    named = built(key="/n", words={"a": "opened", "b": "clicked"}, event=["/e"])
    unnamed = built(time="/t", recipient="/r")

    def keys(adapter: Provider, *bodies: str) -> list[str]:
        return [event.key for body in bodies for event in adapter.events(Callback({}, body.encode()))]

    first, again, other, word = keys(named, '{"e":"a","n":1}', '{"n":1,"e":"a","x":2}', '{"e":"a","n":2}',
                                     '{"e":"b","n":1}')  # fmt: skip
    assert first == again
    assert len({first, other, word}) == 3
    base = '{"event":"delivered","id":"m","t":1,"r":"a@example.net"}'
    changed = [base.replace('"t":1', '"t":2'), base.replace("a@", "b@"), base.replace('"m"', '"n"')]
    first, again, *others = keys(unnamed, base, base, *changed)
    assert first == again
    assert len({first, *others}) == 4


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["events", "event", "id", "r", "t", "x"]), inner, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_any_json_is_events_or_an_error(body: Any) -> None:
    """Whatever a peer posts."""
    adapter = built(events="/events/*", recipient="1/r", time="/t", text=["9/x"], key="2/x")
    try:
        events = adapter.events(Callback({}, json.dumps(body).encode()))
    except CallbackError:
        return
    for event in events:
        assert event.said.isprintable()
        assert event.key


def test_too_many_events_are_refused_before_they_are_looked_at() -> None:
    adapter = built(events="/*/*")
    body = ("[" + ",".join(["[" + ",".join(["{}"] * 200) + "]"] * 200) + "]").encode()

    with pytest.raises(CallbackError, match="too many"):
        adapter.events(Callback({}, body))


def test_times_without_a_zone_are_utc() -> None:
    """Whatever zone the machine is in."""
    assert seconds("2026-11-25T10:00:00") == seconds("2026-11-25T10:00:00Z") == 1_795_600_800.0


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        ({"event": ["/e"], "words": {"a": "delivered"}}, r"options\.callback\.id: is missing; set it"),
        ({**PLAIN, "event": "/e"}, r"options\.callback\.event: write a list in brackets"),
        ({**PLAIN, "event": []}, r"options\.callback\.event: is empty; write one"),
        ({**PLAIN, "event": ["event"]}, r"options\.callback\.event: a place begins with / .*did you mean /event"),
        ({**PLAIN, "id": "~/x"}, r"options\.callback\.id: a place begins"),
        ({**PLAIN, "id": "/~x"}, r"options\.callback\.id: a ~ in a place is written ~0"),
        ({**PLAIN, "events": "list"}, r"options\.callback\.events: a JSON pointer begins with /"),
        ({**PLAIN, "words": {"a": "gone"}}, r"options\.callback\.words\.a: write 'delivered', 'bounced'"),
        ({**PLAIN, "words": {}}, r"options\.callback\.words: is empty; write one"),
        ({**PLAIN, "signatur": {}}, r"options\.callback\.signatur: unknown setting; did you mean 'signature'"),
        ({**PLAIN, "signature": {"header": "a b"}}, r"callback\.signature\.header: write the name of a header field"),
        (
            {**PLAIN, "signature": {"header": "S", "algorithm": "md5"}},
            r"signature\.algorithm: write 'sha256'",
        ),
        ({**PLAIN, "signature": {"header": "S", "signed": "x"}}, r"signature: signed: the body has to be signed"),
        ({**PLAIN, "signature": {"header": "S", "signed": "{timestamp}{body}"}}, r"signature: timestamp_header and "),
        ({**PLAIN, "signature": {"header": "S", "signed": "{url}{body}"}}, r"signature: signed: ASCII with"),
        ({**LOGIN, "signature": {"header": "S"}}, r"callback: basic and signature need two secrets"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_place(callback: dict[str, Any], words: str) -> None:
    """At the start, and by check-config."""
    options = {**Http.example, "callback": callback}
    with pytest.raises(SettingsError, match=words):
        build_provider("any", ProviderSettings(kind="http", api_key_file=Path("unused"), options=options))


def test_callbacks_that_nothing_would_join_to_a_message_are_refused() -> None:
    options = {**Http.example, "id": "", "callback": PLAIN}
    with pytest.raises(SettingsError, match=r"options\.callback: nothing joins it to a message; say with id"):
        build_provider("any", ProviderSettings(kind="http", api_key_file=Path("unused"), options=options))


@pytest.mark.parametrize(
    ("callback", "token", "secret", "words"),
    [
        (PLAIN, False, "", r"provider\.house\.options\.callback: it has no address to call; set hook_token_file"),
        (None, True, "", r"provider\.house\.hook_token_file: .* calls nobody back; describe its calls in options"),
        (PLAIN, True, SECRET, r"provider\.house\.hook_secret_file: options\.callback says nothing of a proof"),
        (LOGIN, True, "", r"hook_secret_file: missing; options\.callback\.basic cannot be checked"),
        (LOGIN, True, "password", r"hook_secret_file: options\.callback\.basic needs USER:PASSWORD"),
        ({**PLAIN, "signature": {"header": "S"}}, True, "", r"hook_secret_file: missing; options\.callback\.signature"),
        (PLAIN, True, "", ""),
        (LOGIN, True, SECRET, ""),
    ],
)
def test_the_address_and_the_secret_belong_to_the_description(
    tmp_path: Path, callback: dict[str, Any] | None, token: bool, secret: str, words: str
) -> None:
    """What is missing or too much is told with the setting."""
    house: dict[str, Any] = {"kind": "http", "api_key_file": "x", "options": {**Http.example, "callback": callback}}
    for name, text in (("hook_token_file", "0123456789abcdef" if token else ""), ("hook_secret_file", secret)):
        if text:
            house[name] = str(tmp_path / name)
            (tmp_path / name).write_text(text)
    settings = Settings.model_validate({"provider": {"house": house}})

    if not words:
        assert set(build_doors(settings)) == {"house"}
        return
    with pytest.raises(SettingsError, match=words):
        build_doors(settings)
