"""The same cells through engine and spool: what the queue says of each recipient, and that the next attempt ends it.

After the fault is over everybody who was not refused has the message, once; twice only who was in doubt.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from delivery_kit import Setting, route, run, settings
from smtp_peer import Peer
from smtp_setting import authority, mx_to, server_tls, smarthost_at, timeouts_at
from test_smtp_client_matrix import MX, SMARTHOST, TO, cells

AUTH = [cell for cell in cells(SMARTHOST) if cell.values[0] == "auth"]
STATES = {"D": "delivered", "S": "sent", "F": "bounced", "?": "deferred", "d": "deferred", "h": "deferred"}


async def through(setting: Setting, peer: Peer, wanted: str) -> None:
    """One attempt with the fault, one without."""
    async with setting as one:
        one.feed()
        message_id = await one.accept(*TO)
        await one.idle()
        assert await one.states(message_id) == [STATES.get(letter, "deferred") for letter in wanted]
        kinds = [one.heard.kinds(message_id, address)[-1] for address in TO]
        assert [kind == "in_doubt" for kind in kinds] == [letter == "?" for letter in wanted]
        peer.faults.clear()
        for name in (*one.engine.paused(), *one.engine.open_hops()):
            one.engine.resume(name)
        await one.run_out()
        ended = "delivered" if "direct" in one.transports else "sent"
        assert await one.states(message_id) == ["bounced" if letter == "F" else ended for letter in wanted]
        for transport in one.transports.values():
            await transport.close()
    copies = Counter(address for seen in peer.sessions for address in seen.copies)
    for address, letter in zip(TO, wanted, strict=True):
        assert copies[address] in {"F": (0,), "?": (1, 2)}.get(letter, (1,)), (address, copies)


@pytest.mark.parametrize(("stage", "fault", "wanted"), cells(MX))
def test_mx(stage: str, fault: str, wanted: str, tmp_path: Path) -> None:
    with Peer({stage: fault}, tls=server_tls()) as peer:
        given = settings(route=[route("direct")])
        direct = mx_to(peer.port, timeouts=timeouts_at(stage, fault))
        run(through(Setting(tmp_path, given, {"direct": direct}), peer, wanted))  # type: ignore[dict-item]


@pytest.mark.parametrize(("stage", "fault", "wanted"), AUTH)
def test_smarthost(stage: str, fault: str, wanted: str, tmp_path: Path) -> None:
    with Peer({stage: fault}, tls=server_tls(), auth="PLAIN LOGIN") as peer:
        timeouts = timeouts_at(stage, fault)
        transport = smarthost_at(peer.port, folder=tmp_path, ca=authority(), timeouts=timeouts, username="user")
        given = settings(route=[route("smarthost:one")])
        run(through(Setting(tmp_path, given, {"smarthost:one": transport}), peer, wanted))  # type: ignore[dict-item]
