"""Framing: octets from a peer to command lines and message data. The only place that cuts the stream.

Octets go in by `add`. Out come a line without its CRLF, or the content of a message without its dot-stuffing, or the
Reply that refuses it, or None while it is incomplete. Bounded: a line by its limit, data by the message size and by
`hold`, which the gate answers for all sessions of a worker. Source: RFC 5321 §2.3.8, §4.1.1.4, §4.5.2, §4.5.3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relay.mail.reply import Reply
from relay.smtpd import replies

_END_OF_DATA: Final = b"\r\n.\r\n"
_STUFFED: Final = b"\r\n."
_NOTHING: Final = -1
_GRAIN: Final = 16_384  # octets counted at a time, so that a small message is not counted at all


class Framing:
    """The receive buffer of one session.

    `hold(octets)` counts message data kept in memory, up or down; it answers False, and counts nothing, when that would
    be too much. `first` is the first octet of the line last asked for, complete or not, and -1 where there is none.
    """

    def __init__(self, message_size: int, hold: Callable[[int], bool], *, fix_bare_lf: bool) -> None:
        self._message_size = message_size
        # RFC 1870 §5 does not count the doubled dots: at most one for each `.CRLF`.
        self._longest_data = message_size + message_size // 3 + 8
        self._hold = hold
        self._held = 0
        self._fix_bare_lf = fix_bare_lf
        self._buffer = bytearray()
        self._skipping_line = False
        self.first = _NOTHING
        self._scanned = 0
        self._refusal: Reply | None = None

    def __len__(self) -> int:
        """Octets received and not yet consumed."""
        return len(self._buffer)

    def add(self, data: bytes) -> None:
        self._buffer += data

    def clear(self) -> None:
        """Forget everything received."""
        self._buffer.clear()
        self._skipping_line = False
        self._keep_count(0)

    def line(self, longest: int) -> bytes | Reply | None:
        """A line without its CRLF, the refusal of a bad one, or None while it is incomplete."""
        buffer = self._buffer
        end = buffer.find(b"\n")
        if end < 0:
            self.first = buffer[0] if buffer and not self._skipping_line else _NOTHING
            if len(buffer) > longest:
                self._skipping_line = True
                buffer.clear()
            return None
        line = bytes(buffer[:end])
        self.first = line[0] if line and not self._skipping_line else _NOTHING
        del buffer[: end + 1]
        if self._skipping_line or end > longest:
            self._skipping_line = False
            return replies.LINE_TOO_LONG
        if line.endswith(b"\r"):
            return line[:-1]
        return line if self._fix_bare_lf else replies.BARE_LF

    def begin_data(self) -> None:
        """The CRLF that ended the DATA command also begins the data: a lone dot may be its first line."""
        self._buffer[:0] = b"\r\n"
        self._scanned = 0
        self._refusal = None

    def data(self) -> bytes | Reply | None:
        """The content once CRLF.CRLF has come, whatever else looks like an end; or its refusal; or None."""
        buffer = self._buffer
        end = buffer.find(_END_OF_DATA, self._scanned)
        if end < 0:
            self._wait_for_more()
            return None
        refusal = self._refusal or (replies.TOO_BIG if end > self._longest_data else None)
        content = b"" if refusal is not None else bytes(memoryview(buffer)[2 : end + 2])
        # Before the dots are looked at: a large message is not kept a third time.
        del buffer[: end + len(_END_OF_DATA)]
        if self._held:
            self._keep_count(0)
        if content.startswith(b".") or _STUFFED in content:
            content = content.removeprefix(b".").replace(_STUFFED, b"\r\n")
        return refusal or (content if len(content) <= self._message_size else replies.TOO_BIG)

    def _wait_for_more(self) -> None:
        buffer = self._buffer
        if self._refusal is None:
            if len(buffer) > self._longest_data:
                self._refusal = replies.TOO_BIG
            elif len(buffer) > self._held + _GRAIN and not self._keep_count(len(buffer)):
                self._refusal = replies.NO_MEMORY
        if self._refusal is not None:
            # Refused data is read to its end, so that none of it is taken for commands, but not kept.
            del buffer[:-4]
            self._keep_count(0)
        self._scanned = max(0, len(buffer) - 4)

    def _keep_count(self, octets: int) -> bool:
        more = octets - self._held
        if more and not self._hold(more):
            return False
        self._held = octets
        return True
