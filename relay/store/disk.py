"""Disk: whether the filesystem of a folder has room for more mail. Looks only when told to, so asking costs nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_FEWEST_INODES: Final = 1000


class Disk:
    """One filesystem. Has room until a look says otherwise."""

    def __init__(self, folder: Path, minimum: int) -> None:
        """`minimum`: free octets below which it is full."""
        self._folder = folder
        self._minimum = minimum
        self._full = False

    def demand(self, minimum: int) -> None:
        """Another minimum from the next look on."""
        self._minimum = minimum

    def full(self) -> bool:
        return self._full

    def look(self) -> None:
        """Free octets and inodes, as the system tells them now."""
        status = os.statvfs(self._folder)
        inodes_left = status.f_files == 0 or status.f_favail > _FEWEST_INODES
        self._full = status.f_bavail * status.f_frsize < self._minimum or not inodes_left
