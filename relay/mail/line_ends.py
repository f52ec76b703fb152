"""Line ends: CRLF alone ends a line (RFC 5321 §2.3.8)."""

from __future__ import annotations


def has_bare_line_ends(content: bytes) -> bool:
    """True when a CR or LF stands alone."""
    pairs = content.count(b"\r\n")
    return content.count(b"\n") != pairs or content.count(b"\r") != pairs


def fixed_line_ends(content: bytes) -> bytes:
    """Every line end as CRLF, for devices that know no better. Never makes a lone dot end anything."""
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
