"""Cursors: how far the news of each provider has been read, one small file each in `<var>/polls`.

In: a provider's name, and the text to keep. Out: the text, `""` where there is none. Durable when `keep` returns; a
crash leaves the old one or the new one. One process writes. Blocking: it belongs on a thread. Raises StoreError.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from relay.mail.errors import StoreError
from relay.store.bodies import sync_folder

_LONGEST: Final = 16_384


class Cursors:
    """Of one server."""

    def __init__(self, var: Path) -> None:
        self._folder = var / "polls"

    def read(self, provider: str) -> str:
        path = self._folder / provider
        try:
            return path.read_text(encoding="utf-8")[:_LONGEST]
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(
                f"{path}: cannot read it ({error}); check its owner, or remove it to begin anew"
            ) from error

    def keep(self, provider: str, text: str) -> None:
        path = self._folder / provider
        temporary = self._folder / f".{provider}.new"
        try:
            if not self._folder.exists():
                self._folder.mkdir(mode=0o700)
                sync_folder(self._folder.parent)
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(self._folder)
        except OSError as error:
            raise StoreError(f"{path}: cannot write it ({error.strerror}); check its owner and the disk") from error
