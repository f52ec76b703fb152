"""Spill: a long message on its way to disk, looked at in pieces as they come.

In: pieces of message data, cut where neither a CRLF nor a doubled dot is split. Out: a LongMessage. The header stays in
memory for the gate. Raises StoreError from `write`. Source: RFC 5321 §4.5.2.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from relay.mail.line_ends import fixed_line_ends, has_bare_line_ends
from relay.ports import Incoming, LongMessage

LONG: Final = 1_114_112  # octets of a message that are kept in memory while it arrives; a little over 1 MB
_STUFFED: Final = b"\r\n."


class Spill:
    """A long message on its way to disk: unstuffed and looked at, in pieces cut where nothing is split."""

    def __init__(self, incoming: Callable[[], Incoming], *, fix: bool) -> None:
        self._open = incoming
        self.fix = fix
        self.binary = False
        self._incoming: Incoming | None = None
        self._reset()

    def _reset(self) -> None:
        self.octets = 0  # as they came
        self.size = 0
        self._head = b""
        self._bare = self._nul = self._eight_bit = False
        self._digest = blake2b()

    def write(self, piece: bytes, *, stuffed: bool = True) -> None:
        """`piece` begins where a line begins, or inside one with something else than a dot. Raises StoreError."""
        if self._incoming is None:
            self._incoming = self._open()
        self.octets += len(piece)
        piece = unstuffed(piece) if stuffed else piece
        if not self.binary:
            if has_bare_line_ends(piece):
                self._bare = True
                piece = fixed_line_ends(piece) if self.fix else piece
            self._nul = self._nul or b"\0" in piece
        self._eight_bit = self._eight_bit or not piece.isascii()
        self._head = self._head or piece
        self.size += len(piece)
        self._digest.update(piece)
        self._incoming.write(piece)

    def take(self) -> LongMessage:
        incoming, self._incoming = self._incoming, None
        assert incoming is not None
        message = LongMessage(
            self._head,
            self.size,
            self._digest.digest(),
            self._bare and not self.fix,
            self._nul,
            incoming,
            self._eight_bit,
            self._bare and self.fix,
        )
        self._reset()
        return message

    def discard(self) -> None:
        if self._incoming is not None:
            self._incoming.discard()
            self._incoming = None
        if self.octets:
            self._reset()


def unstuffed(content: bytes) -> bytes:
    """Without the dots that were doubled (RFC 5321 §4.5.2). `content` begins where a line begins."""
    if content.startswith(b".") or _STUFFED in content:
        return content.removeprefix(b".").replace(_STUFFED, b"\r\n")
    return content
