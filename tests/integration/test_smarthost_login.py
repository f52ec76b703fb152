"""Smarthost: verified TLS, AUTH, and whose fault a refusal is."""

from __future__ import annotations

import base64
import datetime

import pytest
import trustme
from smtp_peer import Peer
from smtp_setting import LOOPS, authority, letters, request, send, server_tls, smarthost_at

SECRET = base64.b64encode(b"\0user\0secret")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_login_over_verified_tls(tls: str, loop: str, tmp_path) -> None:
    """AUTH PLAIN inside TLS whose certificate and name were checked; the relay's 250 is Sent, not Delivered."""
    with Peer(tls=server_tls(), implicit=tls == "implicit", auth="PLAIN", password=SECRET) as peer:
        transport = smarthost_at(peer.port, folder=tmp_path, ca=authority(), username="user", tls=tls)
        reports = send(transport, request(), request(), loop=loop)

        assert [letters(report) for report in reports] == ["S", "S"]
    assert reports[0].tls.version == "TLSv1.3"
    assert peer.sessions[0].verbs.count(b"AUTH") == 1
    assert len(peer.sessions) == 1


def test_login_mechanism(tmp_path) -> None:
    """A relay without PLAIN gets AUTH LOGIN."""
    with Peer(tls=server_tls(), auth="LOGIN", password=base64.b64encode(b"secret")) as peer:
        transport = smarthost_at(peer.port, folder=tmp_path, ca=authority(), username="user")

        assert letters(send(transport)) == "S"


@pytest.mark.parametrize(("auth", "code"), [("PLAIN", 535), ("LOGIN", 535), ("CRAM-MD5", 451), ("", 451)])
def test_refused_credentials_are_the_routes_fault(auth: str, code: int, tmp_path) -> None:
    """A wrong password, or no mechanism of ours, keeps the mail and pauses the route."""
    with Peer(tls=server_tls(), auth=auth, password=b"another") as peer:
        transport = smarthost_at(peer.port, folder=tmp_path, ca=authority(), username="user")
        report = send(transport)

        assert letters(report) == "r"
    assert report.outcomes["ann@mx.example"].reply.code == code
    assert "secret" not in str(report)


def test_relay_that_wants_a_login_we_do_not_have(tmp_path) -> None:
    """530 to MAIL without credentials is a missing setting, not a refused message."""
    with Peer({"mail": b"530 5.7.0 Authentication required\r\n"}, tls=server_tls()) as peer:
        assert letters(send(smarthost_at(peer.port, folder=tmp_path, ca=authority()))) == "r"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("fault", ["name", "issuer", "expired"])
def test_certificate_that_proves_nothing(fault: str, tls: str, loop: str, tmp_path) -> None:
    """Wrong name, unknown issuer, expired: the mail waits and the password is never said."""
    with Peer(tls=_bad_certificate(fault), implicit=tls == "implicit", auth="PLAIN") as peer:
        transport = smarthost_at(peer.port, folder=tmp_path, ca=authority(), username="user", tls=tls)
        report = send(transport, loop=loop)

        assert letters(report) == "h"
    assert "certificate" in str(report.outcomes["ann@mx.example"].reply)
    assert not any(b"AUTH" in seen.verbs for seen in peer.sessions)


def test_verify_can_be_switched_off(tmp_path) -> None:
    """`verify = false` takes any certificate, but never clear text."""
    with Peer(tls=_bad_certificate("issuer"), auth="PLAIN") as peer, Peer(auth="PLAIN") as bare:
        options = {"folder": tmp_path, "username": "user", "verify": False}

        assert letters(send(smarthost_at(peer.port, **options))) == "S"
        assert letters(send(smarthost_at(bare.port, **options))) == "h"
    assert b"AUTH" not in bare.sessions[0].verbs


def test_login_in_clear_text_on_loopback(tmp_path) -> None:
    """`tls = "none"` may carry a password to this machine."""
    with Peer(auth="PLAIN", password=SECRET) as peer:
        assert letters(send(smarthost_at(peer.port, folder=tmp_path, username="user", tls="none"))) == "S"


def test_what_the_relay_cannot_represent_may_go_elsewhere(tmp_path) -> None:
    """A message beyond the relay's extensions fails with `elsewhere`, so that the next candidate may try."""
    with Peer(offer=(), tls=server_tls()) as peer:
        transport = smarthost_at(peer.port, folder=tmp_path, ca=authority())
        report = send(transport, request("jürgen@mx.example"))

        assert report.outcomes["jürgen@mx.example"].elsewhere


def _bad_certificate(fault: str):
    if fault == "name":
        return server_tls("elsewhere.example")
    if fault == "issuer":
        return server_tls(ca=trustme.CA())
    context = server_tls()
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    authority().issue_cert("localhost", not_before=past, not_after=past).configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("submitter", "said"),
    [
        ("e=mc2@client.example", b" AUTH=e+3Dmc2@client.example"),
        ("<>", b" AUTH=<>"),
        ("", b" AUTH=<>"),
        ("gr\u00fc\u00dfe@client.example", b" AUTH=<>"),
    ],
)
def test_who_submitted_is_told_to_a_relay_that_is_to_know(submitter: str, said: bytes, tmp_path) -> None:
    """RFC 4954 §5: by MAIL, where it offers AUTH. Any other that was logged in to hears `<>`, without a login none."""
    for wanted in (True, False):
        with Peer(tls=server_tls(), auth="PLAIN", password=SECRET) as peer:
            transport = smarthost_at(peer.port, folder=tmp_path, ca=authority(), username="user", submitter=wanted)
            assert letters(send(transport, request(submitter=submitter))) == "S"
        (mail,) = [line for line in peer.sessions[0].commands if line.startswith(b"MAIL")]
        assert (said if wanted else b" AUTH=<>") in mail
    for wanted in (True, False):
        with Peer(tls=server_tls()) as peer:
            assert letters(send(smarthost_at(peer.port, folder=tmp_path, ca=authority(), submitter=wanted))) == "S"
        assert not any(b"AUTH=" in line for line in peer.sessions[0].commands)
