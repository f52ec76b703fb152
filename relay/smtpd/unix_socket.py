"""Unix socket: binds one with its owner and mode, and asks the kernel who is at the other end.

Raises OperatorError, one line with the fix. A socket file that nobody listens on any more is replaced; any other file
is left alone. Source: unix(7), SO_PEERCRED.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
import struct
from typing import Final

from relay.mail.errors import OperatorError
from relay.settings import ListenerSettings

_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid
_BACKLOG: Final = 1024


def bind_unix(settings: ListenerSettings, what: str) -> socket.socket:
    """A listening socket at `settings.path`, which nobody may use before owner and mode are set."""
    path = settings.path
    _remove_stale(path, what)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listening.bind(path)
        _give_to(path, settings.owner)
        os.chmod(path, int(settings.mode, 8))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise OperatorError(f"{what}: cannot listen on {path}: {error.strerror or error}; {_fix(error)}") from error
    except LookupError as error:
        listening.close()
        os.unlink(path)
        raise OperatorError(f"{what}: owner {settings.owner!r}: no such user or group here; create it") from error
    finally:
        os.umask(mask)
    listening.setblocking(False)
    return listening


def _remove_stale(path: str, what: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OperatorError(f"{what}: {path} is there and is no socket; remove it or choose another path")
    except FileNotFoundError:
        return
    except OSError as error:
        raise OperatorError(f"{what}: cannot look at {path}: {error.strerror}; {_fix(error)}") from error
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError as error:
            raise OperatorError(f"{what}: cannot replace {path}: {error.strerror}; {_fix(error)}") from error
        else:
            raise OperatorError(f"{what}: {path} is in use; stop what listens there (ss -lxp shows it)")


def _give_to(path: str, owner: str) -> None:
    """`user:group`, either may be empty. Raises LookupError, OSError."""
    user, _, group = owner.partition(":")
    uid = pwd.getpwnam(user).pw_uid if user else -1
    gid = grp.getgrnam(group).gr_gid if group else -1
    if (uid, gid) != (-1, -1):
        os.chown(path, uid, gid)


def _fix(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "make the folder first (RuntimeDirectory= of the unit)"
    if isinstance(error, PermissionError):
        return "start as root, or let the folder belong to the server's user"
    return "use a path of at most 107 octets in a folder of the server's own"


def peer_uid(connection: socket.socket) -> int | None:
    """The user who connected, as the kernel knows it."""
    try:
        octets = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    uid: int = _CREDENTIALS.unpack(octets)[1]
    return uid
