"""Listener: binds the ports, serves them in the running loop, sweeps deadlines, drains.

Raises OperatorError, one line with the fix, for a port that cannot be bound or a certificate that cannot be read.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from relay.mail.errors import OperatorError, SettingsError
from relay.settings import LimitSettings, ListenerSettings, Settings
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


def _explain(error: OSError) -> str:
    fixes = {
        errno.EADDRINUSE: "the port is taken; stop what uses it (ss -ltnp shows it) or choose another port",
        errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
        errno.EADDRNOTAVAIL: "this machine does not have that address",
    }
    return fixes.get(error.errno or 0, error.strerror or str(error))


def server_tls_context(settings: Settings) -> ssl.SSLContext:
    """The context for STARTTLS and implicit TLS (RFC 8314, TLS 1.2 or later). Raises SettingsError."""
    certificate, key = certificate_paths(settings)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    minimum = ssl.TLSVersion.TLSv1_3 if settings.tls.minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    context.minimum_version = minimum
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # TLS 1.2 without forward secrecy or authenticated encryption is not worth keeping.
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM")
    try:
        # Without a password of ours OpenSSL would ask for that of an encrypted key on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except FileNotFoundError as error:
        missing = next((path for path in (certificate, key) if not path.exists()), certificate)
        raise SettingsError(f"tls: {missing} is missing; `relay init` makes certificate and key") from error
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"tls.certificate: cannot use {certificate} with {key}: {error}") from error
    return context


def certificate_paths(settings: Settings) -> tuple[Path, Path]:
    """Certificate and key file, configured or the ones `relay init` makes."""
    folder = settings.server.var / "certs"
    return settings.tls.certificate or folder / "server.pem", settings.tls.key or folder / "server.key"


class Listeners:
    """All SMTP ports of one worker."""

    def __init__(
        self,
        limits: LimitSettings,
        hostname: str,
        observer: Observer,
        tls_context: Callable[[], ssl.SSLContext],
    ) -> None:
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
            self._tls_context()  # a certificate that cannot be used stops the start, not the first client
        for listening in sockets:
            # Implicit TLS too starts in the protocol: there handshakes count as sessions and see a new certificate.
            factory = functools.partial(self._session, settings.name)
            # create_server listens again; without a word it would cut the backlog to 100.
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
            limits=self._limits,
            hooks=hooks,
            hostname=self._hostname,
            observer=self._observer,
            tls_context=self._tls_context,
            sessions=self._sessions,
            tasks=self._tasks,
            draining=lambda: self._draining,
        )

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
