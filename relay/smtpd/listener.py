"""Listener: binds the ports, serves them in the running loop, sweeps deadlines, drains.

Raises OperatorError, one line with the fix, for a port that cannot be bound or a certificate that cannot be read.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import ipaddress
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

from relay.mail.errors import OperatorError
from relay.settings import LimitSettings, ListenerSettings
from relay.smtpd.devices import Devices
from relay.smtpd.failed_sessions import FailedSessions
from relay.smtpd.hooks import Hooks
from relay.smtpd.protocol import Observer, Port, RelaySMTP

_SWEEP_SECONDS: Final = 1.0
_ABORT_STEPS: Final = 100
_BACKLOG: Final = 1024


def bind(address: str, port: int, what: str) -> socket.socket:
    """A listening TCP socket. Raises OperatorError that names `what`, the port and the fix."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((address, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise OperatorError(f"{what}: cannot listen on {address}:{port}: {_explain(error)}") from error
    listening.setblocking(False)
    return listening


async def _serve_unix(
    loop: asyncio.AbstractEventLoop, factory: Callable[[], RelaySMTP], listening: socket.socket
) -> asyncio.Server:
    if sys.version_info >= (3, 13):
        # The path stays: other workers, and the next one in this place, listen there too.
        return await loop.create_unix_server(factory, sock=listening, backlog=_BACKLOG, cleanup_socket=False)
    return await loop.create_unix_server(factory, sock=listening, backlog=_BACKLOG)


def _explain(error: OSError) -> str:
    fixes = {
        errno.EADDRINUSE: "the port is taken; stop what uses it (ss -ltnp shows it) or choose another port",
        errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
        errno.EADDRNOTAVAIL: "this machine does not have that address",
    }
    return fixes.get(error.errno or 0, error.strerror or str(error))


class Listeners:
    """All SMTP ports of one worker."""

    def __init__(
        self,
        limits: LimitSettings,
        hostname: str,
        observer: Observer,
        tls_context: Callable[[], ssl.SSLContext],
        failed: FailedSessions | None = None,
        devices: Devices | None = None,
        old_tls_context: Callable[[], ssl.SSLContext] | None = None,
        client_tls_context: Callable[[Path], ssl.SSLContext] | None = None,
        strict_tls_context: Callable[[Literal["1.2", "1.3"]], ssl.SSLContext] | None = None,
    ) -> None:
        """`old_tls_context` is for listeners that tolerate old TLS, `client_tls_context` for those of a `client_ca`,
        `strict_tls_context` for those of a `tls_minimum`.
        """
        self._strict_tls_context = strict_tls_context
        self._client_tls_context = client_tls_context
        self._devices = devices
        self._old_tls_context = old_tls_context or tls_context
        self._failed = failed
        self._limits = limits
        self._hostname = hostname
        self._observer = observer
        self._tls_context = tls_context
        self._servers: list[asyncio.Server] = []
        self._ports: dict[str, Port] = {}
        self._sessions: set[RelaySMTP] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._draining = False

    def sessions(self) -> int:
        """How many are open."""
        return len(self._sessions)

    async def serve(self, settings: ListenerSettings, hooks: Hooks, sockets: Sequence[socket.socket]) -> None:
        """Accept on bound sockets until `drain`."""
        self._ports[settings.name] = self._port(settings, hooks)
        loop = asyncio.get_running_loop()
        if settings.tls != "none":
            self._ports[
                settings.name
            ].tls_context()  # a certificate that cannot be used stops the start, not the first client
        for listening in sockets:
            # Implicit TLS too starts in the protocol: there handshakes count as sessions and see a new certificate.
            factory = functools.partial(self._session, settings.name)
            # create_server listens again; without a word it would cut the backlog to 100.
            if listening.family == socket.AF_UNIX:
                self._servers.append(await _serve_unix(loop, factory, listening))
            else:
                self._servers.append(await loop.create_server(factory, sock=listening, backlog=_BACKLOG))
        if self._sweeper is None:
            self._sweep()

    def reconfigure(self, limits: LimitSettings, listeners: Sequence[tuple[ListenerSettings, Hooks]]) -> None:
        """Other rules for the sessions that begin from now on; those that are open end by the rules they began with."""
        self._limits = limits
        for settings, hooks in listeners:
            self._ports[settings.name] = self._port(settings, hooks)

    def _port(self, settings: ListenerSettings, hooks: Hooks) -> Port:
        return Port(
            settings=settings,
            limits=settings.limited(self._limits),
            hooks=hooks,
            hostname=self._hostname,
            observer=self._observer,
            tls_context=self._context_of(settings),
            sessions=self._sessions,
            tasks=self._tasks,
            draining=lambda: self._draining,
            balancers=tuple(map(ipaddress.ip_network, settings.proxy_protocol)),
            proxies=tuple(map(ipaddress.ip_network, settings.xclient)),
            failed=self._failed,
            devices=self._devices,
            served=tuple(map(ipaddress.ip_network, settings.only_from)),
        )

    def _context_of(self, settings: ListenerSettings) -> Callable[[], ssl.SSLContext]:
        if settings.client_ca is not None and self._client_tls_context is not None:
            return functools.partial(self._client_tls_context, settings.client_ca)
        if settings.tls_minimum and self._strict_tls_context is not None:
            return functools.partial(self._strict_tls_context, settings.tls_minimum)
        return self._old_tls_context if "old_tls" in settings.tolerate else self._tls_context

    def _session(self, name: str) -> RelaySMTP:
        return RelaySMTP(self._ports[name])

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for session in tuple(self._sessions):
            session.sweep(now)
            if self._draining:
                session.drain()
        self._sweeper = loop.call_later(_SWEEP_SECONDS, self._sweep)

    async def drain(self, timeout: float) -> None:
        """Stop accepting, say 421 4.3.2 at the next command boundary, wait up to `timeout` seconds, then cut."""
        self._draining = True
        for server in self._servers:
            server.close()
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while (self._sessions or self._tasks) and loop.time() < end:
            for session in tuple(self._sessions):
                session.drain()
            await asyncio.sleep(0.05)
        for session in tuple(self._sessions):
            session.transport.abort()
        for _ in range(_ABORT_STEPS):
            if not self._sessions:
                break
            await asyncio.sleep(0.01)
        if self._sweeper is not None:
            self._sweeper.cancel()
