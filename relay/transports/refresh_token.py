"""RefreshToken: the file that holds one, and what came after it.

In: `oauth.refresh_token_file`. Out: the newest token, or the outcome of mail while the file cannot be read; a new one
is written over the old one. Raises SettingsError at construction only. Source: RFC 6749 §6.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from relay.mail.errors import SettingsError
from relay.mail.outcome import Deferred, Fault
from relay.mail.reply import reply
from relay.transports.http_settings import read_word

_log = logging.getLogger(__name__)


class RefreshToken:
    """The file and what came after it: an answer may replace the token, and so may an operator or another worker."""

    def __init__(self, key: str, path: Path | None) -> None:
        """Raises SettingsError."""
        self._key = key
        self._path = path
        self._seen = read_word(key, path) if path is not None else ""
        self.latest = self._seen

    def read(self) -> str | Deferred:
        """`""` where there is none."""
        if self._path is None:
            return ""
        try:
            found = read_word(self._key, self._path)
        except SettingsError as error:
            _log.error("%s", error)
            return Deferred(reply(451, "4.7.0", "The refresh token cannot be read; see the log"), Fault.ROUTE)
        if found != self._seen:
            self._seen = self.latest = found
        return self.latest

    def replace(self, word: str) -> None:
        """Keep the new one, for the next start too."""
        if self._path is None or word == self.latest:
            return
        self.latest = word
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        try:
            new.unlink(missing_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(word + "\n")
            new.replace(self._path)
        except (OSError, UnicodeEncodeError) as error:
            reason = getattr(error, "strerror", None) or "not ASCII"
            _log.warning(
                "%s: cannot keep the new refresh token beside %s (%s); let the server's user write that folder, or the "
                "next start has the old one",
                self._key,
                self._path,
                reason,
            )
        else:
            self._seen = word
