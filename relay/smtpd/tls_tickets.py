"""Contexts by the keys that session tickets are sealed with (RFC 5077, RFC 8446 §4.6.1).

OpenSSL makes ticket keys with a context and Python's `ssl` cannot set them. So contexts are made ahead, before the
first fork, and each serves all workers for a stretch of time: a ticket of one worker is good at every other. A context
whose time is over is dropped in every process, and its keys with it. When those made ahead are used up, each worker
makes its own: tickets are then good at the worker that gave them, and cost a full handshake elsewhere.
"""

from __future__ import annotations

import ssl
from typing import Final

from relay.ports import Clock
from relay.smtpd.tls_context import new_context

PERIOD: Final = 43_200.0
AHEAD: Final = 120


class TicketContexts:
    """Of one server; inherited by its workers."""

    def __init__(self, clock: Clock, ahead: int = 0) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._contexts = {number: new_context() for number in range(ahead)}

    def period(self) -> int:
        """Which stretch of time this is."""
        return int((self._clock.monotonic() - self._began) // PERIOD)

    def current(self) -> ssl.SSLContext:
        """The context for handshakes that begin now."""
        self.forget()
        period = self.period()
        if period not in self._contexts:
            self._contexts[period] = new_context()
        return self._contexts[period]

    def forget(self) -> None:
        """Drop what is over; every process that has it has to."""
        now = self.period()
        for number in [number for number in self._contexts if number < now]:
            del self._contexts[number]
