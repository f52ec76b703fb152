"""App: builds one worker out of its rooms, and is its life: start, reload, stop.

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
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from relay import __version__, chores
from relay.auth.api_keys import ApiKeyVerifier
from relay.control import Control
from relay.dns.resolver import DnsResolver
from relay.httpd.application import make_app
from relay.httpd.control_socket import bind_control
from relay.httpd.health import health_router
from relay.httpd.sandbox import sandbox_router
from relay.httpd.server import HttpServer
from relay.intake.shield import Memory
from relay.lane import Lane
from relay.mail.errors import OperatorError
from relay.platforms import Platforms
from relay.policy.sliding import Sliding
from relay.ports import SystemClock
from relay.provider_news import ProviderNews
from relay.settings import Settings
from relay.signing.dkim import DkimSigner
from relay.signing.keys import KeyStore
from relay.smtp_doors import SmtpDoors
from relay.smtpd.sandbox_mx import SandboxMx
from relay.smtpd.tally import Tally
from relay.smtpd.tls_tickets import TicketContexts
from relay.store.disk import Disk
from relay.store.inbox import Inbox
from relay.store.registry import REGISTRY_FILE, Registry
from relay.store.return_key import return_key
from relay.store.spool_files import spools
from relay.store.suppressions import Suppressions
from relay.suppressing import Suppressing
from relay.telemetry.log import MailLog, route_library_logs
from relay.telemetry.metrics import CONTENT_TYPE, Metrics
from relay.telemetry.observer import Telemetry
from relay.telling import Telling
from relay.way_back import WayBack
from relay.ways_out import WaysOut


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
    remembered: Memory
    living: Living
    tickets: TicketContexts
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
        self._lanes: list[Lane] = []
        self._at_stop: list[Callable[[], Awaitable[None]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._started = False
        self._draining = False
        self._build(settings.server.var)

    def _build(self, var: Path) -> None:
        """What needs no event loop and no spool."""
        shared, clock, seen, in_force = self._shared, self._clock, self.telemetry, self._in_force
        self._registry = Registry(var / REGISTRY_FILE)
        self._keys = KeyStore(var / "keys")
        self._disk = Disk(var, self._settings.spool.minimum_free)
        self._return_key = return_key(var)
        resolver = DnsResolver(self._settings.dns, clock)
        suppressions, failed = Suppressions(var, clock), functools.partial(seen.failure, "suppressions")
        self._suppressing = Suppressing(suppressions, in_force, clock, seen.suppressed, failed)
        self._at_stop.append(self._suppressing.close)
        reported = self._suppressing.reported
        self._way_back = WayBack(self._lanes, in_force, self._return_key, clock, seen.news, reported)
        self._platforms = Platforms(var / "run", self._lanes, clock, resolver, seen)
        self._ways_out = WaysOut(var / "capture", self._lanes, self._way_back, clock, resolver)
        sliding = Sliding(shared.tally.for_worker(self._index), clock)
        self._telling = Telling(in_force, sliding, self._registry, lambda name: bool(self._keys.find(name)), seen)
        self._provider_news = ProviderNews(self._lanes, in_force, clock, resolver, seen, reported, self._telling.room)
        self._doors = SmtpDoors(
            in_force,
            self._index,
            shared.tally,
            shared.remembered,
            shared.tickets,
            self._registry,
            self._disk,
            resolver,
            clock,
            seen,
            self._way_back.is_return_path,
            self._suppressing.refusal,
        )
        self._control = Control(
            in_force,
            self._doors,
            self._platforms,
            self._way_back,
            self._provider_news.take,
            self._telling.room,
            shared.hang_up,
            clock,
            seen,
        )

    def _in_force(self) -> Settings:
        return self._settings

    # --- life ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open everything, then the doors."""
        settings = self._settings
        self._registry.refresh(patience=5.0)
        self._disk.look()
        if settings.sandbox.enabled:
            await self._start_sandbox_mx()
        self._ways_out.use(self._ways_out.prepare(settings))
        self._provider_news.use(self._provider_news.prepare(settings))
        directories = self._platforms.prepare(settings)
        self._open_lanes()
        self._platforms.use(settings, directories)
        for lane in self._lanes:
            self._start_task(lane.feeder.run())
        self._start_chores()
        await self._doors.open(self._lanes, self._shared.sockets.smtp)
        await self._open_http()
        certificates, seen = self._doors.certificates, self.telemetry
        self._start_task(chores.follow_certificates(certificates, self._in_force, seen, remind=self._index == 0))
        self._started = True
        seen.log.gather(asyncio.get_running_loop().call_soon)
        seen.log.server_started(__version__, worker=self._index, pid=os.getpid())

    async def stop(self) -> None:
        """Drain the doors, let deliveries end, keep the rest in the spool; at most twice `drain_timeout` seconds."""
        self._draining = True
        timeout = self._settings.server.drain_timeout
        await self._doors.drain(timeout)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(lane.engine.stop(timeout) for lane in self._lanes))
        await self._platforms.close()
        await self._ways_out.close()
        for close in reversed(self._at_stop):
            await close()
        for lane in self._lanes:
            await lane.spool.close()
        self._registry.close()
        if self._started:
            self.telemetry.log.server_stopped(worker=self._index)
        self.telemetry.log.scatter()

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
        transports = self._ways_out.prepare(settings)
        doors = self._doors.prepare(settings)
        told = self._provider_news.prepare(settings)
        directories = self._platforms.prepare(settings)
        self._settings = settings
        old = self._ways_out.use(transports)
        self._provider_news.use(told)
        self._platforms.use(settings, directories)
        for lane in self._lanes:
            lane.engine.reconfigure(settings, transports)
        self._doors.use(settings, doors)
        self._disk.demand(settings.spool.minimum_free)
        self._start_task(self._ways_out.retire(old))

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

    # --- opening -------------------------------------------------------------------------------------------

    def _open_lanes(self) -> None:
        signer = DkimSigner(self._keys, self._clock)
        transports, not_sent = self._ways_out.transports, self._suppressing.not_sent
        for number in self._spool_numbers():
            lane = Lane(
                self._settings,
                number,
                transports,
                signer,
                self.telemetry,
                self._return_key,
                not_sent,
                self._telling.room,
            )
            self._lanes.append(lane)

    def _spool_numbers(self) -> Iterator[int]:
        """Our own, and our share of those no worker has any more."""
        yield self._index
        workers = self._settings.server.worker_count
        for paths in spools(self._settings.server.var / "spool"):
            if paths.number >= workers and paths.number % workers == self._index:
                yield paths.number

    async def _start_sandbox_mx(self) -> None:
        """Start the MX of all domains."""
        inbox = Inbox(self._settings.server.var)
        inbox.open()
        failed = functools.partial(self.telemetry.failure, "sandbox_mx")
        mx = SandboxMx(inbox, self._doors.tls_context(), self._clock, failed)
        await mx.start()

        async def stop() -> None:
            await mx.stop()
            inbox.close()

        self._at_stop.append(stop)
        self._ways_out.sandbox_mx = f"127.0.0.1:{mx.port}"

    async def _open_http(self) -> None:
        """Health, what providers call and, in the sandbox, the inbox; and each lane's control socket."""
        settings = self._settings
        app = make_app("http", self.telemetry)
        app.include_router(health_router(self.not_ready, self.telemetry.metrics.exposition, CONTENT_TYPE))
        if self._index == 0:
            self._start_task(self._provider_news.polling(self._ways_out.ask).run())
        app.include_router(self._provider_news.router())
        if settings.sandbox.enabled:
            app.include_router(sandbox_router(Inbox(settings.server.var), ApiKeyVerifier(self._registry).verify))
        servers = [HttpServer(app, self._shared.sockets.http)]
        for lane in self._lanes:
            control = bind_control(settings.server.var / "run", lane.number)
            servers.append(HttpServer(self._control.app(lane), [control]))
        for server in servers:
            await server.start()
            self._at_stop.append(functools.partial(server.stop, 2.0))

    # --- running -------------------------------------------------------------------------------------------

    def _start_chores(self) -> None:
        lanes, clock, seen, living = self._lanes, self._clock, self.telemetry, self._shared.living
        self._start_task(chores.housekeeping(self._registry, self._keys, self._disk, lanes, lambda: living.count, seen))
        self._start_task(chores.gauges(lanes, clock, seen))
        self._start_task(chores.tidy(lanes, self._in_force, clock, seen))

    def _start_task(self, work: Coroutine[None, None, None]) -> None:
        async def watched() -> None:
            try:
                await work
            except Exception as error:
                self.telemetry.failure("worker", error)
                raise

        self._tasks.append(asyncio.create_task(watched()))
