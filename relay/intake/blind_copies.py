"""Blind copies: Bcc fields that a client left in its message are taken out before anybody else can read them.

In: a header block and its fields. Out: both without Bcc and Resent-Bcc; every other octet stays.
Source: RFC 5322 §3.6.3 (the first way to use Bcc), §3.6.6.
"""

from __future__ import annotations

from typing import Final

from relay.mail.message import HeaderField, without_fields

_BLIND: Final = frozenset({"bcc", "resent-bcc"})


def without_blind_copies(header: bytes, fields: list[HeaderField]) -> tuple[bytes, list[HeaderField]]:
    """The recipients are those of the envelope; who they are is nobody's to read here."""
    if not any(field.name in _BLIND for field in fields):
        return header, fields
    return without_fields(header, _BLIND.__contains__), [field for field in fields if field.name not in _BLIND]
