"""Control socket: the Unix socket `<var>/run/control-<spool>.sock`, for the server's user alone.

In: a folder and a number. Out: a listening socket. Raises OperatorError, one line with the fix.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Final

from relay.mail.errors import OperatorError

_BACKLOG: Final = 16
_LONGEST_PATH: Final = 107  # sockaddr_un holds 108 octets, the last one NUL
_ANSWER_SECONDS: Final = 1.0


def control_path(folder: Path, number: int) -> Path:
    """Where the socket of a spool is. Raises OperatorError where no socket can be."""
    path = folder / f"control-{number}.sock"
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise OperatorError(
            f"{path}: longer than the {_LONGEST_PATH} octets of a Unix socket; use a shorter server.var"
        )
    return path


def bind_control(folder: Path, number: int) -> socket.socket:
    """Folder 0700, socket 0600. A socket file that a crash left goes; one that somebody answers on stays."""
    path = control_path(folder, number)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _prepare(folder)
        _remove_stale(path)
        _bind(listening, path)
    except OSError as error:
        listening.close()
        raise OperatorError(
            f"{path}: cannot listen for `relay queue` ({error.strerror or error}); "
            "let the folder belong to the server's user, or remove it"
        ) from error
    except OperatorError:
        listening.close()
        raise
    return listening


def _prepare(folder: Path) -> None:
    """Whoever may write there could put a socket of his own in the place of ours."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def _bind(listening: socket.socket, path: Path) -> None:
    # The file gets its mode as it is bound: a chmod afterwards would leave a moment in between.
    previous = os.umask(0o177)
    try:
        listening.bind(os.fspath(path))
    finally:
        os.umask(previous)
    listening.listen(_BACKLOG)
    listening.setblocking(False)


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OperatorError(f"{path}: is no socket; move it away")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_ANSWER_SECONDS)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except (BlockingIOError, TimeoutError):
            pass  # its backlog is full, and so it lives
    raise OperatorError(f"{path}: another server answers there; stop it, or set server.var to another folder")
