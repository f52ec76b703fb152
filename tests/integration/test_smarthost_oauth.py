"""Smarthosts by access token: a real token server and a real SMTP peer on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from pathlib import Path
from typing import Any

import pytest
from smtp_peer import Peer
from smtp_setting import delivery, letters, request
from test_http_transport import Names, stub
from test_oauth import Clock, Vendor

from relay.mail.errors import SettingsError
from relay.ports import DeliveryReport
from relay.settings import SmarthostSettings
from relay.transports.oauth import smarthost_tokens
from relay.transports.smarthost import SmarthostTransport

SECRET = "client-secret-0123"
CHALLENGE = b"334 eyJzdGF0dXMiOiI0MDEifQ==\r\n"


def b64(text: str) -> bytes:
    return base64.b64encode(text.encode())


def transport_to(folder: Path, port: int, token_port: int, **oauth: Any) -> SmarthostTransport:
    (folder / "secret").write_text(SECRET + "\n")
    (folder / "secret").chmod(0o600)
    table = {"client_id": "app", "token_url": f"http://127.0.0.1:{token_port}/token", "allow_private": True, **oauth}
    given = SmarthostSettings.model_validate(
        {"host": "localhost", "port": port, "tls": "none", "username": "a,b=c@example.org",
         "password_file": folder / "secret", "oauth": table}
    )  # fmt: skip
    tokens = smarthost_tokens("out", given, Clock(), Names())
    return SmarthostTransport("out", given, delivery(), "client.example", tokens)


def send(folder: Path, vendor: Vendor, peer: Peer, times: int = 1, **oauth: Any) -> list[DeliveryReport]:
    async def scene() -> list[DeliveryReport]:
        async with stub(vendor.handle) as (port, _):
            transport = transport_to(folder, peer.port, port, **oauth)
            try:
                return [await transport.deliver(request(), b"Subject: x\r\n\r\nhi\r\n") for _ in range(times)]
            finally:
                await transport.close()

    return asyncio.run(scene())


def logins(peer: Peer) -> list[bytes]:
    return [line for seen in peer.sessions for line in seen.commands if line.startswith(b"AUTH")]


def test_xoauth2_where_only_that_is_offered(tmp_path) -> None:
    vendor = Vendor()
    with Peer(auth="LOGIN XOAUTH2") as peer:
        reports = send(tmp_path, vendor, peer, times=2)
    assert [letters(report) for report in reports] == ["S", "S"]
    assert logins(peer) == [b"AUTH XOAUTH2 " + b64("user=a,b=c@example.org\x01auth=Bearer t-1\x01\x01")]
    assert vendor.forms == [{"grant_type": ["client_credentials"], "client_id": ["app"], "client_secret": [SECRET]}]


def test_oauthbearer_is_preferred_and_names_are_escaped(tmp_path) -> None:
    with Peer(auth="XOAUTH2 OAUTHBEARER") as peer:
        [report] = send(tmp_path, Vendor(), peer)
    assert letters(report) == "S"
    words = f"n,a=a=2Cb=3Dc@example.org,\x01host=localhost\x01port={peer.port}\x01auth=Bearer t-1\x01\x01"
    assert logins(peer) == [b"AUTH OAUTHBEARER " + b64(words)]


def test_a_refused_token_is_renewed_once_on_the_same_connection(tmp_path) -> None:
    vendor = Vendor()
    wanted = b64("user=a,b=c@example.org\x01auth=Bearer t-2\x01\x01")
    with Peer(auth="XOAUTH2", password=wanted) as peer:
        [report] = send(tmp_path, vendor, peer)
    assert letters(report) == "S"
    assert len(peer.sessions) == 1
    assert len(logins(peer)) == 2
    assert len(vendor.forms) == 2


def test_two_refusals_rest_the_route(tmp_path) -> None:
    vendor = Vendor()
    with Peer(auth="XOAUTH2", password=b"never") as peer:
        [report] = send(tmp_path, vendor, peer)
    assert letters(report) == "r"
    assert len(logins(peer)) == len(vendor.forms) == 2
    assert "t-1" not in str(report)


@pytest.mark.parametrize(("mechanism", "dismissal"), [("XOAUTH2", b""), ("OAUTHBEARER", b"AQ==")])
def test_a_challenge_is_answered_so_that_the_refusal_comes(mechanism: str, dismissal: bytes, tmp_path) -> None:
    with Peer({"auth": CHALLENGE}, auth=mechanism) as peer:
        [report] = send(tmp_path, Vendor(), peer)
    assert letters(report) == "r"
    commands = peer.sessions[0].commands
    first = next(place for place, line in enumerate(commands) if line.startswith(b"AUTH"))
    assert commands[first + 1] == dismissal


def test_a_server_that_takes_no_tokens_rests_the_route(tmp_path) -> None:
    with Peer(auth="PLAIN LOGIN") as peer:
        [report] = send(tmp_path, Vendor(), peer)
    assert letters(report) == "r"
    assert logins(peer) == [], "the client's secret is no password"


@pytest.mark.parametrize(("status", "letter"), [(400, "r"), (503, "h")])
def test_without_a_token_the_mail_waits(tmp_path, status: int, letter: str) -> None:
    vendor = Vendor(token_answers=[(status, {"error": "x"}, "")] * 3)
    with Peer(auth="XOAUTH2") as peer:
        [report] = send(tmp_path, vendor, peer)
    assert letters(report) == letter
    assert logins(peer) == []
    assert "No token from 127.0.0.1" in str(report)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"username": ""}, r"smarthost\.out\.oauth: set username to the mailbox, and password_file"),
        ({"password_file": None}, r"smarthost\.out\.oauth: set username to the mailbox, and password_file"),
        ({"preset": "office365"}, r"smarthost\.out\.oauth\.token_url: missing; .*login\.microsoftonline\.com/TENANT"),
        ({"preset": "gmail"}, ""),
    ],
)
def test_what_a_token_needs_is_told_at_the_start(tmp_path, values: dict[str, Any], words: str) -> None:
    (tmp_path / "secret").write_text(SECRET)
    base = {"host": "h.example", "username": "u", "password_file": tmp_path / "secret", "oauth": {"client_id": "x"}}
    given = SmarthostSettings.model_validate({**base, **values})
    with pytest.raises(SettingsError, match=words) if words else contextlib.nullcontext():
        assert smarthost_tokens("out", given, Clock(), Names())


@pytest.mark.parametrize(
    ("grant", "scope"),
    [
        ("client_credentials", "https://outlook.office365.com/.default"),
        ("refresh_token", "https://outlook.office365.com/SMTP.Send offline_access"),
    ],
)
def test_a_preset_knows_what_its_tokens_have_to_allow(tmp_path, grant: str, scope: str) -> None:
    vendor = Vendor()
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "refresh").write_text("r-0123456789")
    more = {"refresh_token_file": tmp_path / "refresh"} if grant == "refresh_token" else {}

    async def scene() -> None:
        async with stub(vendor.handle) as (port, _):
            table = {"client_id": "x", "grant": grant, "token_url": f"http://127.0.0.1:{port}/token"}
            oauth = {**table, "allow_private": True, **more}
            given = SmarthostSettings.model_validate(
                {"preset": "office365", "username": "u", "password_file": tmp_path / "secret", "oauth": oauth}
            )
            tokens = smarthost_tokens("out", given, Clock(), Names())
            assert tokens is not None
            assert await tokens.token() == "t-1"
            await tokens.close()

    asyncio.run(scene())
    assert vendor.forms[0]["scope"] == [scope]
