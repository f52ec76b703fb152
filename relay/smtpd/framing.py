"""Framing: octets from a peer to command lines and message data. The only place that cuts the stream.

Octets go in by `add`. Out come a line without its CRLF, or the content of a message without its dot-stuffing, or the
Reply that refuses it, or None while it is incomplete. Bounded: a line by its limit, data by the message size and by
`hold`, which the gate answers for all sessions of a worker; a long message goes to disk as it arrives.
Source: RFC 5321 §2.3.8, §4.1.1.4, §4.5.2, §4.5.3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relay.mail.errors import StoreError
from relay.mail.reply import Reply
from relay.ports import Incoming, LongMessage
from relay.smtpd import replies
from relay.smtpd.spill import LONG, Spill, unstuffed

_END_OF_DATA: Final = b"\r\n.\r\n"
_NOTHING: Final = -1
_LOOK_BACK: Final = 1024
_GRAIN: Final = 16_384  # octets counted at a time, so that a small message is not counted at all


def _nothing() -> None:
    """Nobody wants to know."""


class Framing:
    """The receive buffer of one session.

    `hold(octets)` counts message data kept in memory, up or down; it answers False, and counts nothing, when that would
    be too much. `first` is the first octet of the line last asked for, complete or not, and -1 where there is none.
    """

    def __init__(
        self,
        message_size: int,
        hold: Callable[[int], bool],
        incoming: Callable[[], Incoming],
        *,
        fix_bare_lf: bool,
        longest_header: int = 0,
    ) -> None:
        """`incoming` opens a place for a long message (raises StoreError); its header stays in memory."""
        self._message_size = message_size
        self._long = max(LONG, longest_header + 4)
        self._spill = Spill(incoming, fix=fix_bare_lf)
        # RFC 1870 §5 does not count the doubled dots: at most one for each `.CRLF`.
        self._longest_data = message_size + message_size // 3 + 8
        self._hold = hold
        self._held = 0
        self._fix_bare_lf = fix_bare_lf
        self._fixed: Callable[[], object] = _nothing
        self._buffer = bytearray()
        self._skipping_line = False
        self.first = _NOTHING
        self._scanned = 0
        self._refusal: Reply | None = None

    def __len__(self) -> int:
        """Octets received and not yet consumed."""
        return len(self._buffer)

    def fix_bare_lf(self, fixed: Callable[[], object]) -> None:
        """From now on, in commands and data; `fixed` is called for each command that ended in LF alone."""
        self._fix_bare_lf, self._fixed = True, fixed
        self._spill.fix = True

    def add(self, data: bytes) -> None:
        self._buffer += data

    def clear(self) -> None:
        """Forget everything received."""
        self._buffer.clear()
        self._skipping_line = False
        self._spill.discard()
        self._keep_count(0)

    def take(self, most: int) -> bytes:
        """At most so many octets as they came, for what is counted and not cut."""
        buffer = self._buffer
        octets = bytes(memoryview(buffer)[:most])
        del buffer[:most]
        return octets

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
        if not self._fix_bare_lf:
            return replies.BARE_LF
        self._fixed()
        return line

    def begin_data(self) -> None:
        """The CRLF that ended the DATA command also begins the data: a lone dot may be its first line."""
        self._buffer[:0] = b"\r\n"
        self._scanned = 0
        self._refusal = None
        self._spill.discard()

    def data(self) -> bytes | LongMessage | Reply | None:
        """The content once CRLF.CRLF has come, whatever else looks like an end; or its refusal; or None."""
        buffer = self._buffer
        end = buffer.find(_END_OF_DATA, self._scanned)
        if end < 0:
            self._wait_for_more()
            return None
        if self._spill.octets:
            return self._end_of_long(end)
        refusal = self._refusal or (replies.TOO_BIG if end > self._longest_data else None)
        content = b"" if refusal is not None else bytes(memoryview(buffer)[2 : end + 2])
        # Before the dots are looked at: a large message is not kept a third time.
        del buffer[: end + len(_END_OF_DATA)]
        if self._held:
            self._keep_count(0)
        content = unstuffed(content)
        return refusal or (content if len(content) <= self._message_size else replies.TOO_BIG)

    def _end_of_long(self, end: int) -> LongMessage | Reply:
        buffer, spill = self._buffer, self._spill
        try:
            spill.write(bytes(memoryview(buffer)[2 : end + 2]))
        except StoreError:
            self._refusal = replies.NO_SPACE
        del buffer[: end + len(_END_OF_DATA)]
        self._keep_count(0)
        refusal = self._refusal or (replies.TOO_BIG if spill.size > self._message_size else None)
        if refusal is not None:
            spill.discard()
            return refusal
        return spill.take()

    def _to_disk(self) -> None:
        """All but the end of the buffer, which goes on as if the data began there: with a CRLF before it."""
        buffer = self._buffer
        cut = buffer.rfind(b"\r\n", 0, len(buffer) - 2)
        try:
            if cut > 0:
                self._spill.write(bytes(memoryview(buffer)[2 : cut + 2]))
                del buffer[:cut]
            elif (cut := _inside_a_line(buffer)) > 0:
                self._spill.write(bytes(memoryview(buffer)[2:cut]))
                del buffer[: cut - 2]
                buffer[:2] = b"\r\n"
        except StoreError:
            self._refusal = replies.NO_SPACE

    def _wait_for_more(self) -> None:
        buffer = self._buffer
        if self._refusal is None and len(buffer) > self._long:
            self._to_disk()
        if self._refusal is None:
            if len(buffer) + self._spill.octets > self._longest_data:
                self._refusal = replies.TOO_BIG
            elif len(buffer) > self._held + _GRAIN and not self._keep_count(len(buffer)):
                self._refusal = replies.NO_MEMORY
        if self._refusal is not None:
            # Refused data is read to its end, so that none of it is taken for commands, but not kept.
            del buffer[:-4]
            self._spill.discard()
            self._keep_count(0)
        self._scanned = max(0, len(buffer) - 4)

    def _keep_count(self, octets: int) -> bool:
        more = octets - self._held
        if more and not self._hold(more):
            return False
        self._held = octets
        return True


def _inside_a_line(buffer: bytearray) -> int:
    """Where a line without an end in sight can be cut: not beside a CR or LF, and not before a dot; or -1.

    Only its end is looked at: a line of nothing but dots waits in memory, within `hold`, for one of something else.
    """
    for cut in range(len(buffer) - 5, max(4, len(buffer) - _LOOK_BACK), -1):
        if buffer[cut] not in b".\r\n" and buffer[cut - 1] not in b"\r\n":
            return cut
    return -1
