"""SNI: which certificate a client gets."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
from tls_kit import Setting, client_context, handshake

from relay.smtpd.end_point import ServerContext, end_point_of


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    setting = Setting(tmp_path)
    setting.write("main", "mail.example.com")
    setting.write("shop", "smtp.shop.example", "*.shop.example")
    setting.write("exact", "one.shop.example")
    setting.more = ["shop", "exact"]
    setting.start()
    return setting


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("mail.example.com", "mail.example.com"),
        ("smtp.shop.example", "smtp.shop.example"),
        ("SMTP.Shop.Example", "smtp.shop.example"),
        ("other.shop.example", "smtp.shop.example"),
        ("one.shop.example", "one.shop.example"),
        ("a.b.shop.example", "mail.example.com"),
        ("shop.example", "mail.example.com"),
        ("unknown.example", "mail.example.com"),
        ("localhost", "mail.example.com"),
        (None, "mail.example.com"),
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_name_that_is_asked_for_chooses_the_certificate(
    setting: Setting, asked: str | None, first: str, version: ssl.TLSVersion
) -> None:
    """Exact before wildcard, one label for a wildcard, and the main pair for everybody else."""
    context = client_context()
    context.minimum_version = context.maximum_version = version
    client, _ = handshake(setting.certificates.context, context, asked)
    certificate = client.getpeercert()
    assert certificate is not None
    names = certificate["subjectAltName"]
    assert isinstance(names, tuple)
    assert names[0] == ("DNS", first)


def test_a_name_with_its_final_dot_is_the_same_name(setting: Setting) -> None:
    names = setting.certificates._names
    assert names is not None
    assert names.find("smtp.shop.example.") is names.find("smtp.shop.example") is not names.find(None)


@pytest.mark.parametrize(("cipher", "kind"), [("ECDHE-RSA", "RSA"), ("ECDHE-ECDSA", "ECDSA")])
def test_each_client_gets_the_kind_of_key_it_can_check(tmp_path: Path, cipher: str, kind: str) -> None:
    """Two pairs for the same names: an old client that knows RSA only is not left out."""
    setting = Setting(tmp_path)
    setting.write("main", "mail.example.com")
    setting.write("rsa", "mail.example.com", rsa=True)
    setting.more = ["rsa"]
    setting.start()
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{cipher}-AES128-GCM-SHA256")
    client, _ = handshake(setting.certificates.context, context, "mail.example.com")
    assert client.cipher() == (f"ECDHE-{kind}-AES128-GCM-SHA256", "TLSv1.2", 128)


def test_old_devices_that_know_rsa_alone_get_it(tmp_path: Path) -> None:
    """They are the ones who need it; and the context follows a renewal."""
    setting = Setting(tmp_path)
    setting.write("main", "mail.example.com")
    setting.write("rsa", "mail.example.com", rsa=True)
    setting.more = ["rsa"]
    setting.start()
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    before = setting.certificates.for_old_tls
    assert handshake(before, context)[0].cipher() == ("AES128-SHA", "SSLv3", 128)
    assert setting.certificates.for_old_tls is before
    setting.write("rsa", "mail.example.com", rsa=True, days=120)
    setting.certificates.look()
    assert setting.certificates.for_old_tls is not before


def end_point(setting: Setting, name: str) -> bytes:
    """What a login may be bound to, of who asks for `name`."""
    _, server = handshake(setting.certificates.context, client_context(), name)
    assert isinstance(server.context, ServerContext)
    return server.context.end_point


def test_a_login_is_bound_to_the_certificate_its_client_got(setting: Setting) -> None:
    assert (
        len({end_point(setting, name) for name in ("mail.example.com", "smtp.shop.example", "one.shop.example")}) == 3
    )
    assert end_point(setting, "one.shop.example") == end_point_of((setting.folder / "exact.pem").read_bytes())


def test_no_login_is_bound_where_it_is_not_known_which_of_two_a_client_got(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.write("main", "mail.example.com")
    setting.write("rsa", "mail.example.com", rsa=True)
    setting.more = ["rsa"]
    setting.start()
    assert end_point(setting, "mail.example.com") == b""


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda facts: told.append(facts.exc_value))
    return told


def test_a_name_that_is_no_text_ends_that_handshake_alone(setting: Setting, unraisable: list[Any]) -> None:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context().wrap_bio(to_client, to_server, server_hostname="smtp.shop.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    server = setting.certificates.context.wrap_bio(incoming := ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    incoming.write(to_server.read().replace(b"smtp.shop", b"smt\xff.\xfeshop"[:9]))
    with pytest.raises(ssl.SSLError):
        server.do_handshake()
    assert [type(error) for error in unraisable] == [UnicodeDecodeError]
    assert setting.names_for("one.shop.example") == ["one.shop.example"]
