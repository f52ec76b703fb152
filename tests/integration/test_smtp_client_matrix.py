"""Ten stages of an SMTP session times eight ways to misbehave: what becomes of each of three recipients.

D delivered, S sent, F failed, ? in doubt; deferred with the fault of d message, h host, r route.
At `rcpt` only the second of the three recipients is hit.
"""

from __future__ import annotations

import pytest
from smtp_peer import OFFER, Peer
from smtp_setting import authority, letters, mx_to, request, send, server_tls, smarthost_at, timeouts_at

# An MX with opportunistic TLS: whatever breaks TLS costs the encryption, not the mail.
MX = """
stage     421  4xx  5xx  close rst  silence garbage 2xx
banner    hhh  hhh  hhh  hhh   hhh  hhh     hhh     DDD
ehlo      hhh  hhh  DDD  hhh   hhh  hhh     hhh     DDD
starttls  hhh  DDD  DDD  DDD   DDD  DDD     DDD     DDD
ehlo2     hhh  hhh  DDD  hhh   hhh  hhh     hhh     DDD
mail      ddd  ddd  FFF  ddd   ddd  ddd     ddd     DDD
rcpt      ddd  DdD  DFD  ddd   ddd  ddd     ddd     DDD
data      ddd  ddd  FFF  ddd   ddd  ddd     ddd     ddd
dot       ddd  ddd  FFF  ???   ???  ???     ???     DDD
quit      DDD  DDD  DDD  DDD   DDD  DDD     DDD     DDD
"""

# A smarthost that demands TLS and a login: nothing goes out without either.
SMARTHOST = """
stage     421  4xx  5xx  close rst  silence garbage 2xx
banner    hhh  hhh  hhh  hhh   hhh  hhh     hhh     SSS
ehlo      hhh  hhh  hhh  hhh   hhh  hhh     hhh     hhh
starttls  hhh  hhh  hhh  hhh   hhh  hhh     hhh     SSS
ehlo2     hhh  hhh  rrr  hhh   hhh  hhh     hhh     rrr
auth      hhh  hhh  rrr  hhh   hhh  hhh     hhh     SSS
mail      ddd  ddd  FFF  ddd   ddd  ddd     ddd     SSS
rcpt      ddd  SdS  SFS  ddd   ddd  ddd     ddd     SSS
data      ddd  ddd  FFF  ddd   ddd  ddd     ddd     ddd
dot       ddd  ddd  FFF  ???   ???  ???     ???     SSS
quit      SSS  SSS  SSS  SSS   SSS  SSS     SSS     SSS
"""

# One command at a time, to a peer without PIPELINING.
STEPWISE = """
stage     421  4xx  5xx  close rst  silence garbage 2xx
mail      ddd  ddd  FFF  ddd   ddd  ddd     ddd     DDD
rcpt      ddd  DdD  DFD  ddd   ddd  ddd     ddd     DDD
data      ddd  ddd  FFF  ddd   ddd  ddd     ddd     ddd
dot       ddd  ddd  FFF  ???   ???  ???     ???     DDD
"""


def cells(table: str) -> list:
    (_, *faults), *rows = (line.split() for line in table.strip().splitlines())
    return [
        pytest.param(stage, fault, wanted, id=f"{stage}-{fault}")
        for stage, *expected in rows
        for fault, wanted in zip(faults, expected, strict=True)
    ]


TO = ("ann@mx.example", "bob@mx.example", "cid@mx.example")


@pytest.mark.parametrize(("stage", "fault", "wanted"), cells(MX))
def test_mx(stage: str, fault: str, wanted: str) -> None:
    """Direct delivery gives every recipient the outcome of the table, and a copy only where it says so."""
    with Peer({stage: fault}, tls=server_tls()) as peer:
        report = send(mx_to(peer.port, timeouts=timeouts_at(stage, fault)), request(*TO))

        assert wanted == letters(report)
    assert ("D" in wanted or stage == "dot") == any(peer.messages)


@pytest.mark.parametrize(("stage", "fault", "wanted"), cells(SMARTHOST))
def test_smarthost(stage: str, fault: str, wanted: str, tmp_path) -> None:
    """A smarthost with TLS and AUTH gives every recipient the outcome of the table, on asyncio's own loop."""
    with Peer({stage: fault}, tls=server_tls(), auth="PLAIN LOGIN") as peer:
        timeouts = timeouts_at(stage, fault)
        transport = smarthost_at(peer.port, folder=tmp_path, ca=authority(), timeouts=timeouts, username="user")
        report = send(transport, request(*TO), loop="asyncio")

        assert wanted == letters(report)
    for seen in peer.sessions:
        assert seen.tls or b"AUTH" not in seen.verbs


@pytest.mark.parametrize(("stage", "fault", "wanted"), cells(STEPWISE))
def test_without_pipelining(stage: str, fault: str, wanted: str) -> None:
    """A peer without PIPELINING is spoken to one command at a time, with the same outcomes."""
    with Peer({stage: fault}, offer=OFFER[1:]) as peer:
        report = send(mx_to(peer.port, starttls="off", timeouts=timeouts_at(stage, fault)), request(*TO))

        assert wanted == letters(report)
