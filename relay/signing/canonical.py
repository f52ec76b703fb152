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
_SPACES: Final = re.compile(rb"   *")


def relaxed_field(raw: bytes) -> bytes:
    """`Subject:  a\\r\\n\\tb \\r\\n` becomes `subject:a b\\r\\n`. `raw` is one field as it stands, with its CRLF."""
    name, _, value = raw.partition(b":")
    value = _single_spaces(value.replace(b"\r\n", b""))
    return name.rstrip(b" \t").lower() + b":" + value.strip(b" ") + b"\r\n"


def relaxed_body_hash(body: bytes) -> bytes:
    """SHA-256 of the canonical body: runs of blanks are one space, none at a line's end, no empty last lines.

    A last line without CRLF counts as if it had one: so it is sent.
    """
    hasher = hashlib.sha256()
    position, held, empty = 0, 0, True
    while position < len(body):
        line_end = body.find(b"\r\n", position + _BLOCK)
        end = line_end + 2 if line_end >= 0 else len(body)
        block = _relaxed_lines(body[position:end])
        kept = _without_last_line_ends(block)
        if kept:
            # Line ends are held back until something follows them; the body's own last one is added at the end.
            hasher.update(b"\r\n" * held + kept)
            held, empty = 0, False
        held += (len(block) - len(kept)) // 2
        position = end
    if not empty:
        hasher.update(b"\r\n")
    return hasher.digest()


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
