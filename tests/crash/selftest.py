"""make crash-selftest: the harness is believed only because it finds bugs that were planted.

Each is a change to a copy of the package; the harness has to call it broken. Exit code 1 when it does not.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from scenarios import temporary_folder

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Bug:
    """What is changed, where, and which scenario has to find it."""

    name: str
    file: str
    old: str
    new: str
    scenario: tuple[str, ...]


BUGS = (
    Bug(
        "250 before the commit",
        "intake/accept.py",
        "            queued = await self._spool.enqueue(message)\n",
        "            import asyncio\n"
        "            asyncio.get_running_loop().call_later(\n"
        "                0.05, lambda: asyncio.ensure_future(self._spool.enqueue(message)).add_done_callback(\n"
        "                    lambda done: self._deliver(done.result())))\n"
        '            return reply(250, "2.0.0", f"Ok: queued as {message.id}")\n',
        ("--rounds", "10", "--only", "kills"),
    ),
    Bug(
        "delivered before it is sent",
        "store/spool_write.py",
        "        insert(connection, _ATTEMPT, rows)\n",
        "        insert(connection, _ATTEMPT, rows)\n"
        "        for row in rows:\n"
        '            connection.execute("UPDATE attempt SET ended_at = 1 WHERE message = ? AND id = ?", row[:2])\n'
        '            connection.execute("UPDATE recipient SET state = 11 WHERE message = ?", row[:1])\n',
        ("--rounds", "0", "--only", "point attempt-begun"),
    ),
    Bug(
        "synchronous = NORMAL",
        "store/spool.py",
        "PRAGMA synchronous=FULL",
        "PRAGMA synchronous=NORMAL",
        ("--rounds", "0", "--cuts", "3", "--only", "power"),
    ),
    Bug(
        "synchronous = NORMAL, seen by strace",
        "store/spool.py",
        "PRAGMA synchronous=FULL",
        "PRAGMA synchronous=NORMAL",
        ("--rounds", "0", "--only", "fsync"),
    ),
    Bug(
        "no memory of attempts: a message that was delivered is sent again after a restart",
        "store/spool_write.py",
        "            rows.settled.append(\n",
        "            if result.index == 0 and number % 7 == 0:\n                continue\n"
        "            rows.settled.append(\n",
        ("--rounds", "4", "--only", "kills"),
    ),
)  # fmt: skip


def main() -> int:
    missed = 0
    for bug in BUGS:
        tree = temporary_folder()
        shutil.copytree(_ROOT / "relay", tree / "relay", ignore=shutil.ignore_patterns("__pycache__"))
        file = tree / "relay" / bug.file
        text = file.read_text()
        assert bug.old in text, f"{bug.file} does not hold what {bug.name!r} changes"
        file.write_text(text.replace(bug.old, bug.new, 1))
        command = [
            sys.executable,
            str(Path(__file__).with_name("run.py")),
            "--tree",
            str(tree),
            "--patience",
            "8",
            *bug.scenario,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = done.returncode == 1 and ("BROKEN" in done.stdout or "went out without a sync" in done.stdout)
        missed += not found
        said = [line for line in done.stdout.splitlines() if "BROKEN" in line or "FAILED" in line]
        print(
            f"{bug.name}: {'found' if found else 'MISSED'}: {(said or [done.stdout + done.stderr])[-1][:160]}",
            flush=True,
        )
        shutil.rmtree(tree)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
