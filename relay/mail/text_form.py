"""Text form: a message with binary parts as one of lines, for who takes no other.

In: a whole message. Out: the same with each part that is no text in base64, or None where it must stay as it is because
it is signed, or cannot be taken apart. Parts that are text already keep every octet. Never raises.
Sources: RFC 3030 §3 (nothing lost, nothing encoded twice), RFC 2045 §6, RFC 2046 §5.1 and §5.2.1.
"""

from __future__ import annotations

import base64
from typing import Final

from relay.mail.errors import MessageSyntaxError
from relay.mail.line_ends import has_bare_line_ends
from relay.mail.message import HeaderField, header_fields
from relay.mail.mime import parse_parameters

_DEEPEST: Final = 20
_MOST_DELIMITERS: Final = 10_000
_LINE: Final = 76
_IDENTITY: Final = ("", "7bit", "8bit", "binary")
_SIGNATURES: Final = frozenset({"dkim-signature", "arc-message-signature"})
_NESTED: Final = ("message/rfc822", "message/global")


def text_form(content: bytes) -> bytes | None:
    header, _ = _split(content)
    if any(field.name in _SIGNATURES for field in header_fields(header)):
        return None
    try:
        made = _entity(content, 0)
    except MessageSyntaxError:
        return None
    if not made.endswith(b"\r\n"):
        made += b"\r\n"
    return made if _is_text(made) else None


def _is_text(octets: bytes) -> bool:
    return b"\0" not in octets and not has_bare_line_ends(octets)


def _split(entity: bytes) -> tuple[bytes, bytes | None]:
    """Header with its last CRLF, and what follows the empty line."""
    if entity.startswith(b"\r\n"):
        return b"", entity[2:]
    end = entity.find(b"\r\n\r\n")
    return (entity[: end + 2], entity[end + 4 :]) if end >= 0 else (entity, None)


def _entity(entity: bytes, depth: int) -> bytes:
    if depth > _DEEPEST:
        raise MessageSyntaxError("parts nested too deep")
    header, body = _split(entity)
    if body is None:
        return entity
    fields = list(header_fields(header))
    kind, parameters, _ = parse_parameters(_first(fields, "content-type") or "text/plain")
    encoding = (_first(fields, "content-transfer-encoding") or "").partition(";")[0].partition("(")[0].strip().lower()
    if kind == "multipart/signed":
        raise MessageSyntaxError("signed")
    if kind.startswith("multipart/"):
        new, word = _multipart(body, parameters.get("boundary", ""), depth), "8bit"
    elif kind in _NESTED and encoding in _IDENTITY:
        new, word = _entity(body, depth + 1), "8bit"
    elif encoding in _IDENTITY and (encoding == "binary" or not _is_text(body)):
        return _with_encoding(header, fields, "base64") + b"\r\n" + _base64(body)
    else:
        return entity
    return (_with_encoding(header, fields, word) if encoding == "binary" else header) + b"\r\n" + new


def _multipart(body: bytes, boundary: str, depth: int) -> bytes:
    """Delimiter lines stay; what stands before the first and after the last has to be text already."""
    if not boundary or len(boundary) > _LINE:
        raise MessageSyntaxError("a multipart without a usable boundary")
    delimiter = b"--" + boundary.encode("utf-8")
    pieces: list[bytes] = []
    position, inside = 0, False
    for start, end, closing in _delimiters(body, delimiter):
        # The CRLF before a delimiter belongs to it (RFC 2046 §5.1.1).
        before = body[position : max(position, start - 2)]
        pieces.append(_entity(before, depth + 1) if inside else before)
        pieces.append(body[max(position, start - 2) : end])
        position, inside = end, not closing
        if closing:
            break
    if not pieces or inside:
        raise MessageSyntaxError("a multipart without an end")
    return b"".join(pieces) + body[position:]


def _delimiters(body: bytes, delimiter: bytes) -> list[tuple[int, int, bool]]:
    """Where each delimiter line starts and ends, and whether it closes."""
    found: list[tuple[int, int, bool]] = []
    at = 0 if body.startswith(delimiter) else _after(body, delimiter, 0)
    for _ in range(_MOST_DELIMITERS):
        if at < 0:
            return found
        rest = at + len(delimiter)
        closing = body.startswith(b"--", rest)
        line_end = body.find(b"\r\n", rest)
        end = len(body) if line_end < 0 else line_end + 2
        if not body[rest + 2 * closing : end].strip(b" \t\r\n"):
            found.append((at, end, closing))
        at = _after(body, delimiter, max(rest, end - 2))
    raise MessageSyntaxError("too many parts")


def _after(body: bytes, delimiter: bytes, position: int) -> int:
    found = body.find(b"\r\n" + delimiter, position)
    return found + 2 if found >= 0 else -1


def _first(fields: list[HeaderField], name: str) -> str | None:
    return next((field.text for field in fields if field.name == name), None)


def _with_encoding(header: bytes, fields: list[HeaderField], word: str) -> bytes:
    """The header with this Content-Transfer-Encoding in the place of any it had."""
    for field in fields:
        if field.name == "content-transfer-encoding":
            start = 0 if header.startswith(field.raw) else header.index(b"\r\n" + field.raw) + 2
            header = header[:start] + header[start + len(field.raw) :]
    return header + f"Content-Transfer-Encoding: {word}\r\n".encode()


def _base64(octets: bytes) -> bytes:
    encoded = base64.b64encode(octets)
    return b"\r\n".join(encoded[start : start + _LINE] for start in range(0, len(encoded), _LINE))
