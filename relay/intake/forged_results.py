"""Forged results: Authentication-Results fields in a stranger's mail that claim to be this server's word.

In: a header block, its fields, the name of this server. Out: both without them; every other octet stays, and so does
what other servers found. Never raises; linear.
Source: RFC 8601 §2.2 (authserv-id), §5 (removing), RFC 8616 §5 (U-labels in it).
"""

from __future__ import annotations

import re
from typing import Final

from relay.mail.address import to_ascii_domain
from relay.mail.errors import AddressSyntaxError
from relay.mail.message import HeaderField, without_fields

FIELD: Final = "authentication-results"
_OUTSIDE: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+["\\]?|[^("\\]++|\\.?|\(', re.DOTALL)
_INSIDE: Final = re.compile(rb"[^()\\]++|\\.?|[()]", re.DOTALL)
_QUOTING: Final = re.compile(rb'\\(.)|["\\]', re.DOTALL)
_ENDS: Final = re.compile(rb"[\s;/]")
_FAR: Final = 4096  # octets
_LONGEST_QUOTED: Final = 600  # octets of a host name that is quoted letter by letter


def without_forged_results(header: bytes, fields: list[HeaderField], hostname: str) -> tuple[bytes, list[HeaderField]]:
    """Without the results whose authserv-id is `hostname`; `fields` are all of the header, in order."""
    forged = [_is_forged(field.name, field.value, hostname) for field in fields]
    if not any(forged):
        return header, fields
    each = iter(forged)
    left = without_fields(header, lambda name: next(each))
    return left, [field for field, goes in zip(fields, forged, strict=True) if not goes]


def _is_forged(name: str, value: bytes, hostname: str) -> bool:
    """What has no authserv-id near its beginning is nobody's, and goes too (RFC 8601 §5 allows it)."""
    if name != FIELD:
        return False
    texts = _without_comments(value[:_FAR])
    if len(value) > _FAR and not b"".join(texts).strip():
        return True
    # As the grammar has it, and as a reader has it that joins what stands around a comment.
    return any(_names(_first_word(gap.join(texts)), hostname) for gap in (b" ", b""))


def _first_word(text: bytes) -> bytes:
    unquoted = _QUOTING.sub(rb"\1", text.lstrip()[:_LONGEST_QUOTED]).lstrip()
    return _ENDS.split(unquoted, maxsplit=1)[0]


def _without_comments(value: bytes) -> list[bytes]:
    """What stands around the comments. They may be nested; one that is not closed runs to the end."""
    texts, depth, position = [b""], 0, 0
    while match := (_INSIDE if depth else _OUTSIDE).match(value, position):
        position, piece = match.end(), match[0]
        if piece == b"(":
            depth += 1
            texts.append(b"")
        elif not depth:
            texts[-1] += piece
            if b";" in piece:
                break
        elif piece == b")":
            depth -= 1
    return texts


def _names(authserv_id: bytes, hostname: str) -> bool:
    """Whether it is this host, as A-labels or as U-labels."""
    try:
        name, ours = authserv_id.decode().rstrip("."), to_ascii_domain(hostname)
        if name.isascii() or "xn--" not in ours:
            return name.lower() == ours
        return to_ascii_domain(name) == ours
    except (AddressSyntaxError, UnicodeDecodeError):
        return False
