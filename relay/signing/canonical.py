"""Relaxed canonicalisation in linear time: the bytes a DKIM signature is computed over.

In: raw header fields and bodies, CRLF only. Out: canonical octets, or their SHA-256.
Never raises: any octets have a canonical form. Works block by block, so a large body costs no large copies.
Source: RFC 6376 §3.4.2 and §3.4.4.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

_BLOCK: Final = 65_536
_DENSE: Final = 16
_LINE_ENDS: Final = 32_768
_SPACES: Final = re.compile(rb"   *")


def relaxed_field(raw: bytes) -> bytes:
    """`Subject:  a\\r\\n\\tb \\r\\n` becomes `subject:a b\\r\\n`. `raw` is one field as it stands, with its CRLF."""
    name, _, value = raw.partition(b":")
    value = _single_spaces(value.replace(b"\r\n", b""))
    return name.rstrip(b" \t").lower() + b":" + value.strip(b" ") + b"\r\n"


class RelaxedBodyHash:
    """SHA-256 of the canonical body: runs of blanks are one space, none at a line's end, no empty last lines.

    The body comes in pieces, cut anywhere. A last line without CRLF counts as if it had one: so it is sent.
    """

    def __init__(self) -> None:
        self._hasher = hashlib.sha256()
        self._rest = b""  # the end of what came, whose canonical form what comes next decides
        self._held = 0  # line ends held back until something follows them
        self._empty = True

    def update(self, piece: bytes) -> None:
        octets = self._rest + piece
        cut = _last_cut(octets)
        self._rest = _single_spaces(octets[cut:])
        self._add(_single_spaces(octets[:cut]).replace(b" \r\n", b"\r\n"))

    def digest(self) -> bytes:
        """To be called once."""
        if self._rest:
            self._add(_relaxed_lines(self._rest))
        if not self._empty:
            self._hasher.update(b"\r\n")
        return self._hasher.digest()

    def _add(self, block: bytes) -> None:
        kept = _without_last_line_ends(block)
        if kept:
            for _ in range(self._held // _LINE_ENDS):
                self._hasher.update(b"\r\n" * _LINE_ENDS)
            self._hasher.update(b"\r\n" * (self._held % _LINE_ENDS) + kept)
            self._held, self._empty = 0, False
        self._held += (len(block) - len(kept)) // 2


def relaxed_body_hash(body: bytes) -> bytes:
    """As `RelaxedBodyHash`, of a whole body."""
    if len(body) <= _BLOCK:
        kept = _without_last_line_ends(_relaxed_lines(body))
        return hashlib.sha256(kept + b"\r\n" if kept else b"").digest()
    whole = RelaxedBodyHash()
    for start in range(0, len(body), _BLOCK):
        whole.update(body[start : start + _BLOCK])
    return whole.digest()


def _last_cut(octets: bytes) -> int:
    """The last place at which canonical forms before and after it do not depend on each other."""
    line_end = octets.rfind(b"\r\n")
    if line_end >= 0:
        return line_end + 2
    return len(octets.removesuffix(b"\r").rstrip(b" \t"))


def _relaxed_lines(block: bytes) -> bytes:
    if not block.endswith(b"\r\n"):
        block += b"\r\n"
    return _single_spaces(block).replace(b" \r\n", b"\r\n")


def _single_spaces(text: bytes) -> bytes:
    """Every run of spaces and tabs as one space."""
    text = text.replace(b"\t", b" ")
    if b"  " not in text:
        return text
    if text.count(b"  ") * _DENSE < len(text):
        return _SPACES.sub(b" ", text)
    # With many runs halving them all is cheaper than visiting each; the longest takes log2 of its length rounds.
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text


def _without_last_line_ends(block: bytes) -> bytes:
    kept = block.rstrip(b"\r\n")
    tail = len(block) - len(kept)
    if block.count(b"\r\n", len(kept)) * 2 == tail:
        return kept
    # A lone CR or LF among the last line ends is content; the pairs after it go.
    end = len(block)
    while block.endswith(b"\r\n", 0, end):
        end -= 2
    return block[:end]
