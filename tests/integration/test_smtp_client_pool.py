"""Kept connections: reuse, RSET, limits, staleness and the end."""

from __future__ import annotations

import asyncio
import time

import pytest
from smtp_peer import Peer
from smtp_setting import CONTENT, LOOPS, letters, mx_to, request, send


def plain(peer: Peer, **settings):
    return mx_to(peer.port, starttls="off", **settings)


@pytest.mark.parametrize("loop", LOOPS)
def test_messages_share_a_connection(loop: str) -> None:
    """MAIL follows 250 without RSET, EHLO or a new connection."""
    with Peer() as peer:
        reports = send(plain(peer), *[request()] * 3, loop=loop)

        assert [letters(report) for report in reports] == ["D"] * 3
    assert len(peer.sessions) == 1
    assert peer.sessions[0].verbs == [b"EHLO", *[b"MAIL", b"RCPT", b"DATA"] * 3, b"QUIT"]


@pytest.mark.parametrize("offer", [("PIPELINING",), ()], ids=["pipelined", "stepwise"])
def test_rset_after_a_failed_transaction(offer: tuple[str, ...]) -> None:
    """A refused message does not punish the next one: RSET, then MAIL, on the same connection."""
    with Peer({"rcpt": "5xx"}, offer=offer) as peer:
        reports = send(plain(peer), request("bob@mx.example"), request("ann@mx.example"))

        assert [letters(report) for report in reports] == ["F", "D"]
    assert len(peer.sessions) == 1
    assert b"RSET" in peer.sessions[0].verbs


def test_messages_per_connection() -> None:
    """After the limit the connection parts with QUIT."""
    with Peer() as peer:
        send(plain(peer, messages_per_connection=2), *[request()] * 5)

    assert [len(seen.messages) for seen in peer.sessions] == [2, 2, 1]
    assert all(seen.verbs[-1] == b"QUIT" for seen in peer.sessions)


def test_idle_connection_says_quit() -> None:
    """A connection nobody uses parts by itself."""

    async def deliver_and_wait(transport, peer: Peer) -> None:
        await transport.deliver(request(), CONTENT)
        deadline = time.monotonic() + 60
        while not peer.sessions[0].ended and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        assert len(transport._sender._pool) == 0

    with Peer() as peer:
        asyncio.run(deliver_and_wait(plain(peer, idle_connection=0.1), peer))

    assert peer.sessions[0].verbs[-1] == b"QUIT"


@pytest.mark.parametrize("loop", LOOPS)
def test_stale_connection_costs_nothing(loop: str) -> None:
    """A kept connection that the peer has closed is replaced, and the message is delivered in the same attempt."""
    with Peer(restart_after=1) as peer:
        reports = send(plain(peer), *[request()] * 3, loop=loop)

        assert [letters(report) for report in reports] == ["D"] * 3
    assert peer.messages == [CONTENT] * 3


@pytest.mark.parametrize("fault", ["close", "rst", "421"])
def test_stale_connection_found_at_mail(fault: str) -> None:
    """The same when the kept connection dies at MAIL: one fresh connection, whose answer then counts."""

    async def deliver_twice(transport, peer: Peer):
        try:
            first = await transport.deliver(request(), CONTENT)
            peer_faults["mail"] = fault
            second = await transport.deliver(request(), CONTENT)
            return first, second
        finally:
            await transport.close()

    peer_faults: dict[str, str | bytes] = {}
    with Peer(peer_faults) as peer:
        peer.faults = peer_faults
        first, second = asyncio.run(deliver_twice(plain(peer), peer))

        assert (letters(first), letters(second)) == ("D", "d")
    assert len(peer.sessions) == 2
    assert peer.messages == [CONTENT]


def test_421_while_idle_is_a_farewell() -> None:
    """A 421 after the 250 of the last message closes that connection and nothing else."""
    with Peer({"dot": b"250 2.0.0 Ok\r\n421 4.4.2 Idle\r\n"}) as peer:
        reports = send(plain(peer), request(), request())

        assert [letters(report) for report in reports] == ["D", "D"]
    assert len(peer.sessions) == 2


def test_close_ends_a_delivery_under_way() -> None:
    """close() does not wait for a silent peer: the delivery comes back at once, in doubt after the last byte."""

    async def deliver_and_close(transport, peer: Peer):
        delivery = asyncio.create_task(transport.deliver(request(), CONTENT))
        while not peer.messages:
            await asyncio.sleep(0.01)
        async with asyncio.timeout(60):
            await transport.close()
            return await delivery

    with Peer({"dot": "silence"}) as peer:
        transport = plain(peer, timeouts={"final_dot": 3600})
        assert letters(asyncio.run(deliver_and_close(transport, peer))) == "?"


def test_cancelled_delivery_leaves_no_connection() -> None:
    """A cancelled task drops its connection; it is not handed to the next message in the middle of a dialogue."""

    async def cancel(transport, peer: Peer) -> None:
        delivery = asyncio.create_task(transport.deliver(request(), CONTENT))
        while not peer.messages:
            await asyncio.sleep(0.01)
        delivery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivery
        assert len(transport._sender._pool) == 0
        await transport.close()

    with Peer({"dot": "silence"}) as peer:
        asyncio.run(cancel(plain(peer, timeouts={"final_dot": 3600}), peer))
