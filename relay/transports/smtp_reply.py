"""SMTP reply parser without I/O: bytes of a hostile peer in, whole replies out.

Source: RFC 5321 §4.2, §4.2.1 (multi-line replies) and §4.5.3.1.5 (reply line length, read liberally).
What is no SMTP reply sets `error` and ends the parser; nothing is raised and nothing grows past the caps.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from relay.mail.reply import Reply

LINE_OCTETS: Final = 4096
REPLY_OCTETS: Final = 65_536
_TEXT_OCTETS: Final = 2048
_CODES: Final = {str(code).encode(): code for code in range(200, 600)}


class PeerReply(NamedTuple):
    """Code (200..599) and the lines as they came, code included. A NamedTuple: four are made for every message."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def positive(self) -> bool:
        return self.code < 300

    def to_reply(self) -> Reply:
        """One printable line; an enhanced status code repeated on every line is kept once (RFC 2034 §4)."""
        first = self.lines[0][4:]
        if len(self.lines) > 1:
            word = first.partition(b" ")[0] + b" "
            if word[:2] not in (b"2.", b"4.", b"5."):
                word = b""
            first += b"".join(b" " + line[4:].removeprefix(word) for line in self.lines[1:])
        return Reply.from_peer(self.code, first[:_TEXT_OCTETS].decode("utf-8", "replace"))


class ReplyParser:
    """Feed it chunks of any size. `error` holds a few words once the peer has left the protocol."""

    __slots__ = ("_buffer", "_lines", "_octets", "error")

    def __init__(self) -> None:
        self._buffer = b""
        self._lines: list[bytes] = []
        self._octets = 0
        self.error = ""

    @property
    def pending(self) -> bool:
        """True while part of a reply waits for its rest."""
        return bool(self._buffer or self._lines)

    def feed(self, data: bytes) -> list[PeerReply]:
        """The replies that `data` completes, in order; those before an error are still returned."""
        replies: list[PeerReply] = []
        if self._buffer:
            data = self._buffer + data
        # A bare LF ends a line too: a peer can smuggle nothing to us that it could not say outright.
        *lines, self._buffer = data.split(b"\n")
        for line in lines:
            if self.error:
                break
            if line.endswith(b"\r"):
                line = line[:-1]
            code = _CODES.get(line[:3])
            # The common case, in one place for speed: a reply of one line.
            if code is not None and line[3:4] == b" " and not self._lines and len(line) <= LINE_OCTETS:
                replies.append(PeerReply(code, (line,)))
            elif self._continue(code, line):
                replies.append(PeerReply(code or 0, tuple(self._lines)))
                self._lines, self._octets = [], 0
        if len(self._buffer) > LINE_OCTETS:
            self.error = self.error or "reply line too long"
        if self.error:
            self._buffer, self._lines = b"", []
        return replies

    def _continue(self, code: int | None, line: bytes) -> bool:
        """Add a line to the reply at hand; True when it was the last. Sets `error` where it is no reply line."""
        separator = line[3:4]
        self._octets += len(line) + 2
        if code is None:
            self.error = "line does not begin with a reply code"
        elif separator not in (b" ", b"-", b""):
            self.error = "reply code is followed by neither space nor hyphen"
        elif len(line) > LINE_OCTETS:
            self.error = "reply line too long"
        elif self._octets > REPLY_OCTETS:
            self.error = "reply too long"
        elif self._lines and self._lines[0][:1] != line[:1]:
            self.error = "lines of one reply differ in their code"
        else:
            self._lines.append(line)
            return separator != b"-"
        return False
