"""A message too large for one write: sent at the peer's pace, and in doubt only once its terminator was written."""

from __future__ import annotations

import socket

import pytest
from smtp_peer import Peer
from smtp_setting import LOOPS, letters, mx_to, request, send, server_tls

LINE = b"." + b"x" * 70 + b"\r\n"
LARGE = b"Subject: large\r\n\r\n" + LINE * 120_000
"""More than the kernel holds between two ends; every line needs a dot more."""
OFFER = ("PIPELINING", "SIZE 100000000")


def narrow() -> socket.socket:
    """A listener whose connections hold little that was not read."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    return listener


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_large_message_arrives_dot_stuffed_and_whole(loop: str, tls: bool) -> None:
    """Chunks end at line ends and lose no dot."""
    with Peer(offer=OFFER, tls=server_tls() if tls else None) as peer:
        report = send(mx_to(peer.port), content=LARGE, loop=loop)

        assert letters(report) == "D"
    assert peer.messages == [LARGE.replace(b"\r\n.", b"\r\n..")]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("fault", "wanted"),
    [("close", "dd"), ("rst", "dd"), ("421", "dd"), ("4xx", "dd"), ("5xx", "FF"), ("2xx", "dd"), ("deaf", "dd")],
)
def test_what_happens_before_the_terminator_is_no_doubt(fault: str, wanted: str, loop: str) -> None:
    """A peer that leaves, accepts or stops reading in the middle cannot hold the message; a refusal is one."""
    with Peer({"body": fault}, offer=OFFER, listener=narrow()) as peer:
        report = send(mx_to(peer.port), request("ann@mx.example", "bob@mx.example"), content=LARGE, loop=loop)

        assert letters(report) == wanted
    assert peer.messages == []


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("fault", ["close", "rst", "silence", "garbage"])
def test_lost_answer_after_the_terminator_is_a_doubt(fault: str, loop: str) -> None:
    """The peer has read all of it and never said so."""
    with Peer({"dot": fault}, offer=OFFER) as peer:
        report = send(mx_to(peer.port), content=LARGE, loop=loop)

        assert letters(report) == "?"
    assert len(peer.messages) == 1
