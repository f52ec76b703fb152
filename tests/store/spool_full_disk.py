"""A spool whose files may not grow for a while. python spool_full_disk.py FOLDER"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from pathlib import Path

from spool_kit import Bench, ManualClock

from relay.mail.errors import StoreError


def main() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with asyncio.Runner() as runner:
        one = Bench(Path(sys.argv[1]), ManualClock(), runner)
        one.open(threshold=1_000_000)
        stored = [one.enqueue()]
        print("stored")
        wal = one.folder / "3.db-wal"
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size, unlimited[1]))
        for size in (20_000, 1_100_000):
            try:
                one.enqueue(content=b"x" * size)
            except StoreError:
                print("refused")
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        stored.append(one.enqueue(content=b"x" * 20_000))
        print("stored")
        one.restart()
        if one.due_ids() == stored and one.body_files() == []:
            print("all")
        one.close()


if __name__ == "__main__":
    main()
