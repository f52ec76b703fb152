"""Supervisor: keeps the workers of one server alive and tells the service manager about it.

In: settings and listening sockets. Out: the exit code. With one worker this process is the worker; with more it forks
them, restarts the ones that die (with back-off, so a crash loop costs no core), passes SIGHUP on, and ends them on
SIGTERM or SIGINT. A worker whose supervisor is gone ends by itself.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import pwd
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import uvloop
from prometheus_client import multiprocess

from relay import faults
from relay.app import Living, Shared, Sockets, Worker
from relay.in_force import InForce, read_snapshot
from relay.intake.shield import Memory
from relay.mail.errors import OperatorError, SettingsError
from relay.ports import SystemClock
from relay.settings import Settings
from relay.smtpd.tally import Tally
from relay.smtpd.tls_tickets import AHEAD, TicketContexts
from relay.telemetry.systemd import Notifier

_BEAT_SECONDS: Final = 1.0
_SILENCE_SECONDS: Final = 15.0
_START_SECONDS: Final = 600.0
_FIRST_BACKOFF: Final = 0.2
_LONGEST_BACKOFF: Final = 30.0
_HEALTHY_SECONDS: Final = 60.0
_GRACE: Final = 10.0
_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
_TO_FIX: Final = 2


def serve(in_force: InForce, sockets: Sockets, on_ready: Callable[[], None]) -> int:
    """Run until told to stop. `on_ready` is called once, when every worker serves. Raises OperatorError."""
    settings = in_force.settings
    in_force.publish()
    notifier = Notifier(os.environ, os.getpid(), SystemClock())

    def ready() -> None:
        notifier.ready(f"{settings.server.worker_count} worker(s) serving")
        on_ready()

    if settings.server.worker_count == 1:
        return _run_worker(settings, 0, shared(sockets, 1, in_force.renew), ready, lambda: _beat(notifier))
    return Supervisor(in_force, sockets, notifier, ready).run()


def shared(sockets: Sockets, workers: int, reread: Callable[[], Settings]) -> Shared:
    """Made before the first fork, by the process that was started and hears SIGHUP."""
    hang_up = functools.partial(os.kill, os.getpid(), signal.SIGHUP)
    clock = SystemClock()
    tickets = TicketContexts(clock, AHEAD if workers > 1 else 0)
    return Shared(sockets, Tally(workers, clock), Memory(workers), Living(workers), tickets, reread, hang_up)


def drop_privileges(user: str) -> None:
    """Become `user` for good. Raises SettingsError."""
    try:
        entry = pwd.getpwnam(user)
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except KeyError:
        raise SettingsError(f"server.user: there is no user {user!r}; create it or leave the setting empty") from None
    except PermissionError:
        raise SettingsError(f"server.user: only root can become {user!r}; start as root or leave it empty") from None


# --- a worker ----------------------------------------------------------------------------------------------


def _run_worker(
    settings: Settings,
    index: int,
    common: Shared,
    ready: Callable[[], None],
    beat: Callable[[], bool],
) -> int:
    """One worker in this process; `beat` is called every second and answers whether to go on."""
    faults.arm(os.environ)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_work(settings, index, common, ready, beat))
    except OperatorError as error:
        print(f"relay: {error}", file=sys.stderr)
        return _TO_FIX
    return 0


async def _work(
    settings: Settings,
    index: int,
    common: Shared,
    ready: Callable[[], None],
    beat: Callable[[], bool],
) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    worker = Worker(settings, index, common)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, worker.reload)
    try:
        await worker.start()
        _spare_the_collector()
        ready()
        while not stop.is_set() and beat():
            try:
                async with asyncio.timeout(_BEAT_SECONDS):
                    await stop.wait()
            except TimeoutError:
                pass
    finally:
        await worker.stop()


def _spare_the_collector() -> None:
    """What the start made lives as long as the process; and a message makes hundreds of objects and no cycle."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _beat(notifier: Notifier) -> bool:
    notifier.watchdog()
    return True


# --- several workers ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Child:
    """A worker process as the supervisor sees it; `pid` 0: not running, to be started at `start_at`."""

    index: int
    pid: int = 0
    pipe: int = -1
    ready: bool = False
    started_at: float = 0.0
    heard_at: float = 0.0
    start_at: float = 0.0
    backoff: float = field(default=_FIRST_BACKOFF)


