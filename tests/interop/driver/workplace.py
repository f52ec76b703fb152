"""Workplace: the folder of one run, its logs, and how programs are run in it.

A program that fails, or takes too long, raises CheckError with the last line it said; all it said is in logs/.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).resolve().parent.parent / "programs"


class CheckError(Exception):
    """One check that did not hold; the text is for the table."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """`root` survives runs (npm packages, compiled programs); `run` is made anew by each."""

    root: Path
    relay: Path

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.run / "logs"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One run at a time in this folder. Raises CheckError while another is at it."""
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CheckError(f"another run is using {self.root}; wait for it, or choose another --work") from None
            yield

    def start_anew(self) -> None:
        """Empty the folder of the run. It holds throw-away passwords, so it is private."""
        shutil.rmtree(self.run, ignore_errors=True)
        self.logs.mkdir(parents=True)
        self.root.chmod(0o755)  # Postfix's own user has to reach its queue inside
        self.run.chmod(0o711)
        self.logs.chmod(0o700)

    def file(self, name: str, content: bytes) -> Path:
        """A private file of this run."""
        path = self.run / "files" / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(content)
        return path

    def try_program(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float = 90.0,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end, whatever the exit code; output and errors come together in `stdout`."""
        words = [str(word) for word in argv]
        whole_env = {**os.environ, **(env or {})}
        with (self.logs / f"{name}.log").open("ab") as log:
            log.write(f"$ {' '.join(words)[:2000]}\n".encode())
            try:
                done = subprocess.run(
                    words,
                    env=whole_env,
                    input=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                log.write(error.stdout or b"")
                raise CheckError(f"{words[0]} did not end within {timeout:.0f} s; see {log.name}") from None
            log.write(done.stdout + f"\n(exit code {done.returncode})\n".encode())
        return done

    def program(self, name: str, argv: Sequence[str | Path], **options: Any) -> str:
        """Run to the end; a non-zero exit code is a CheckError. Returns what it said."""
        done = self.try_program(name, argv, **options)
        text = done.stdout.decode("utf-8", "replace")
        if done.returncode != 0:
            said = [line.strip() for line in text.splitlines() if line.strip()]
            raise CheckError(f"{Path(argv[0]).name} ended with {done.returncode}: {said[-1] if said else 'no word'}")
        return text

    @contextmanager
    def daemon(self, name: str, argv: Sequence[str | Path]) -> Iterator[subprocess.Popen[bytes]]:
        """A process that lives as long as the block, and is asked to end, then made to."""
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(what: str, ready: Callable[[], Any], seconds: float = 30.0, pause: float = 0.05) -> Any:
    """Ask `ready` until it answers with something true. Raises CheckError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        answer = ready()
        if answer:
            return answer
        if time.monotonic() > end:
            raise CheckError(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)


def is_free(port: int) -> bool:
    """True when nothing listens on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def listens(port: int) -> bool:
    """True when somebody accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
