"""Blind copies: Bcc fields that a client left in its message are taken out before anybody else can read them.

In: a message and its header fields. Out: both without Bcc and Resent-Bcc; every other octet stays.
Source: RFC 5322 §3.6.3 (the first way to use Bcc), §3.6.6.
"""

from __future__ import annotations

from typing import Final

from relay.mail.message import HeaderField

_BLIND: Final = frozenset({"bcc", "resent-bcc"})


def without_blind_copies(content: bytes, fields: list[HeaderField]) -> tuple[bytes, list[HeaderField]]:
    """The recipients are those of the envelope; who they are is nobody's to read here."""
    blind = [field for field in fields if field.name in _BLIND]
    if not blind:
        return content, fields
    for field in blind:
        start = 0 if content.startswith(field.raw) else content.index(b"\r\n" + field.raw) + 2
        content = content[:start] + content[start + len(field.raw) :]
    return content, [field for field in fields if field.name not in _BLIND]
