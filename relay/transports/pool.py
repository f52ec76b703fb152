"""Kept connections: a message that follows another to the same endpoint finds a session ready for MAIL.

One pool belongs to one transport, so endpoint (address, port, name, TLS mode) plus transport (credentials,
verification) name everything a session depends on. How many connections a destination gets is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from relay.mail.reply import reply
from relay.transports.smtp_client import Endpoint, SmtpConnection, Sweeper

_CLOSE_SECONDS: Final = 1.0
_SHUTTING_DOWN: Final = reply(451, "4.3.2", "We are shutting down")


class Pool:
    """Idle connections, the one used last first: the others may then grow old and part."""

    def __init__(self, sweeper: Sweeper, *, messages: int, idle: float) -> None:
        """`messages` a connection may carry, `idle` seconds it may wait for the next."""
        self._sweeper = sweeper
        self._messages = messages
        self._idle_seconds = idle
        self._idle: dict[Endpoint, list[SmtpConnection]] = {}
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._idle.values()))

    def take(self, endpoints: Iterable[Endpoint]) -> SmtpConnection | None:
        """A kept connection to the first of `endpoints` that has one."""
        for endpoint in endpoints:
            stack = self._idle.get(endpoint)
            if stack:
                connection = stack.pop()
                connection.unpark()
                return connection
        return None

    def give(self, connection: SmtpConnection) -> None:
        """Take a connection back after use; keep it or say QUIT."""
        most = connection.capabilities.mails or self._messages
        if connection.trouble is None and not self._closed and connection.messages < min(most, self._messages):
            connection.park(self._idle_seconds, self._forget)
            self._idle.setdefault(connection.endpoint, []).append(connection)
        else:
            connection.quit()
            self._forget(connection)

    def _forget(self, connection: SmtpConnection) -> None:
        """Forget a connection that ended, and with its last one the endpoint."""
        stack = self._idle.get(connection.endpoint)
        if stack is not None and connection in stack:
            stack.remove(connection)
        if not stack:
            self._idle.pop(connection.endpoint, None)

    async def close(self) -> None:
        """QUIT on idle connections, the end for busy ones; returns when all are gone, within about a second."""
        self._closed = True
        for stack in list(self._idle.values()):
            for connection in list(stack):
                connection.quit_at_once()
        for connection in list(self._sweeper.watched):
            if connection.leaving:
                connection.quit_at_once()
            else:
                connection.end(_SHUTTING_DOWN)
        await self._sweeper.until_empty(_CLOSE_SECONDS)
        for connection in list(self._sweeper.watched):
            connection.drop()
