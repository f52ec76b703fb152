"""SMTP doors: the listeners of one worker with all that judges what comes in by them.

In: settings, what the workers share, the lane that takes mail. Out: listeners that answer; the sessions there are and
were; the TLS contexts. Raises OperatorError, one line with the fix, for what cannot be opened, read or used.
"""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from relay.checks.received_spf import received_spf
from relay.checks.spf import SpfChecker
from relay.intake.accept import Accept
from relay.intake.shield import SLOTS, Memory, Shield
from relay.lane import Lane
from relay.logins import Logins
from relay.mail.diagnosis import Device, FailedSession
from relay.mail.reply import Reply
from relay.ports import Clock, Resolver
from relay.settings import ListenerSettings, Settings
from relay.smtpd.devices import Devices
from relay.smtpd.failed_sessions import FailedSessions
from relay.smtpd.guard import Guard
from relay.smtpd.handler import Handler
from relay.smtpd.known import Known
from relay.smtpd.listener import Listeners
from relay.smtpd.tally import Tally
from relay.smtpd.tls_certificates import Certificates, Prepared
from relay.smtpd.tls_tickets import TicketContexts
from relay.store.disk import Disk
from relay.store.registry import Registry
from relay.telemetry.observer import Telemetry


@dataclass(frozen=True, slots=True)
class PreparedDoors:
    """Everything that can fail has been made. `certificates` is None while nothing is served by TLS."""

    handlers: list[tuple[ListenerSettings, Handler]]
    certificates: Prepared | None


class SmtpDoors:
    """One worker's: `open` once, `drain` once. `prepare` may fail and changes nothing; `use` does not fail."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        index: int,
        tally: Tally,
        remembered: Memory,
        tickets: TicketContexts,
        registry: Registry,
        disk: Disk,
        resolver: Resolver,
        clock: Clock,
        seen: Telemetry,
        is_return_path: Callable[[Settings], Callable[[str], bool]],
        suppressed: Callable[[str, str], Reply | None],
    ) -> None:
        """`settings` gives those in force; `index` is the worker's, for what it shares with the others.

        `suppressed` says why an account does not write to an address any more.
        """
        first = settings()
        self._settings = settings
        self._registry = registry
        self._disk = disk
        self._resolver = resolver
        self._clock = clock
        self._seen = seen
        self._is_return_path = is_return_path
        self._suppressed = suppressed
        self._logins = Logins(first, registry, resolver, clock, seen.log)
        self._guard = Guard(first.guard, tally.for_worker(index), clock)
        self._shield = Shield(remembered, index, clock, first.limits.duplicate_window)
        self._failed = FailedSessions(first.sessions, index, clock)
        self._devices = Devices(clock)
        self.certificates = Certificates(tickets, clock, seen)
        self._listeners = Listeners(
            first.limits,
            first.hostname,
            seen,
            self.tls_context,
            self._failed,
            self._devices,
            self._old_tls_context,
            self._client_tls_context,
            self._strict_tls_context,
        )

    # --- life ----------------------------------------------------------------------------------------------

    async def open(self, lanes: Sequence[Lane], sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        """Serve every listener on its sockets. The first lane takes the mail; all are asked for repetitions."""
        settings, lane = self._settings(), lanes[0]
        await self._remember(lanes, settings.limits.duplicate_window)
        self._intake = Accept(
            lane.spool,
            settings.gate_limits,
            settings.hostname,
            self._clock,
            self._disk,
            self._seen,
            lane.take,
            functools.partial(received_spf, settings.hostname),
            settings.retry_names,
            shield=self._shield,
        )
        for listener, handler in self._make_handlers(settings):
            bound = sockets[listener.name]
            await self._listeners.serve(listener, handler, bound)
            for one in bound:
                name = one.getsockname()
                address, port = (name, 0) if isinstance(name, str) else name[:2]
                self._seen.log.listening(listener.name, address, port, listener.tls)

    async def drain(self, timeout: float) -> None:
        """Take no new session, and let those there are end."""
        await self._listeners.drain(timeout)

    def prepare(self, settings: Settings) -> PreparedDoors:
        """Raises SettingsError. After `open`."""
        handlers = self._make_handlers(settings)
        return PreparedDoors(handlers, self.certificates.prepare(settings) if self.certificates.ready else None)

    def use(self, settings: Settings, prepared: PreparedDoors) -> None:
        """For sessions that begin from now on."""
        if prepared.certificates is not None:
            self.certificates.use(prepared.certificates)
        self._intake.reconfigure(settings.gate_limits, settings.retry_names)
        self._guard.reconfigure(settings.guard)
        self._failed.reconfigure(settings.sessions)
        self._listeners.reconfigure(settings.limits, prepared.handlers)

    async def _remember(self, lanes: Sequence[Lane], window: float) -> None:
        """What came in before this start is known as a repetition too."""
        now = self._clock.now()
        for lane in lanes:
            for digest, number, at in await lane.spool.digests(now - window, SLOTS):
                self._shield.stored(digest, number, now - at)

    def _make_handlers(self, settings: Settings) -> list[tuple[ListenerSettings, Handler]]:
        spf = SpfChecker(self._resolver, hostname=settings.hostname)
        is_return_path, offer = self._is_return_path(settings), self._logins.follow(settings)
        about = (self._logins.authenticator, spf, self._seen.bug, self._guard, is_return_path, offer)

        def handler(one: ListenerSettings) -> Handler:
            known = Known(one, settings.device, self._registry.has_account).find
            return Handler(one, settings.inbound, self._intake, *about, known, self._suppressed)

        return [(one, handler(one)) for one in settings.listener]

    # --- what there is to see ------------------------------------------------------------------------------

    def sessions(self) -> int:
        """How many there are now."""
        return self._listeners.sessions()

    def failed_sessions(self) -> list[FailedSession]:
        """Those that ended badly, the newest first."""
        return self._failed.all()

    def devices(self) -> list[Device]:
        """The newest first."""
        return self._devices.all()

    # --- TLS -----------------------------------------------------------------------------------------------

    def tls_context(self) -> ssl.SSLContext:
        """For a handshake that begins now; the first call reads the certificates. Raises SettingsError."""
        if not self.certificates.ready:
            self.certificates.use(self.certificates.prepare(self._settings()))
        return self.certificates.context

    def _old_tls_context(self) -> ssl.SSLContext:
        """For listeners that tolerate old TLS."""
        self.tls_context()
        return self.certificates.for_old_tls

    def _strict_tls_context(self, minimum: Literal["1.2", "1.3"]) -> ssl.SSLContext:
        """For listeners with a `tls_minimum`."""
        self.tls_context()
        return self.certificates.at_least(minimum)

    def _client_tls_context(self, client_ca: Path) -> ssl.SSLContext:
        """For listeners with a `client_ca`."""
        self.tls_context()
        return self.certificates.for_clients(client_ca)
