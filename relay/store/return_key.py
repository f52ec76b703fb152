"""The key that signs return paths: made once for the server, and to be kept as long as mail may come back.

In: the server's folder. Out: its octets. Raises SettingsError, one line with the fix.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

from relay.mail.errors import SettingsError
from relay.mail.return_path import KEY_OCTETS
from relay.store.bodies import sync_folder

_FILE: Final = "return-path.key"


def return_key(folder: Path) -> bytes:
    """Makes `folder/return-path.key` (mode 0600) where it is missing; of several workers one makes it."""
    path = folder / _FILE
    try:
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: cannot use it ({error.strerror}); check the owner of {folder}") from error
    if len(key) != KEY_OCTETS:
        raise SettingsError(
            f"{path}: not {KEY_OCTETS} octets; restore it, or remove it: what is on its way back is refused then"
        )
    return key


def _make(path: Path) -> None:
    """Whole or absent, and never over one that is there."""
    handle, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_OCTETS))
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        os.unlink(temporary)
    sync_folder(path.parent)
