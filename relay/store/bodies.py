"""Bodies above the threshold: one file each, on disk (file and folder) before the row that names it is committed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path

from relay import faults
from relay.mail.errors import StoreError


class BodyFiles:
    """Files under `folder`, spread over 256 subfolders by the last byte of the id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._on_disk: set[Path] = set()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, message_id: str) -> Path:
        return self._folder / message_id[-2:] / message_id

    def write(self, message_id: str, content: bytes) -> None:
        """Durable when it returns. Raises StoreError; then nothing is left behind."""
        path = self.path(message_id)
        temporary = path.with_suffix(".new")
        try:
            self._make_durable(path.parent)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                view = memoryview(content)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            faults.point("body-before-rename")
            temporary.rename(path)
            faults.point("body-after-rename")
            _sync_folder(path.parent)
        except OSError as error:
            self._drop(temporary)
            raise StoreError(f"{path}: cannot store the message body: {error.strerror}") from error

    def _make_durable(self, folder: Path) -> None:
        """A subfolder counts only when its own entry is on disk, whichever thread made it."""
        with self._lock:
            if folder not in self._on_disk:
                folder.mkdir(mode=0o700, exist_ok=True)
                _sync_folder(self._folder)
                self._on_disk.add(folder)

    def read(self, message_id: str) -> bytes:
        """Raises StoreError when the file is gone or unreadable."""
        path = self.path(message_id)
        try:
            return path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: cannot read the message body: {error.strerror}") from error

    def remove(self, message_ids: Iterable[str]) -> None:
        """A file that cannot be removed now is an orphan the next start removes."""
        for message_id in message_ids:
            self._drop(self.path(message_id))

    @staticmethod
    def _drop(path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            pass

    def remove_orphans(self, known: Iterable[str]) -> int:
        """Delete files no row names (a crash between file and commit); returns how many."""
        keep = set(known)
        orphans = [path for path in self._folder.glob("??/*") if path.name not in keep]
        for path in orphans:
            self._drop(path)
        return len(orphans)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
