"""A message with binary parts: by BDAT to who takes it, as lines to others, and back where it must not be changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from smtp_peer import OFFER, Peer
from smtp_setting import letters, mx_to, request, send, smarthost_at

from relay.mail.outcome import Failed

BINARY = b"Subject: b\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\xff\n.\r\n.\r\n" + bytes(range(256)) * 2000
TEXT = b"Subject: b\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n"
BOTH = ("CHUNKING", "BINARYMIME")


def plain(peer: Peer, **settings):
    return mx_to(peer.port, starttls="off", **settings)


def binary(*recipients: str, text: bytes | None = TEXT):
    return replace(request(*recipients, binary=True, body_8bit=True), text=text)


@pytest.mark.parametrize("content", [BINARY, b"Subject: b\r\n\r\n\0"], ids=["large", "small"])
@pytest.mark.parametrize("offer", [(*OFFER, *BOTH), BOTH], ids=["pipelining", "step by step"])
def test_it_goes_by_bdat_octet_for_octet_to_who_offers_it(offer: tuple[str, ...], content: bytes) -> None:
    with Peer(offer=offer) as peer:
        reports = send(plain(peer), binary("ann@mx.example", "bob@mx.example"), binary(), content=content)

        assert [letters(report) for report in reports] == ["DD", "D"]
    assert peer.messages == [content, content]
    commands = peer.sessions[0].commands
    assert b"BODY=BINARYMIME" in commands[1]
    assert b"BDAT %d LAST" % len(content) in commands
    assert b"DATA" not in commands


@pytest.mark.parametrize("offer", [OFFER, (*OFFER, "BINARYMIME"), (*OFFER, "CHUNKING"), ()])
def test_it_goes_as_lines_to_who_does_not(offer: tuple[str, ...]) -> None:
    with Peer(offer=offer) as peer:
        report = send(plain(peer), binary(), content=BINARY)

        assert letters(report) == "D"
    assert peer.messages == [TEXT]
    assert not any(b"BODY" in command for command in peer.sessions[0].commands)


@pytest.mark.parametrize(
    ("signed", "text", "arrives"), [(True, TEXT, TEXT), (False, TEXT, BINARY), (True, None, BINARY)]
)
def test_a_smarthost_gets_what_we_signed_as_lines_for_nobody_behind_it_may_change_it(
    signed: bool, text: bytes | None, arrives: bytes, tmp_path: Path
) -> None:
    with Peer(offer=(*OFFER, *BOTH)) as peer:
        transport = smarthost_at(peer.port, folder=tmp_path, tls="none")
        report = send(transport, replace(binary(text=text), signed=signed), content=BINARY)

        assert letters(report) == "S"
    assert peer.messages == [arrives]


def test_what_may_not_be_changed_comes_back_from_who_does_not() -> None:
    with Peer(offer=OFFER) as peer:
        report = send(plain(peer), binary(text=None), content=BINARY)

    [outcome] = report.outcomes.values()
    assert outcome == Failed(outcome.reply, elsewhere=True)
    assert str(outcome.reply.status) == "5.6.1"
    assert peer.sessions[0].verbs == [b"EHLO", b"QUIT"]


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({"mail": "5xx"}, "FF"),
        ({"rcpt": "5xx"}, "DF"),
        ({"dot": "5xx"}, "FF"),
        ({"dot": "4xx"}, "dd"),
        ({"dot": "close"}, "??"),
        ({"rcpt": "close"}, "dd"),
    ],
)
@pytest.mark.parametrize("offer", [(*OFFER, *BOTH), BOTH], ids=["pipelining", "step by step"])
def test_every_answer_means_what_it_means_after_data(
    faults: dict[str, str | bytes], expected: str, offer: tuple[str, ...]
) -> None:
    with Peer(faults, offer=offer) as peer:
        report = send(plain(peer), binary("ann@mx.example", "bob@mx.example"), content=BINARY)

        assert letters(report) == expected


def test_where_nobody_is_accepted_nothing_is_sent_and_the_session_goes_on() -> None:
    with Peer({"rcpt": "5xx"}, offer=(*OFFER, *BOTH)) as peer:
        reports = send(plain(peer), binary("bob@mx.example"), binary("ann@mx.example"), content=BINARY)

        assert [letters(report) for report in reports] == ["F", "D"]
    assert peer.messages == [BINARY]
    assert peer.sessions[0].verbs == [b"EHLO", b"MAIL", b"RCPT", b"RSET", b"MAIL", b"RCPT", b"BDAT", b"QUIT"]
