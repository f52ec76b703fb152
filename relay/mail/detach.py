"""A message whose last attachments go another way: what is left of it, and the attachments.

In: the bytes of a message and how many octets may be left. Out: the message without as many of its last attachments as
must go, and those; every octet before the first of them stays. None where it cannot be cut: it is no multipart/mixed,
its first part is too large, or what would have to go is no plain attachment. Raises MessageSyntaxError.
Source: RFC 2046 §5.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.mail.parts import Attachment, direct_parts


@dataclass(frozen=True, slots=True)
class Detached:
    """`rest` is a whole message."""

    rest: bytes = field(repr=False)
    attachments: tuple[Attachment, ...]


def detached(content: bytes, most: int) -> Detached | None:
    """`rest` has at most `most` octets. The order of the parts stays: what is cut stood behind what is left."""
    boundary, parts = direct_parts(content)
    closing = b"\r\n--" + boundary + b"--\r\n"
    kept = len(parts)
    while kept and parts[kept - 1].end + len(closing) > most:
        kept -= 1
    gone = [part.attachment for part in parts[kept:]]
    attachments = tuple(one for one in gone if one is not None and one.content)
    if not kept or not attachments or len(attachments) < len(gone):
        return None
    return Detached(content[: parts[kept - 1].end] + closing, attachments)
