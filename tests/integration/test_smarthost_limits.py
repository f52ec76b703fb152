"""Smarthosts with limits of their own: what is too large stays away, and many recipients go in several transactions."""

from __future__ import annotations

import pytest
from smtp_peer import Peer
from smtp_setting import CONTENT, letters, request, send, smarthost_at

EVERYBODY = [f"r{n}@mx.example" for n in range(7)]


@pytest.mark.parametrize(("recipients", "transactions"), [(3, [3, 3, 1]), (0, [7]), (1000, [7])])
def test_recipients_go_so_many_a_transaction(recipients: int, transactions: list[int], tmp_path) -> None:
    with Peer() as peer:
        transport = smarthost_at(peer.port, folder=tmp_path, tls="none", recipients=recipients)
        report = send(transport, request(*EVERYBODY))
    assert letters(report) == "SSSSSSS"
    verbs = b" ".join(peer.sessions[0].verbs)
    assert [part.count(b"RCPT") for part in verbs.split(b"MAIL")[1:]] == transactions


def test_a_message_that_is_too_large_is_not_sent_there_and_may_go_elsewhere(tmp_path) -> None:
    with Peer() as peer:
        transport = smarthost_at(peer.port, folder=tmp_path, tls="none", message_size=len(CONTENT))
        assert letters(send(transport)) == "S"
        report = send(transport, content=CONTENT + b"x")
        assert len(peer.sessions) == 1
    [outcome] = report.outcomes.values()
    assert str(outcome.reply) == f"552 5.3.4 localhost takes messages of {len(CONTENT)} octets at most"
    assert outcome.elsewhere
