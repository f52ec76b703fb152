"""Line ends: CRLF alone ends a line (RFC 5321 §2.3.8)."""

from __future__ import annotations


def has_bare_line_ends(content: bytes) -> bool:
    """True when a CR or LF stands alone."""
    pairs = content.count(b"\r\n")
    return _occurrences(content, b"\n") != pairs or _occurrences(content, b"\r") != pairs


def _occurrences(content: bytes, octet: bytes) -> int:
    """As `bytes.count`, which looks at each octet where this leaps from one found to the next."""
    return len(content) - len(content.replace(octet, b""))


def fixed_line_ends(content: bytes) -> bytes:
    """Every line end as CRLF, for devices that know no better. Never makes a lone dot end anything."""
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
