"""File names for APIs that take no content type and guess it from the name.

In: an attachment. Out: its name, or one made up so that the guess leads back to its type; the type a name leads to.
Pure, and the same on every machine: Python's own table and a few types more, never /etc/mime.types.
"""

from __future__ import annotations

import mimetypes
from functools import cache
from typing import Final

from relay.mail.parts import Attachment

_MORE_TYPES: Final = {
    ".asc": "application/pgp-signature",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".gz": "application/gzip",
    ".ics": "text/calendar",
    ".p7s": "application/pkcs7-signature",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


def name_for(item: Attachment, number: int) -> str:
    """`number` counts from 1 and tells unnamed parts of one message apart."""
    return item.filename or f"part-{number}{_types().guess_extension(item.content_type) or '.bin'}"


def type_of(filename: str) -> str | None:
    """The content type a reader would guess from what follows the last dot, or None.

    A look into the table: `MimeTypes.guess_type` reads a name as a URL and may raise.
    """
    _, dot, extension = filename.rpartition(".")
    return _types().types_map[True].get(f".{extension.lower()}") if dot else None


@cache
def _types() -> mimetypes.MimeTypes:
    types = mimetypes.MimeTypes()
    for extension, content_type in _MORE_TYPES.items():
        types.add_type(content_type, extension)
    return types
