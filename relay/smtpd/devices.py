"""Devices: which clients need what tolerance, in the memory of one worker.

In: something that was tolerated. Out: `Device` values. The `MOST` heard of last are kept. Never raises.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Final

from relay.mail.diagnosis import Device
from relay.mail.session import Session
from relay.ports import Clock

MOST: Final = 1000


class Devices:
    """Of one worker."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, str, str, str], Device] = OrderedDict()

    def tolerated(self, session: Session, what: str) -> None:
        username, now = session.login.username if session.login else "", self._clock.now()
        key = (session.peer, username, session.listener, what)
        known = self._known.get(key) or Device(session.peer, username or None, session.listener, what, 0, now, now)
        self._known[key] = replace(known, times=known.times + 1, at=now, helo=session.helo or known.helo)
        self._known.move_to_end(key)
        if len(self._known) > MOST:
            self._known.popitem(last=False)

    def all(self) -> list[Device]:
        """The last heard of first."""
        return list(reversed(self._known.values()))
