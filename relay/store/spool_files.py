"""Spool files: where a spool lives under `<var>/spool`, which there are, and who has one.

One process at a time has a spool: it holds the lock of its lock file until it ends, also by a kill.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from relay.mail.errors import StoreError


@dataclass(frozen=True, slots=True)
class SpoolPaths:
    """Where spool number `number` lives under `<var>/spool`."""

    folder: Path
    number: int

    @property
    def database(self) -> Path:
        return self.folder / f"{self.number}.db"

    @property
    def bodies(self) -> Path:
        return self.folder / f"{self.number}.bodies"

    @property
    def lock(self) -> Path:
        return self.folder / f"{self.number}.lock"


def spools(folder: Path) -> list[SpoolPaths]:
    """All there are, by number, whichever worker has them now. Raises StoreError."""
    try:
        numbers = sorted(int(path.stem) for path in folder.iterdir() if _is_database(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot read it ({error.strerror}); run this as the server's user or as root"
        ) from error
    return [SpoolPaths(folder, number) for number in numbers]


def take_lock(path: Path) -> int:
    """The descriptor that holds the lock. Raises StoreError where another process has it, OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreError(
            f"{path}: another server uses this spool; stop it or set server.var to another folder"
        ) from None
    return descriptor


def in_use(folder: Path) -> Path | None:
    """The lock of a spool that a process has, or None. Raises StoreError."""
    return next((paths.lock for paths in spools(folder) if _held(paths.lock)), None)


def _held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # whoever opens the spool itself will say what is wrong with it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_database(path: Path) -> bool:
    return path.suffix == ".db" and path.stem.isascii() and path.stem.isdecimal()
