"""A supervisor with stand-in workers, as a process: `supervised.py FOLDER BEHAVIOUR`.

Each worker writes its pid to `FOLDER/<index>.<n>` at its nth start; the first then behaves as told, the second well:
`well` beats until SIGTERM, `crash` ends with 7 at once, `bug` raises, `hang` beats once and never again, `refuse` ends
with 2 as for something to fix.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from relay import supervisor
from relay.app import Sockets
from relay.in_force import InForce
from relay.ports import SystemClock
from relay.settings import ServerSettings, Settings
from relay.telemetry.systemd import Notifier

supervisor._BEAT_SECONDS = 0.05
supervisor._SILENCE_SECONDS = 3.0
supervisor._FIRST_BACKOFF = 0.2


def main(folder: Path, behaviour: str) -> int:
    def run_worker(
        settings: Settings,
        index: int,
        common: object,
        ready: Callable[[], None],
        beat: Callable[[], bool],
    ) -> int:
        number = len(list(folder.glob(f"{index}.*")))
        written = folder / f"new.{index}"
        written.write_text(str(os.getpid()))
        written.rename(folder / f"{index}.{number}")
        if index == 0 and behaviour == "crash":
            return 7
        if index == 0 and behaviour == "bug":
            raise RuntimeError("a bug of the worker")
        if index == 0 and behaviour == "refuse":
            return 2
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda *facts: stopped.append(1))
        signal.signal(signal.SIGHUP, lambda *facts: (folder / f"hup{index}").touch())
        beat()
        while not stopped:
            if index == 0 and behaviour == "hang" and number == 0:
                time.sleep(60)
            if not beat():
                (folder / f"orphan{index}").touch()
                return 0
            time.sleep(0.05)
        return 0

    supervisor._run_worker = run_worker
    settings = Settings(server=ServerSettings(workers=2, var=folder, drain_timeout=1.0))
    notifier = Notifier({}, os.getpid(), SystemClock())
    in_force = InForce(lambda: settings)
    return supervisor.Supervisor(in_force, Sockets({}, []), notifier, (folder / "ready").touch).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
