"""App: builds one worker out of its rooms and runs it. The only place that knows which class stands behind a port.

A worker is one event loop with everything in it: doors, the gate, and a lane (spool, engine, feeder) for its own spool
and for each spool that an earlier, larger number of workers left behind. `start`, then `stop` once.
Raises OperatorError, one line with the fix, for what it cannot open.
"""

from __future__ import annotations

import asyncio
import functools
import mmap
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry

from relay import __version__
from relay.auth.api_keys import ApiKeyVerifier
from relay.auth.credentials import CredentialAuthenticator
from relay.auth.passwords import PasswordVerifier
from relay.checks.received_spf import received_spf
from relay.checks.spf import SpfChecker
from relay.delivery.expiry import Expiry
from relay.dns.mx import MxResolver
from relay.dns.resolver import DnsResolver
from relay.httpd.application import make_app
from relay.httpd.control_socket import bind_control
from relay.httpd.dead import dead_router
from relay.httpd.health import health_router
from relay.httpd.queue import queue_router
from relay.httpd.reload import reload_router
from relay.httpd.sandbox import sandbox_router
from relay.httpd.server import HttpServer
from relay.intake.accept import Accept
from relay.lane import Lane
from relay.mail.errors import OperatorError, StoreError
from relay.ports import SystemClock, Transport, system_random
from relay.settings import ListenerSettings, Settings
from relay.signing.dkim import DkimSigner
from relay.signing.keys import KeyStore
from relay.smtpd.guard import Guard
from relay.smtpd.handler import Handler
from relay.smtpd.listener import Listeners, server_tls_context
from relay.smtpd.sandbox_mx import SandboxMx
from relay.smtpd.tally import Tally
from relay.store.disk import Disk
from relay.store.inbox import Inbox
from relay.store.registry import REGISTRY_FILE, Registry
from relay.telemetry.log import MailLog, route_library_logs
from relay.telemetry.metrics import CONTENT_TYPE, Metrics
from relay.telemetry.observer import Telemetry
from relay.transports.build import build_transports
from relay.transports.capture import CaptureTransport

_HOUSEKEEPING_SECONDS: Final = 1.0
_QUEUE_GAUGE_SECONDS: Final = 5.0
_PRUNED_AT_A_TIME: Final = 200
_TIDY_SECONDS: Final = 0.2
_TIDY_PAUSE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Sockets:
    """Listening sockets, shared by all workers: SMTP by listener name, and HTTP."""

    smtp: dict[str, list[socket.socket]]
    http: list[socket.socket]


