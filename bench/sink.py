"""Sink: Postfix's smtp-sink as the far end of one system, and an exact count of what reached it.

Two modes: counting (fast; the running counter goes to memory), and a ledger that keeps every message
so that lost and doubled ones are known by their Message-ID.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Final

from bench.ledger import Ledger, read
from bench.process import HOST, Child, cpu_seconds, needed

_PATIENCE: Final = 120.0


class Sink:
    """One smtp-sink on one port; `restart` changes the mode and keeps the port."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self._folder = folder
        self._dumps = folder / "sink"
        self._dump = self._dumps / "messages"
        self._child: Child | None = None
        self._counter = -1

    def restart(self, ledger: bool = False) -> None:
        """Start afresh with a count of 0."""
        self.stop()
        program = needed("smtp-sink", "postfix")
        # -N: it does not speak DSN, so that a notice of success is left to who sends it mail.
        command = [program, "-4", "-c", "-N", "-m", "1000", "-h", "sink.bench.example"]
        if os.geteuid() == 0:
            command += ["-u", "nobody"]
        if ledger:
            self._empty_dumps()
            command += ["-D", str(self._dump)]
        self._counter = os.memfd_create("smtp-sink-counter")
        self._child = Child([*command, f"{HOST}:{self.port}", "1024"], self._folder / "sink.log", stdout=self._counter)
        self._child.wait_for_port(self.port)

    def _empty_dumps(self) -> None:
        """smtp-sink writes each message to a file beside the dump first, so as nobody it needs the folder."""
        shutil.rmtree(self._dumps, ignore_errors=True)
        self._dumps.mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(self._dumps, "nobody")

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
            os.close(self._counter)
            self._child = None

    def cpu_seconds(self) -> float:
        return cpu_seconds(self._child.pid) if self._child else 0.0

    def count(self) -> int:
        """Messages received since the start: the last figure smtp-sink has printed."""
        size = os.fstat(self._counter).st_size
        tail = os.pread(self._counter, 200, max(0, size - 200))
        figure = tail.rpartition(b"mesg=")[2].split(b"\r", 1)[0]
        return int(figure) if figure.isdigit() else 0

    def wait_until(self, count: int) -> float:
        """The monotonic time at which `count` messages are here; where nothing comes for two minutes, of the last."""
        seen, last = -1, time.monotonic()
        while True:
            now, here = time.monotonic(), self.count()
            if here >= count:
                return now
            if here != seen:
                seen, last = here, now
            elif now - last > _PATIENCE:
                return last
            time.sleep(0.002)

    def ledger(self) -> Ledger:
        """What arrived, message by message; only after `restart(ledger=True)`."""
        return read(self._dump.read_bytes())
