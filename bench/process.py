"""Processes of the bench: started in sessions of their own, ended by pid, their CPU time read from /proc.

Raises BenchError, one line with the log to read, for a program that does not come up.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

HOST: Final = "127.0.0.1"
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The bench cannot go on; the message names what failed and where to look."""


class Child:
    """One started program; `stop` ends it and nothing else."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        stdout: int | IO[bytes] | None = None,
    ) -> None:
        self.name = Path(command[0]).name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output if stdout is None else stdout,
                stderr=output,
                env=None if environment is None else dict(environment),
                start_new_session=True,
            )
        self.pid = self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_for_port(self, port: int, timeout: float = 20.0, patience: float = 2.0) -> None:
        """Return once somebody on the port greets: a bound port alone may have nobody behind it yet."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if not self.alive():
                raise BenchError(f"{self.name} ended with code {self._process.returncode}; see {self.log}")
            try:
                with socket.create_connection((HOST, port), timeout=patience) as client:
                    if client.recv(512).startswith(b"220"):
                        client.sendall(b"QUIT\r\n")
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise BenchError(f"{self.name} does not answer on port {port} after {timeout:.0f} s; see {self.log}")

    def stop(self, timeout: float = 40.0) -> None:
        """SIGTERM, and SIGKILL when that is not heard."""
        if self.alive():
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def cpu_seconds(root: int) -> float:
    """CPU seconds used so far by a process, its living descendants and all children they have reaped."""
    stats = _stats()
    return sum(sum(map(int, stats[pid][11:15])) / _TICKS for pid in _family(root, stats))


def family(root: int) -> list[int]:
    """A process and its living descendants, itself first."""
    return _family(root, _stats())


def _family(root: int, stats: Mapping[int, list[str]]) -> list[int]:
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid, fields in stats.items():
        children[int(fields[1])].append(pid)
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        if pid in stats:
            found.append(pid)
        waiting += children[pid]
    return found


def _stats() -> dict[int, list[str]]:
    pids = (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())
    return {pid: fields for pid in pids if (fields := _stat(pid))}


def _stat(pid: int) -> list[str]:
    """Fields of proc(5) stat from `state` on; empty for a process that has just gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def share(total: int, parts: int) -> list[int]:
    """`total` in `parts` that differ by one at most."""
    return [total // parts + (index < total % parts) for index in range(parts)]


def free_port() -> int:
    """A loopback port nobody uses just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def needed(program: str, package: str) -> str:
    """The path of a program, sbin folders included. Raises BenchError that names the Debian package."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin")
    if found is None:
        raise BenchError(f"{program} is missing; install it: apt-get install {package}")
    return found


def run(
    command: Sequence[str],
    what: str,
    text: str = "",
    environment: Mapping[str, str] | None = None,
    timeout: float = 120.0,
) -> str:
    """Run to the end; returns standard output. Raises BenchError with the last words of standard error."""
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=timeout, check=False, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{what} has not ended after {timeout:.0f} s") from error
    except OSError as error:
        raise BenchError(f"{what} cannot be started: {command[0]}: {error.strerror}") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise BenchError(f"{what} failed with code {done.returncode}: {words[-1]}")
    return done.stdout
