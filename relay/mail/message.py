"""Message: accepted bytes, CRLF only, never altered after spooling; additions are a prefix.

Headers are read by a linear scan of the raw bytes, never by the email package: its parser is quadratic on
hostile input and does not give the same bytes back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from relay.mail.frozen import frozen

# Possessive quantifiers: a field is read once, however it is folded, and a line that is none fails at once.
_FIELD = re.compile(rb"([!-9;-~]++)[ \t]*+:([^\r\n]*+(?:(?:\r\n[ \t]|\r(?!\n))[^\r\n]*+)*)(?:\r\n|\Z)")
_SIGNATURE_TAG = re.compile(r"(?:^|;)\s*([dsa])\s*=\s*([^;\s]+)")
_ANGLE = re.compile(r"<([^<>]*)>[^<>]*\Z")
# An unclosed quote runs to the end, so that the quotes inside it are not each tried again.
_COMMENT_OR_QUOTED = re.compile(r'"(?:[^"\\]++|\\.)*+("|\\?\Z)|\([^()]*+\)', re.DOTALL)


@frozen
class HeaderField:
    """One field: `name` in lower case, `value` unfolded and stripped, `raw` with its CRLF as it stands."""

    name: str
    value: bytes
    raw: bytes

    @property
    def text(self) -> str:
        return self.value.decode("utf-8", "replace")


def split_message(content: bytes) -> tuple[bytes, bytes]:
    """Header block (last CRLF included, separator not) and body. Without any header field: `(b"", content)`."""
    if content.startswith(b"\r\n"):
        return b"", content[2:]
    end = content.find(b"\r\n\r\n")
    if end < 0:
        header, body = content, b""
        if header and not header.endswith(b"\r\n"):
            header += b"\r\n"
    else:
        header, body = content[: end + 2], content[end + 4 :]
    first = _FIELD.match(header)
    return (header, body) if first else (b"", content)


def header_block(content: bytes) -> bytes:
    """The header block alone, as `split_message` gives it, without a copy of the body."""
    end = content.find(b"\r\n\r\n")
    return split_message(content[: end + 4] if end >= 0 else content)[0]


def header_fields(header: bytes) -> Iterator[HeaderField]:
    """Fields of a header block in order; a line that is no field is skipped. Linear in `len(header)`."""
    position = 0
    while position < len(header):
        end = header.find(b"\r\n", position)
        name, colon, value = header[position:end].partition(b":") if end >= 0 else (b"", b"", b"")
        if colon and name.replace(b"-", b"").isalnum() and not _odd(header, value, end):
            # The common case, spared the pattern: one line, and a name of letters, digits and hyphens.
            raw = header[position : end + 2]
            yield HeaderField(name.decode("ascii").lower(), value.strip(), raw)
            position = end + 2
            continue
        match = _FIELD.match(header, position)
        if match is None:
            if end < 0:
                return
            position = end + 2
            continue
        value = match[2].replace(b"\r\n", b"").strip()
        yield HeaderField(match[1].decode("ascii").lower(), value, match[0])
        position = match.end()


def _odd(header: bytes, value: bytes, end: int) -> bool:
    """Whether a value whose line ends at `end` is folded, or holds a bare CR or LF."""
    return header.startswith((b" ", b"\t"), end + 2) or b"\r" in value or b"\n" in value


def without_fields(header: bytes, unwanted: Callable[[str], bool]) -> bytes:
    """The header block without the fields whose name (lower case) is `unwanted`; every other octet stays."""
    kept = []
    position = start = 0
    while position < len(header):
        match = _FIELD.match(header, position)
        if match is None:
            line_end = header.find(b"\r\n", position)
            position = line_end + 2 if line_end >= 0 else len(header)
            continue
        if unwanted(match[1].decode("ascii").lower()):
            kept.append(header[start:position])
            start = match.end()
        position = match.end()
    return b"".join(kept) + header[start:] if start else header


def first_value(header: bytes, name: str) -> str | None:
    """The first field called `name` (any case), decoded as UTF-8, or None."""
    wanted = name.lower()
    return next((field.text for field in header_fields(header) if field.name == wanted), None)


def signature_tags(header: bytes) -> list[dict[str, str]]:
    """Domain `d`, selector `s` and algorithm `a` of each DKIM-Signature, as far as it names them; nothing verified."""
    return [
        dict(_SIGNATURE_TAG.findall(field.text)) for field in header_fields(header) if field.name == "dkim-signature"
    ]


def addresses_in(value: str) -> list[str]:
    """The addr-specs of a From/To/Cc value, for sender rights and display; never for routing.

    Quoted display names, comments and group syntax are stepped over; what is left without an `@` is dropped.
    """
    cleaned = _COMMENT_OR_QUOTED.sub(_without_display_text, value)
    found = []
    for part in re.split(r"[,;]", cleaned):
        angle = _ANGLE.search(part)
        candidate = (angle[1] if angle else part.rpartition(":")[2]).strip()
        if "@" in candidate:
            found.append(candidate)
    return found


def _without_display_text(match: re.Match[str]) -> str:
    """A quoted string right before an @ is a local part and stays; so does what an unclosed quote swallows."""
    is_comment = match[1] is None
    is_local_part = match.string[match.end() : match.end() + 1] == "@"
    is_unclosed = match[1] != '"'
    return match[0] if not is_comment and (is_local_part or is_unclosed) else " "