class Living:
    """How many workers live, told to all of them by the supervisor: an octet of memory shared since before the fork."""

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.count = workers

    @property
    def count(self) -> int:
        """1 at least."""
        return self._memory[0] or 1

    @count.setter
    def count(self, workers: int) -> None:
        self._memory[0] = min(workers, 255)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the workers of one server have in common.

    `reread` gives the settings that are in force after a SIGHUP (raises OperatorError); `hang_up` asks the process that
    was started for one.
    """

    sockets: Sockets
    tally: Tally
    living: Living
    reread: Callable[[], Settings]
    hang_up: Callable[[], None]


class Worker:
    """Worker number `index` of its server."""

    def __init__(self, settings: Settings, index: int, shared: Shared) -> None:
        self._settings = settings
        self._index = index
        self._shared = shared
        self._clock = SystemClock()
        log = MailLog(self._clock, format=settings.log.format, level=settings.log.level)
        route_library_logs(log)
        self.telemetry = Telemetry(log, Metrics(CollectorRegistry(), __version__))
        self._registry = Registry(settings.server.var / REGISTRY_FILE)
        self._keys = KeyStore(settings.server.var / "keys")
        self._disk = Disk(settings.server.var, settings.spool.minimum_free)
        self._resolver = DnsResolver(settings.dns, self._clock)
        self._lanes: list[Lane] = []
        self._sandbox_mx = ""
        self._transports: dict[str, Transport] = {}
        self._tls: ssl.SSLContext | None = None
        self._retired: list[Transport] = []
        self._guard = Guard(settings.guard, shared.tally.for_worker(index), self._clock)
        self._listeners = Listeners(settings.limits, settings.hostname, self.telemetry, self._tls_context)
        self._tasks: list[asyncio.Task[None]] = []
        self._at_stop: list[Callable[[], Awaitable[None]]] = []
        self._started = False
        self._draining = False

    # --- life ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open everything, then the doors."""
        self._registry.refresh(patience=5.0)
        self._disk.look()
        if self._settings.sandbox.enabled:
            await self._start_sandbox_mx()
        self._transports = self._make_transports(self._settings)
        signer = DkimSigner(self._keys, self._clock)
        for number in self._spool_numbers():
            self._lanes.append(Lane(self._settings, number, self._transports, signer, self.telemetry))
        for lane in self._lanes:
            self._start_task(lane.feeder.run())
        self._start_task(self._housekeeping())
        self._start_task(self._gauges())
        self._start_task(self._tidy())
        await self._open_doors()
        await self._open_http()
        self._started = True
        self.telemetry.log.server_started(__version__, worker=self._index, pid=os.getpid())

    async def stop(self) -> None:
        """Drain the doors, let deliveries end, keep the rest in the spool; at most twice `drain_timeout` seconds."""
        self._draining = True
        timeout = self._settings.server.drain_timeout
        await self._listeners.drain(timeout)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(lane.engine.stop(timeout) for lane in self._lanes))
        for transport in (*self._transports.values(), *self._retired):
            await transport.close()
        for close in reversed(self._at_stop):
            await close()
        for lane in self._lanes:
            await lane.spool.close()
        self._registry.close()
        if self._started:
            self.telemetry.log.server_stopped(worker=self._index)

    def reload(self) -> None:
        """SIGHUP: configuration, certificates and keys are read again; what cannot be used leaves the old in force."""
        try:
            self._follow(self._shared.reread())
            self._keys.reload()
            self._registry.refresh()
            self.telemetry.log.note("reloaded", worker=self._index, configuration=self._settings.digest)
        except OperatorError as error:
            self.telemetry.log.warn("reload_failed", error=error)

    def _follow(self, settings: Settings) -> None:
        """Work by other settings from now on. Everything that can fail is made first."""
        transports = self._make_transports(settings)
        doors = self._make_doors(settings)
        tls = server_tls_context(settings) if self._tls is not None else None
        old, self._transports, self._tls, self._settings = self._transports, transports, tls, settings
        for lane in self._lanes:
            lane.engine.reconfigure(settings, transports)
        self._intake.reconfigure(settings.limits, settings.retry_names)
        self._guard.reconfigure(settings.guard)
        self._disk.demand(settings.spool.minimum_free)
        self._listeners.reconfigure(settings.limits, doors)
        self._retired += old.values()
        self._start_task(self._retire(tuple(old.values())))

    async def _retire(self, transports: Sequence[Transport]) -> None:
        """Close ways out that nothing new takes, once what is under way has ended."""
        await asyncio.gather(*(lane.engine.settled() for lane in self._lanes))
        for transport in transports:
            await transport.close()
            self._retired.remove(transport)

    # --- building ------------------------------------------------------------------------------------------

    def _spool_numbers(self) -> Iterator[int]:
        """Our own, and our share of those no worker has any more."""
        yield self._index
        workers = self._settings.server.worker_count
        for path in sorted((self._settings.server.var / "spool").glob("*.db")):
            if path.stem.isdigit() and int(path.stem) >= workers and int(path.stem) % workers == self._index:
                yield int(path.stem)

    def _make_transports(self, settings: Settings) -> dict[str, Transport]:
        delivery = settings.delivery
        if self._sandbox_mx:
            delivery = delivery.model_copy(update={"mx_override": self._sandbox_mx})
        mx = MxResolver(self._resolver, system_random(), ipv6=delivery.ipv6)
        transports = build_transports(settings, delivery, mx, self._clock, self._resolver)
        return {**transports, "capture": CaptureTransport(settings.server.var / "capture")}

    async def _start_sandbox_mx(self) -> None:
        """Start the MX of all domains."""
        inbox = Inbox(self._settings.server.var)
        inbox.open()
        mx = SandboxMx(inbox, self._tls_context(), self._clock, functools.partial(self.telemetry.failure, "sandbox_mx"))
        await mx.start()

        async def stop() -> None:
            await mx.stop()
            inbox.close()

        self._at_stop.append(stop)
        self._sandbox_mx = f"127.0.0.1:{mx.port}"

    async def _open_doors(self) -> None:
        settings = self._settings
        lane = self._lanes[0]
        self._intake = Accept(
            lane.spool,
            settings.limits,
            settings.hostname,
            self._clock,
            self._disk,
            self.telemetry,
            lane.take,
            functools.partial(received_spf, settings.hostname),
            settings.retry_names,
        )
        self._authenticator = CredentialAuthenticator(self._registry, PasswordVerifier(self._clock), self._clock)
        for listener, hooks in self._make_doors(settings):
            sockets = self._shared.sockets.smtp[listener.name]
            await self._listeners.serve(listener, hooks, sockets)
            for bound in sockets:
                address, port = bound.getsockname()[:2]
                self.telemetry.log.listening(listener.name, address, port, listener.tls)

    def _make_doors(self, settings: Settings) -> list[tuple[ListenerSettings, Handler]]:
        spf = SpfChecker(self._resolver, hostname=settings.hostname)
        inbound, bug = settings.inbound, self.telemetry.bug
        return [
            (one, Handler(one, inbound, self._intake, self._authenticator, spf, bug, self._guard))
            for one in settings.listener
        ]

    async def _open_http(self) -> None:
        """Health and, in the sandbox, the inbox; and each lane's control socket for the operator's verbs."""
        settings = self._settings
        app = make_app("http", self.telemetry)
        app.include_router(health_router(self.not_ready, self.telemetry.metrics.exposition, CONTENT_TYPE))
        if settings.sandbox.enabled:
            app.include_router(sandbox_router(Inbox(settings.server.var), ApiKeyVerifier(self._registry).verify))
        servers = [HttpServer(app, self._shared.sockets.http)]
        for lane in self._lanes:
            control = make_app("control", self.telemetry)
            router = queue_router(
                lane.spool,
                lane.engine,
                Expiry(lane.spool, lambda: self._settings, self._clock, self.telemetry, self.telemetry),
                lane.feeder.look,
                self.telemetry,
                self._clock,
                self._listeners.sessions,
            )
            control.include_router(router)
            control.include_router(
                dead_router(
                    lane.spool,
                    lambda: self._settings.hostname,
                    lambda: self._settings.limits.received,
                    self._clock,
                    lane.feeder.look,
                    lambda new, old: self.telemetry.log.note("reinjected", id=new, after=old),
                )
            )
            control.include_router(reload_router(self._shared.hang_up, lambda: self._settings.digest))
            servers.append(HttpServer(control, [bind_control(settings.server.var / "run", lane.number)]))
        for server in servers:
            await server.start()
            self._at_stop.append(functools.partial(server.stop, 2.0))

    # --- running -------------------------------------------------------------------------------------------

    def _start_task(self, work: Coroutine[None, None, None]) -> None:
        async def watched() -> None:
            try:
                await work
            except Exception as error:
                self.telemetry.failure("worker", error)
                raise

        self._tasks.append(asyncio.create_task(watched()))

    async def _housekeeping(self) -> None:
        """What others changed: credentials and keys; and how full the disk is."""
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            try:
                self._registry.refresh()
                self._keys.reload()
                self._disk.look()
                for lane in self._lanes:
                    lane.engine.share_limits(self._shared.living.count)
            except (OperatorError, OSError) as error:
                self.telemetry.log.warn("housekeeping_failed", error=error)

    async def _tidy(self) -> None:
        """Forget what is finished and old, a little at a time so that mail never waits for it."""
        while True:
            now, spool = self._clock.now(), self._settings.spool
            try:
                gone = [await lane.spool.prune(now - spool.history, _PRUNED_AT_A_TIME) for lane in self._lanes]
                gone += [
                    await lane.spool.bury(now - spool.dead_letters, spool.dead_letters_size, _PRUNED_AT_A_TIME)
                    for lane in self._lanes
                ]
            except StoreError as error:
                self.telemetry.store_failed(error)
                gone = []
            await asyncio.sleep(_TIDY_SECONDS if _PRUNED_AT_A_TIME in gone else _TIDY_PAUSE)

    async def _gauges(self) -> None:
        while True:
            try:
                counts = [await lane.spool.counts() for lane in self._lanes]
            except StoreError as error:
                self.telemetry.store_failed(error)
            else:
                oldest = min((count.oldest for count in counts if count.oldest is not None), default=None)
                self.telemetry.metrics.queue(
                    sum(count.messages for count in counts),
                    {state: sum(count.recipients[state] for count in counts) for state in counts[0].recipients},
                    self._clock.now() - oldest if oldest is not None else 0.0,
                )
            await asyncio.sleep(_QUEUE_GAUGE_SECONDS)

    def not_ready(self) -> list[str]:
        """Why this worker should get no new work, for /readyz; empty when it may."""
        reasons = []
        if self._draining:
            reasons.append("draining")
        if self._disk.full():
            reasons.append("the disk is full: free space or lower spool.minimum_free")
        if not all(lane.engine.healthy for lane in self._lanes):
            reasons.append("results of deliveries cannot be written to the spool")
        return reasons

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = server_tls_context(self._settings)
        return self._tls
