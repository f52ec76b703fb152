"""Private files under one folder, reached without following a symbolic link and written all or nothing.

In: a root folder, checked names, bytes. Out: the files and their stamps. Never overwrites a key; never leaves
half a file under its final name, or a name that a crash can take back. Raises OperatorError.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.mail.errors import OperatorError

_SIZE_LIMIT: Final = 16_384
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file does."""

    modified_ns: int
    size: int
    inode: int


class KeyFolder:
    """Two levels: `root/<folder>/<name>`. Folders are 0700, files 0600; root hands both to the owner of `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def stamps(self) -> dict[tuple[str, str], Stamp]:
        """Every file by (folder, name), hidden ones left out; empty without a root folder."""
        if not os.path.lexists(self.root):
            return {}
        found = {}
        with _failures(self.root), self._open_root() as root:
            for folder in _visible(root):
                path = self.root / folder.name
                if folder.is_symlink():
                    raise OperatorError(f"{path}: a symbolic link; put the folder itself there")
                if not folder.is_dir(follow_symlinks=False):
                    continue
                with _failures(path), _opened(folder.name, root) as parent:
                    for file in _visible(parent):
                        facts = file.stat(follow_symlinks=False)
                        found[folder.name, file.name] = Stamp(facts.st_mtime_ns, facts.st_size, facts.st_ino)
        return found

    def read(self, folder: str, name: str) -> bytes:
        """The bytes of a file that nobody but its owner may read or change."""
        path = self.root / folder / name
        with _failures(path), self._open_root() as root, _opened(folder, root) as parent:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
            with open(descriptor, "rb") as file:
                facts = os.fstat(descriptor)
                if not stat.S_ISREG(facts.st_mode) or facts.st_size > _SIZE_LIMIT:
                    raise OperatorError(f"{path}: not a key file; remove it")
                if facts.st_mode & 0o077:
                    raise OperatorError(f"{path}: others may read this private file; chmod 600 it")
                return file.read()

    def write(self, folder: str, name: str, data: bytes, *, replace: bool = False) -> None:
        """Store durably. Without `replace` an existing file is an error."""
        path = self.root / folder / name
        if not self.root.parent.is_dir():
            raise OperatorError(f"{self.root.parent}: no such folder; make it with `relay init`")
        with _failures(path):
            with _opened(self.root.parent) as above:
                _make_folder(self.root.name, above)
            with self._open_root() as root:
                _make_folder(folder, root)
                with _opened(folder, root) as parent:
                    _write_file(name, data, parent, replace=replace)

    @contextmanager
    def _open_root(self) -> Iterator[int]:
        with _opened(self.root.parent) as above, _opened(self.root.name, above) as root:
            yield root


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    """Say what the system refused, and where."""
    try:
        yield
    except FileExistsError as error:
        raise OperatorError(f"{path}: exists already; remove it or choose another selector") from error
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}; check the path, its owner and its mode") from error


@contextmanager
def _opened(path: str | Path, parent: int | None = None) -> Iterator[int]:
    # The folders above the root are the operator's own and may well be links.
    flags = _FOLDER if parent is not None else _FOLDER & ~os.O_NOFOLLOW
    descriptor = os.open(path, flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _visible(folder: int) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _make_folder(name: str, parent: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return
    with _opened(name, parent) as folder:
        _hand_over(folder, parent)
        os.fsync(folder)
    os.fsync(parent)


def _write_file(name: str, data: bytes, parent: int, *, replace: bool) -> None:
    temporary = f".{name}.{secrets.token_hex(8)}"
    descriptor = os.open(temporary, _NEW_FILE, 0o600, dir_fd=parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            _hand_over(descriptor, parent)
            os.fsync(descriptor)
        if replace:
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        else:
            # A link, because a rename would overwrite what another command has just written.
            os.link(temporary, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
    finally:
        try:
            os.unlink(temporary, dir_fd=parent)
        except FileNotFoundError:
            pass
    os.fsync(parent)


def _hand_over(descriptor: int, parent: int) -> None:
    """What root creates for a service belongs to the service, or it could not read its own keys."""
    if os.geteuid() == 0:
        owner = os.fstat(parent)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
