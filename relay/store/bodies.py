"""Bodies above the threshold: one file each, on disk (file and folder) before the row that names it is committed."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from relay import faults
from relay.mail.errors import StoreError
from relay.ports import PIECE

_INCOMING: Final = "in"  # no id ends like that
_COPIED: Final = 1_048_576


class IncomingFile:
    """ports.Incoming: an open file below the folder of the bodies."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def write(self, octets: bytes) -> None:
        """Into the page cache: what makes it durable is `BodyFiles.assemble`."""
        view = memoryview(octets)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise StoreError(f"{self._path}: cannot store the message body: {error.strerror}") from error

    def copy_to(self, descriptor: int, skip: int) -> None:
        """Everything from octet `skip` on, by the kernel, so that it is in no memory of ours."""
        offset = skip
        while copied := os.sendfile(descriptor, self._descriptor, offset, _COPIED):
            offset += copied

    def discard(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            try:
                self._path.unlink(missing_ok=True)
            except OSError:
                pass


class StoredFile:
    """ports.Stored: a body on disk."""

    def __init__(self, path: Path, threads: Executor) -> None:
        """Raises StoreError. Blocks."""
        self._path = path
        self._threads = threads
        with _unreadable(path):
            self._descriptor = os.open(path, os.O_RDONLY)
            self.size = os.fstat(self._descriptor).st_size

    async def read(self, start: int, octets: int) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, start, octets)

    async def each_piece(self, start: int, look: Callable[[bytes], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._each_piece, start, look)

    def close(self) -> None:
        os.close(self._descriptor)

    def _each_piece(self, start: int, look: Callable[[bytes], None]) -> None:
        while piece := self._read(start, PIECE):
            look(piece)
            start += len(piece)

    def _read(self, start: int, octets: int) -> bytes:
        wanted = min(octets, self.size - start)
        with _unreadable(self._path):
            found = os.pread(self._descriptor, wanted, start)
            while len(found) < wanted:
                more = os.pread(self._descriptor, wanted - len(found), start + len(found))
                if not more:
                    raise OSError(errno.EIO, "the file has become shorter")
                found += more
        return found


class BodyFiles:
    """Files under `folder`, spread over 256 subfolders by the last byte of the id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._on_disk: set[Path] = set()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, message_id: str) -> Path:
        return self._folder / message_id[-2:] / message_id

    def write(self, message_id: str, content: bytes, rest: Callable[[int], None] = lambda descriptor: None) -> None:
        """Durable when it returns. Raises StoreError; then nothing is left behind.

        `rest` writes what comes after `content` to the descriptor it is given.
        """
        path = self.path(message_id)
        temporary = path.with_suffix(".new")
        try:
            self._make_durable(path.parent)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                view = memoryview(content)
                while view:
                    view = view[os.write(descriptor, view) :]
                rest(descriptor)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            faults.point("body-before-rename")
            temporary.rename(path)
            faults.point("body-after-rename")
            sync_folder(path.parent)
        except OSError as error:
            self._drop(temporary)
            raise StoreError(f"{path}: cannot store the message body: {error.strerror}") from error

    def receive(self) -> IncomingFile:
        """A file for a long message that arrives; an interrupted one is an orphan. Raises StoreError."""
        folder = self._folder / _INCOMING
        path = folder / secrets.token_hex(8)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            return IncomingFile(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise StoreError(f"{path}: cannot store the message body: {error.strerror}") from error

    def assemble(self, message_id: str, prefix: bytes, incoming: IncomingFile, skip: int) -> None:
        """`prefix` and what `incoming` holds from octet `skip` on, durable when it returns. Raises StoreError."""
        try:
            self.write(message_id, prefix, lambda descriptor: incoming.copy_to(descriptor, skip))
        finally:
            incoming.discard()

    def _make_durable(self, folder: Path) -> None:
        """A subfolder counts only when its own entry is on disk, whichever thread made it."""
        with self._lock:
            if folder not in self._on_disk:
                folder.mkdir(mode=0o700, exist_ok=True)
                sync_folder(self._folder)
                self._on_disk.add(folder)

    def read(self, message_id: str) -> bytes:
        """Raises StoreError when the file is gone or unreadable."""
        path = self.path(message_id)
        with _unreadable(path):
            return path.read_bytes()

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


@contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: cannot read the message body: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