class Supervisor:
    """Owns no loop and no thread, so that forking is safe: it sleeps in sigtimedwait and looks around each second."""

    def __init__(self, in_force: InForce, sockets: Sockets, notifier: Notifier, ready: Callable[[], None]) -> None:
        self._in_force = in_force
        self._notifier = notifier
        self._on_ready = ready
        self._announced = False
        workers = in_force.settings.server.worker_count
        self._shared = shared(sockets, workers, lambda: read_snapshot(in_force.settings))
        self._children = [_Child(index) for index in range(workers)]
        self._stopping = False
        self._looked_at = time.monotonic()
        self._code = 0

    def run(self) -> int:
        """Until every worker has ended after a stop; returns the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while not self._stopping or any(child.pid for child in self._children):
            self._look_around()
            found = signal.sigtimedwait(_SIGNALS, _BEAT_SECONDS)
            if found is not None:
                self._on_signal(found.si_signo)
        return self._code

    def _look_around(self) -> None:
        now = time.monotonic()
        self._forgive(now - self._looked_at - 2 * _BEAT_SECONDS)
        self._looked_at = now
        for child in self._children:
            self._listen(child, now)
            if not child.pid and not self._stopping and now >= child.start_at:
                self._fork(child, now)
            elif child.pid and now - child.heard_at > self._patience(child):
                os.kill(child.pid, signal.SIGKILL)
        self._shared.living.count = sum(child.ready for child in self._children)
        self._shared.tickets.forget()
        if not self._announced and all(child.ready for child in self._children):
            self._announced = True
            self._on_ready()
        if self._announced:
            # A sign of life of this process: one worker that starts slowly must not cost the others theirs.
            self._notifier.watchdog()

    def _forgive(self, seconds: float) -> None:
        """A machine that stood still let nobody beat: this process was silent for as long."""
        if seconds > 0:
            for child in self._children:
                child.heard_at += seconds

    def _patience(self, child: _Child) -> float:
        """Seconds a worker may be silent: starting (recovering a large spool) and draining are silent work."""
        if self._stopping:
            return 2 * self._in_force.settings.server.drain_timeout + _GRACE
        return _SILENCE_SECONDS if child.ready else _START_SECONDS

    def _listen(self, child: _Child, now: float) -> None:
        if child.pipe < 0:
            return
        try:
            beats = os.read(child.pipe, 4096)
        except BlockingIOError:
            return
        if beats:
            child.heard_at = now
            child.ready = True

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
            return
        if number == signal.SIGHUP:
            self._reload()
        else:
            self._stop()

    def _reload(self) -> None:
        """What is checked here is what every worker takes: they never differ."""
        try:
            self._in_force.renew()
        except OperatorError as error:
            print(f"relay: reload: {error}; nothing has changed", file=sys.stderr, flush=True)
        else:
            self._tell(signal.SIGHUP)

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._notifier.stopping("draining")
            now = time.monotonic()
            for child in self._children:
                child.heard_at = now
            self._tell(signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        for child in self._children:
            if child.pid:
                os.kill(child.pid, number)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in self._children:
                if child.pid == pid:
                    self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: _Child, code: int) -> None:
        now = time.monotonic()
        multiprocess.mark_process_dead(child.pid)  # type: ignore[no-untyped-call] # the library has no type for it
        os.close(child.pipe)
        child.pid, child.pipe, child.ready = 0, -1, False
        if self._stopping:
            return
        if code == _TO_FIX and not self._announced:
            # It has said what is wrong; starting it again would say it again.
            self._code = code
            self._stop()
            return
        print(f"relay: worker {child.index} ended with {code}; starting it again", file=sys.stderr)
        if now - child.started_at > _HEALTHY_SECONDS:
            child.backoff = _FIRST_BACKOFF
        child.start_at = now + child.backoff
        child.backoff = min(2 * child.backoff, _LONGEST_BACKOFF)

    def _fork(self, child: _Child, now: float) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            for other in self._children:
                if other.pipe >= 0:
                    os.close(other.pipe)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            code = 1
            try:
                code = _run_worker(
                    self._in_force.settings, child.index, self._shared, lambda: None, lambda: _write_beat(writing)
                )
            except BaseException:
                # Nobody above will print it: os._exit is next.
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.close(writing)
        child.pid, child.pipe = pid, reading
        child.started_at = child.heard_at = now


def _write_beat(pipe: int) -> bool:
    """False when nobody holds the other end any more."""
    try:
        os.write(pipe, b".")
    except BlockingIOError:
        return True
    except BrokenPipeError:
        return False
    return True
