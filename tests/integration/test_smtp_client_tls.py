"""STARTTLS as a client: injection, stripping, broken handshakes, and what is known before and after."""

from __future__ import annotations

import ssl

import pytest
from smtp_peer import Peer
from smtp_setting import CONTENT, LOOPS, TIMEOUTS, letters, mx_to, request, send, server_tls


@pytest.mark.parametrize("loop", LOOPS)
def test_opportunistic_tls_takes_any_certificate(loop: str) -> None:
    """Mail to an MX with a certificate of another name is encrypted all the same, and the report says how."""
    with Peer(tls=server_tls("elsewhere.example")) as peer:
        report = send(mx_to(peer.port), request(), request(), loop=loop)[1]

        assert letters(report) == "D"
    assert report.tls.version == "TLSv1.3"
    assert report.tls.bits >= 128
    assert len(peer.sessions) == 1
    assert peer.sessions[0].tls
    assert peer.sessions[0].verbs[:4] == [b"EHLO", b"STARTTLS", b"EHLO", b"MAIL"]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "injected",
    [b"250-mx.example\r\n250 AUTH PLAIN\r\n", b"250 Ok\r\n", b"2", b"421 Bye\r\n"],
    ids=["ehlo", "ok", "part", "421"],
)
def test_octets_after_the_220_are_an_attack(injected: bytes, loop: str) -> None:
    """Clear text glued to the 220 (CVE-2011-0411 seen from the client) ends the connection; nothing goes out."""
    with Peer({"starttls": b"220 Go\r\n" + injected}, tls=server_tls()) as peer:
        report = send(mx_to(peer.port), loop=loop)

        assert letters(report) == "h"
    assert len(peer.sessions) == 1
    assert b"MAIL" not in peer.sessions[0].verbs


def test_what_was_offered_in_clear_text_is_forgotten() -> None:
    """Extensions offered before TLS only are not used after it."""
    with Peer({"ehlo2": b"250 mx.example\r\n"}, tls=server_tls()) as peer:
        assert letters(send(mx_to(peer.port))) == "D"

    assert b"MAIL FROM:<me@client.example>" in peer.sessions[0].commands


@pytest.mark.parametrize("loop", LOOPS)
def test_handshake_that_fails_costs_only_the_encryption(loop: str) -> None:
    """Opportunistic: a peer that speaks no common TLS gets the mail in clear, over a fresh connection (RFC 7435)."""
    with Peer(tls=_incompatible()) as peer:
        report = send(mx_to(peer.port), loop=loop)

        assert letters(report) == "D"
    assert report.tls is None
    assert [seen.verbs[-1] for seen in peer.sessions] == [b"STARTTLS", b"QUIT"]
    assert peer.sessions[1].verbs[:2] == [b"EHLO", b"MAIL"]


@pytest.mark.parametrize("loop", LOOPS)
def test_plain_text_after_the_220(loop: str) -> None:
    """A peer that says 220 and then no TLS is the same case: the handshake fails by time-out."""
    with Peer({"starttls": b"220 Go\r\n"}, tls=server_tls()) as peer:
        timeouts = TIMEOUTS.model_copy(update={"connect": 1.0})
        assert letters(send(mx_to(peer.port, timeouts=timeouts), loop=loop)) == "D"

    assert peer.messages == [CONTENT]


@pytest.mark.parametrize("faults", [{}, {"starttls": b"454 4.7.0 Not now\r\n"}], ids=["stripped", "454"])
def test_required_tls_is_not_downgraded(faults: dict) -> None:
    """`starttls = "require"`: no offer and a refusal both defer; nothing goes out in clear."""
    with Peer(faults, tls=server_tls() if faults else None) as peer:
        report = send(mx_to(peer.port, starttls="require"))

        assert letters(report) == "h"
    assert b"MAIL" not in peer.sessions[0].verbs


def test_required_tls_with_a_broken_handshake_defers() -> None:
    """`starttls = "require"` and no common TLS: one connection, no second in clear."""
    with Peer(tls=_incompatible()) as peer:
        report = send(mx_to(peer.port, starttls="require"))

        assert letters(report) == "h"
    assert "TLS handshake failed" in str(report.outcomes["ann@mx.example"].reply)
    assert len(peer.sessions) == 1


def test_refused_starttls_goes_on_in_clear_on_the_same_connection() -> None:
    """454 to STARTTLS is no broken connection: opportunistic mail goes on over it (RFC 3207 §4)."""
    with Peer({"starttls": b"454 4.7.0 Not now\r\n"}, tls=server_tls()) as peer:
        assert letters(send(mx_to(peer.port))) == "D"

    assert len(peer.sessions) == 1


def _incompatible() -> ssl.SSLContext:
    """TLS 1.2 with a cipher the client does not have: every handshake fails with an alert."""
    context = server_tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0")
    return context
