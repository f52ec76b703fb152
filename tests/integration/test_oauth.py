"""Access tokens against a real server on loopback: fetched once, renewed early and after a 401, and never shown."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from test_http_transport import SMALL, Names, Seen, read_request, request_for, stub

from relay.mail.errors import SettingsError
from relay.mail.outcome import Deferred, Fault, Outcome, Sent
from relay.settings import ProviderSettings
from relay.transports.http import ProviderTransport
from relay.transports.providers import build_provider

SECRET = "client-secret-0123"
TO = "rcpt@example.net"


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return self.time


@dataclass
class Vendor:
    """Tokens are t-1, t-2 ...; `refused` are those the API takes no more. `token_answers` come first."""

    refused: set[str] = field(default_factory=set)
    token_answers: list[tuple[int, Any, str]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    forms: list[dict[str, list[str]]] = field(default_factory=list)
    basic: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    before: Callable[[], None] = lambda: None

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        while True:
            await read_request(reader, seen)
            line, headers, body = seen.requests[-1]
            status, answer, extra = self.answer(line, headers, body)
            data = json.dumps(answer).encode()
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n{extra}\r\n".encode() + data)
            await writer.drain()

    def answer(self, line: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, str]:
        if "/token" in line:
            self.forms.append(parse_qs(body.decode()))
            self.basic.append(headers.get("authorization", ""))
            self.before()
            if self.token_answers:
                return self.token_answers.pop(0)
            return 200, {"access_token": f"t-{len(self.forms)}", "expires_in": 3600, **self.more}, ""
        token = headers["authorization"].removeprefix("Bearer ")
        self.calls.append(token)
        if token in self.refused:
            return 401, {"error": {"message": f"{token} is no more"}}, ""
        return 200, {"id": f"m-{len(self.calls)}"}, ""


def config(folder: Path, port: int, oauth: dict[str, Any] | None = None, **more: Any) -> ProviderSettings:
    (folder / "secret").write_text(SECRET + "\n")
    table = {"client_id": "app & co", "token_url": f"http://127.0.0.1:{port}/token", "scope": "a b", **(oauth or {})}
    options = {
        "url": f"http://127.0.0.1:{port}/send",
        "body": "raw",
        "headers": {"Authorization": "Bearer {key}", "X-To": "{recipients.emails}"},
        "id": "/id",
    }
    values = {"kind": "http", "api_key_file": folder / "secret", "allow_private": True, "timeout": 5.0}
    return ProviderSettings.model_validate({**values, "oauth": table, "options": options, **more})


def transport_of(given: ProviderSettings, clock: Clock | None = None) -> ProviderTransport:
    return ProviderTransport("sp", given, build_provider("sp", given), clock or Clock(), Names())


def run(folder: Path, vendor: Vendor, scene: Any, clock: Clock | None = None, **oauth: Any) -> Any:
    async def whole() -> Any:
        async with stub(vendor.handle) as (port, _):
            transport = transport_of(config(folder, port, oauth), clock)
            try:
                return await scene(transport)
            finally:
                await transport.close()

    return asyncio.run(whole())


async def sent(transport: ProviderTransport) -> Outcome:
    return (await transport.deliver(request_for(TO), SMALL)).outcomes[TO]


def test_one_token_serves_all_that_wait_and_all_that_follow(tmp_path) -> None:
    vendor = Vendor()

    async def scene(transport: ProviderTransport) -> list[Outcome]:
        first = await asyncio.gather(*(sent(transport) for _ in range(20)))
        return [*first, await sent(transport)]

    assert all(isinstance(outcome, Sent) for outcome in run(tmp_path, vendor, scene))
    assert vendor.calls == ["t-1"] * 21
    assert vendor.forms == [
        {
            "grant_type": ["client_credentials"],
            "client_id": ["app & co"],
            "client_secret": [SECRET],
            "scope": ["a b"],
        }
    ]


def test_a_server_that_wants_the_secret_in_a_header_gets_it_there_alone(tmp_path) -> None:
    vendor = Vendor()
    run(tmp_path, vendor, sent, client_auth="basic")
    assert vendor.forms == [{"grant_type": ["client_credentials"], "scope": ["a b"]}]
    assert vendor.basic == ["Basic YXBwKyUyNitjbzpjbGllbnQtc2VjcmV0LTAxMjM="]


@pytest.mark.parametrize(
    ("life", "renewed"), [(3600, 3300), ("3600", 3300), (100, 80), (None, 3300), (-5, 3300), (10**400, 3300)]
)
def test_a_token_is_renewed_before_it_expires(tmp_path, life: Any, renewed: float) -> None:
    vendor, clock = Vendor(more={"expires_in": life}), Clock()

    async def scene(transport: ProviderTransport) -> None:
        for moment in (0.0, renewed - 1, renewed + 1):
            clock.time = 1000.0 + moment
            await sent(transport)

    run(tmp_path, vendor, scene, clock)
    assert vendor.calls == ["t-1", "t-1", "t-2"]


def test_a_token_that_cannot_be_renewed_early_is_used_until_it_expires(tmp_path) -> None:
    vendor, clock = Vendor(), Clock()

    async def scene(transport: ProviderTransport) -> list[Outcome]:
        outcomes = [await sent(transport)]
        vendor.token_answers = [(503, {}, "")] * 9
        for moment in (3301.0, 3599.0, 3601.0):
            clock.time = 1000.0 + moment
            outcomes.append(await sent(transport))
        return outcomes

    *good, late = run(tmp_path, vendor, scene, clock)
    assert all(isinstance(outcome, Sent) for outcome in good)
    assert vendor.calls == ["t-1"] * 3
    assert isinstance(late, Deferred)
    assert late.fault is Fault.HOST


def test_a_refused_token_is_renewed_once_and_the_call_made_again(tmp_path) -> None:
    vendor = Vendor(refused={"t-1"})

    async def scene(transport: ProviderTransport) -> list[Outcome]:
        return await asyncio.gather(*(sent(transport) for _ in range(10)))

    assert all(isinstance(outcome, Sent) for outcome in run(tmp_path, vendor, scene))
    assert len(vendor.forms) == 2, "whoever met the 401 later finds the new token"


def test_a_second_401_rests_the_route(tmp_path) -> None:
    vendor = Vendor(refused={"t-1", "t-2"})
    outcome = run(tmp_path, vendor, sent)
    assert vendor.calls == ["t-1", "t-2"]
    assert isinstance(outcome, Deferred)
    assert outcome.fault is Fault.ROUTE
    assert "[api key] is no more" not in outcome.reply.text, "too short a secret to be taken out"
    assert outcome.reply.text.startswith("HTTP API answered HTTP 401: ")


@pytest.mark.parametrize(
    ("status", "answer", "extra", "fault", "words"),
    [
        (400, {"error": "invalid_grant", "error_description": f"no {SECRET}"}, "", "route", "invalid_grant: no [api"),
        (401, {"error": "invalid_client"}, "", "route", "HTTP 401: invalid_client"),
        (200, {"access_token": "two words"}, "", "route", "no reason given"),
        (200, {"access_token": 7}, "", "route", "no reason given"),
        (200, [], "", "route", "no reason given"),
        (302, {}, "Location: http://127.0.0.1:1/\r\n", "route", "HTTP 302"),
        (429, {}, "Retry-After: 60\r\n", "host", "HTTP 429"),
        (500, "x", "", "host", "HTTP 500"),
    ],
)
def test_without_a_token_the_mail_waits_and_nobody_asks_again_at_once(
    tmp_path, caplog, status: int, answer: Any, extra: str, fault: str, words: str
) -> None:
    vendor = Vendor(token_answers=[(status, answer, extra)])

    async def scene(transport: ProviderTransport) -> list[Outcome]:
        return await asyncio.gather(*(sent(transport) for _ in range(5)))

    with caplog.at_level(logging.WARNING):
        outcomes = run(tmp_path, vendor, scene)
    assert {(type(one), one.fault, words in one.reply.text) for one in outcomes} == {(Deferred, Fault(fault), True)}
    assert {one.retry_after for one in outcomes} == {60.0 if extra.startswith("Retry") else None}
    assert len(vendor.forms) == 1
    assert vendor.calls == []
    assert SECRET not in str(outcomes) + caplog.text


def test_after_the_pause_it_asks_again(tmp_path) -> None:
    vendor, clock = Vendor(token_answers=[(500, {}, "")]), Clock()

    async def scene(transport: ProviderTransport) -> list[Outcome]:
        outcomes = [await sent(transport)]
        clock.time += 11.0
        return [*outcomes, await sent(transport)]

    assert [type(outcome) for outcome in run(tmp_path, vendor, scene, clock)] == [Deferred, Sent]


def test_a_server_that_is_not_there_is_the_hosts_fault(tmp_path) -> None:
    async def scene() -> Outcome:
        transport = transport_of(config(tmp_path, 1))
        try:
            return await sent(transport)
        finally:
            await transport.close()

    outcome = asyncio.run(scene())
    assert isinstance(outcome, Deferred)
    assert str(outcome.reply) == "451 4.4.1 No token from 127.0.0.1: no connection"


def test_the_guard_holds_for_the_tokens_address_too(tmp_path) -> None:
    names = Names({"login.example": ("192.168.0.1",)})
    options = {"url": "https://api.example/", "body": "raw", "headers": {"A": "{key}", "T": "{recipients.emails}"}}
    given = config(tmp_path, 1, {"token_url": "https://login.example/t"}, allow_private=False, options=options)

    async def scene() -> Outcome:
        transport = ProviderTransport("sp", given, build_provider("sp", given), Clock(), names)
        try:
            return await sent(transport)
        finally:
            await transport.close()

    outcome = asyncio.run(scene())
    assert isinstance(outcome, Deferred)
    assert outcome.fault is Fault.ROUTE
    assert "login.example leads to an address that is not public" in outcome.reply.text


# --- signed assertions ---------------------------------------------------------------------------------------


def service_account(folder: Path, key: Any) -> Path:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    path = folder / "account.json"
    path.write_text(json.dumps({"type": "service_account", "private_key": pem, "private_key_id": "k-1"}))
    return path


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(rsa.generate_private_key(65537, 2048), "RS256"), (ec.generate_private_key(ec.SECP256R1()), "ES256")],
)
def test_a_signed_assertion_says_who_asks_and_for_whom(tmp_path, key: Any, algorithm: str) -> None:
    vendor, path = Vendor(), service_account(tmp_path, key)
    ports: list[int] = []

    async def scene() -> Outcome:
        async with stub(vendor.handle) as (port, _):
            ports.append(port)
            oauth = {"grant": "jwt_bearer", "subject": "ann@example.org", "client_id": "relay@project.example"}
            transport = transport_of(config(tmp_path, port, oauth, api_key_file=path))
            try:
                return await sent(transport)
            finally:
                await transport.close()

    assert isinstance(asyncio.run(scene()), Sent)
    [form] = vendor.forms
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assert form.keys() == {"grant_type", "assertion"}
    [assertion] = form["assertion"]
    url = f"http://127.0.0.1:{ports[0]}/token"
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(assertion, key.public_key(), [algorithm], audience=url, options=options)
    assert claims == {
        "iss": "relay@project.example",
        "sub": "ann@example.org",
        "aud": url,
        "scope": "a b",
        "iat": 1_800_000_000,
        "exp": 1_800_003_600,
    }
    assert jwt.get_unverified_header(assertion)["kid"] == "k-1"


def pem_of(key: Any, password: bytes = b"") -> bytes:
    how = BestAvailableEncryption(password) if password else NoEncryption()
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no private key"),
        (b"{", "is no key of a service account"),
        (b'{"private_key": 7}', "holds no private key"),
        (b'{"type": "service_account"}', "is no key of a service account"),
        (pem_of(ec.generate_private_key(ec.SECP256R1()), b"x"), "without a passphrase"),
        (pem_of(ec.generate_private_key(ec.SECP384R1())), "holds no key that servers take"),
        (pem_of(rsa.generate_private_key(65537, 1024)), "holds no key that servers take"),
        (None, "cannot read"),
    ],
)
def test_a_key_that_cannot_sign_is_named_with_its_file(tmp_path, content: bytes | None, words: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    oauth = {"grant": "jwt_bearer", "subject": "ann@example.org"}
    with pytest.raises(SettingsError, match=words) as found:
        transport_of(config(tmp_path, 1, oauth, api_key_file=path))
    assert str(found.value).startswith("provider.sp.api_key_file: ")
    assert "PRIVATE" not in str(found.value)


# --- refresh tokens ------------------------------------------------------------------------------------------


def refreshing(folder: Path) -> dict[str, Any]:
    (folder / "refresh").write_text("r-0123456789\n")
    return {"grant": "refresh_token", "refresh_token_file": folder / "refresh"}


def test_a_new_refresh_token_takes_the_place_of_the_old_one_in_memory_and_file(tmp_path) -> None:
    oauth, vendor, clock = refreshing(tmp_path), Vendor(more={"refresh_token": "r-new-0123456789"}), Clock()

    async def scene(transport: ProviderTransport) -> None:
        await sent(transport)
        clock.time += 3400.0
        await sent(transport)

    run(tmp_path, vendor, scene, clock, **oauth)
    assert [form["refresh_token"] for form in vendor.forms] == [["r-0123456789"], ["r-new-0123456789"]]
    assert (tmp_path / "refresh").read_text() == "r-new-0123456789\n"
    assert (tmp_path / "refresh").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["refresh", "secret"]


def test_a_file_that_cannot_be_rewritten_is_warned_of_and_the_new_token_used(tmp_path, caplog) -> None:
    oauth, vendor, clock = refreshing(tmp_path), Vendor(more={"refresh_token": "r-new-0123456789"}), Clock()
    blocked = tmp_path / f"refresh.{os.getpid()}.new"
    blocked.mkdir()
    (blocked / "x").touch()

    async def scene(transport: ProviderTransport) -> None:
        await sent(transport)
        clock.time += 3400.0
        await sent(transport)

    run(tmp_path, vendor, scene, clock, **oauth)
    assert vendor.forms[1]["refresh_token"] == ["r-new-0123456789"]
    assert "cannot keep the new refresh token" in caplog.text
    assert "r-new" not in caplog.text


def test_what_another_worker_was_given_meanwhile_is_read_again(tmp_path) -> None:
    oauth, vendor = refreshing(tmp_path), Vendor(token_answers=[(400, {"error": "invalid_grant"}, "")])
    vendor.before = lambda: (tmp_path / "refresh").write_text("r-of-the-other\n") and None
    assert isinstance(run(tmp_path, vendor, sent, **oauth), Sent)
    assert [form["refresh_token"] for form in vendor.forms] == [["r-0123456789"], ["r-of-the-other"]]


def test_a_file_that_went_away_rests_the_route(tmp_path, caplog) -> None:
    oauth, vendor = refreshing(tmp_path), Vendor()

    async def scene(transport: ProviderTransport) -> Outcome:
        (tmp_path / "refresh").unlink()
        return await sent(transport)

    outcome = run(tmp_path, vendor, scene, **oauth)
    assert isinstance(outcome, Deferred)
    assert outcome.fault is Fault.ROUTE
    assert str(tmp_path) not in outcome.reply.text
    assert "provider.sp.oauth.refresh_token_file: cannot read" in caplog.text


@pytest.mark.parametrize(
    ("oauth", "words"),
    [
        ({"token_url": "http://login.example/t"}, r"provider\.sp\.oauth\.token_url: the API key would travel in clear"),
        ({"token_url": ""}, r"provider\.sp\.oauth\.token_url: missing"),
        ({"token_url": "https://127.0.0.1/t"}, r"provider\.sp\.oauth\.token_url: 127\.0\.0\.1 is no public address"),
        (
            {"token_url": "https://login.example", "grant": "refresh_token", "refresh_token_file": "/nowhere/r"},
            r"oauth\.refresh_token_file: cannot read",
        ),
    ],
)
def test_mistakes_are_told_at_the_start(tmp_path, oauth: dict[str, Any], words: str) -> None:
    options = {"url": "https://api.example/", "body": "raw", "headers": {"A": "{key}", "T": "{recipients.emails}"}}
    with pytest.raises(SettingsError, match=words):
        transport_of(config(tmp_path, 1, oauth, allow_private=False, options=options))


@pytest.mark.parametrize(
    ("kind", "options", "oauth", "words"),
    [
        (
            "graph",
            {"tenant": "example.org"},
            None,
            r"provider\.sp\.oauth: Microsoft Graph takes OAuth tokens only; add",
        ),
        (
            "gmail",
            {"senders": ["a@b.example"]},
            {"client_id": "x"},
            r"sp\.oauth\.grant: Gmail gives nothing for client_",
        ),
        ("sendpost", {}, {"client_id": "x"}, r"provider\.sp\.oauth\.token_url: missing"),
        ("graph", {"tenant": "example.org"}, {"client_id": "x"}, ""),
    ],
)
def test_a_provider_says_whether_it_takes_tokens_and_how_they_are_had(tmp_path, kind, options, oauth, words) -> None:
    (tmp_path / "secret").write_text(SECRET)
    values = {"kind": kind, "api_key_file": tmp_path / "secret", "options": options, "oauth": oauth}
    given = ProviderSettings.model_validate(values)
    if words:
        with pytest.raises(SettingsError, match=words):
            transport_of(given)
    else:
        transport_of(given)


@pytest.mark.parametrize(
    "oauth",
    [
        {"grant": "refresh_token"},
        {"refresh_token_file": "x"},
        {"client_id": "ü"},
        {"grant": "jwt_bearer"},
        {"subject": "x"},
    ],
)
def test_a_table_that_makes_no_sense_is_no_configuration(tmp_path, oauth: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"go together|printable ASCII"):
        config(tmp_path, 1, oauth)
