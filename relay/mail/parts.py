"""Parts: a message's bytes taken apart, for providers that take JSON and build the MIME tree themselves.

In: accepted bytes (CRLF). Out: decoded headers, bodies and attachments, and `losses`: in words, what of the message
these parts do not hold, so that a provider can refuse instead of mangling. Nothing but preambles is dropped: what has
no place of its own becomes an attachment. Attached messages are not looked into. Linear in the message's size.
Raises MessageSyntaxError only. Sources: RFC 2045, 2046, 2183, 3676, 5322, 8551.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from relay.mail.errors import MessageSyntaxError
from relay.mail.message import HeaderField, header_fields
from relay.mail.mime import (
    Mailbox,
    decode_charset,
    decode_transfer,
    decode_words,
    one_line,
    parse_mailboxes,
    parse_parameters,
    raw_text,
)

MOST_NESTING: Final = 100
MOST_PARTS: Final = 1000
MOST_FIELDS: Final = 1000
HEADER_OCTETS: Final = 262_144
"""All header blocks of one message together."""

_BOUNDARY_OCTETS: Final = 200
_NEAR_MISSES: Final = 10_000
_SCAN_FACTOR: Final = 8
_SCAN_FLOOR: Final = 8_388_608

_ADDRESS_FIELDS: Final = ("from", "reply-to", "to", "cc")
_ONCE: Final = ("from", "reply-to", "sender", "subject", "date", "message-id", "in-reply-to", "references")
# Taken into their own place, hidden by design, or true only of the bytes as they were; X-Relay-* is for us alone.
_NOT_HANDED_ON: Final = frozenset(
    (*_ADDRESS_FIELDS, "subject", "bcc", "resent-bcc", "mime-version", "received", "return-path", "dkim-signature",
     "domainkey-signature", "authentication-results", "received-spf")
)  # fmt: skip
_PREFIXES_NOT_HANDED_ON: Final = ("content-", "arc-", "x-relay-")

_CID: Final = re.compile(r"""cid:([^"'\s<>()\\]{1,998})""", re.IGNORECASE)
_FIELD_START: Final = re.compile(rb"[!-9;-~]+[ \t]*:")
_BODY_TYPES: Final = ("text/plain", "text/html", "text/x-amp-html")
_PKCS7: Final = ("application/pkcs7-mime", "application/x-pkcs7-mime")


class Loss(StrEnum):
    """What a rebuilt message may lack. Defined, one by one, in docs/providers/README.md.

    The first group is found by `take_apart`; the second by a provider that knows what its API cannot say.
    """

    ALTERNATIVE = "alternative"
    ATTACHED_MESSAGE = "attached-message"
    CALENDAR = "calendar"
    CHARSET = "charset"
    DUPLICATE_HEADER = "duplicate-header"
    ENCRYPTED = "encrypted"
    EXTRA_BODY = "extra-body"
    FORMAT_FLOWED = "format-flowed"
    HEADER_VALUE = "header-value"
    INLINE_IMAGE = "inline-image"
    REPORT = "report"
    SIGNED = "signed"
    TRANSFER_ENCODING = "transfer-encoding"

    ATTACHMENT_CHARSET = "attachment-charset"
    ATTACHMENT_TYPE = "attachment-type"
    CUSTOM_HEADER = "custom-header"
    ONE_BODY = "one-body"
    RECIPIENT_NAME = "recipient-name"
    RECIPIENT_ROLE = "recipient-role"
    REPEATED_HEADER = "repeated-header"
    RESERVED_HEADER = "reserved-header"
    SEVERAL_FROM = "several-from"
    SEVERAL_REPLY_TO = "several-reply-to"
    TEMPLATE_SYNTAX = "template-syntax"
    VISIBLE_RECIPIENTS = "visible-recipients"


_MULTIPART_LOSSES: Final = {"signed": Loss.SIGNED, "encrypted": Loss.ENCRYPTED, "report": Loss.REPORT}


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that is no body. `content_type` is `type/subtype`, `filename` and `content_id` may be `""`.

    `inline`: the HTML shows it, or its disposition asks for that.
    """

    filename: str
    content: bytes = field(repr=False)
    content_type: str
    charset: str = ""
    content_id: str = ""
    inline: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """A message taken apart. Every header string is one line without control characters.

    `subject` is None where there is none. `headers` are the fields worth handing on, in order, values as they
    stand on the wire (encoded words kept) but unfolded. Bodies keep their CRLF; None is not the same as `""`.
    """

    subject: str | None
    from_: tuple[Mailbox, ...]
    reply_to: tuple[Mailbox, ...]
    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...]
    headers: tuple[tuple[str, str], ...]
    text: str | None
    html: str | None
    amp: str | None
    attachments: tuple[Attachment, ...]
    losses: frozenset[Loss]


def take_apart(content: bytes) -> Parts:
    """Raises MessageSyntaxError for what breaks a limit, has a multipart without its boundary, or no header."""
    walk = _Walk(content)
    walk.entity(0, len(content), _Branch(), 0)
    if not walk.header:
        raise MessageSyntaxError("the message has no header fields")
    fields = _Headers(walk.fields_of(walk.header), walk.losses)
    walk.find_inline_images()
    return Parts(
        subject=fields.subject,
        from_=fields.mailboxes["from"],
        reply_to=fields.mailboxes["reply-to"],
        to=fields.mailboxes["to"],
        cc=fields.mailboxes["cc"],
        headers=tuple(fields.others),
        text=walk.bodies.get("text/plain"),
        html=walk.bodies.get("text/html"),
        amp=walk.bodies.get("text/x-amp-html"),
        attachments=tuple(walk.attachments),
        losses=frozenset(walk.losses),
    )


@dataclass(frozen=True, slots=True)
class DirectPart:
    """A part right below the top: where it ends in the message, and the attachment it is, where it is one alone."""

    end: int
    attachment: Attachment | None


def direct_parts(content: bytes) -> tuple[bytes, tuple[DirectPart, ...]]:
    """The boundary and the parts of a multipart/mixed; nothing of any other message. Raises MessageSyntaxError."""
    walk = _Walk(content)
    header, body = walk.split(0, len(content))
    top = walk.describe(header, "text/plain")
    if top.content_type != "multipart/mixed":
        return b"", ()
    boundary = top.parameters.get("boundary", "")
    ranges = walk.children(body, len(content), boundary)
    if len(ranges) > MOST_PARTS:
        raise MessageSyntaxError(f"more than {MOST_PARTS} parts")
    return boundary.encode("utf-8"), tuple(DirectPart(end, walk.attachment_at(start, end)) for start, end in ranges)


class _Headers:
    """The message's own header fields, sorted into their places."""

    def __init__(self, fields: list[HeaderField], losses: set[Loss]) -> None:
        self.subject: str | None = None
        self.mailboxes: dict[str, tuple[Mailbox, ...]] = dict.fromkeys(_ADDRESS_FIELDS, ())
        self.others: list[tuple[str, str]] = []
        self._losses = losses
        seen: set[str] = set()
        for item in fields:
            if item.name in seen and item.name in _ONCE:
                losses.add(Loss.DUPLICATE_HEADER)
                continue
            seen.add(item.name)
            self._sort(item)

    def _sort(self, item: HeaderField) -> None:
        value, clean = raw_text(item.value)
        if item.name == "subject":
            self.subject, fits = decode_words(value)
            clean = clean and fits
        elif item.name in _ADDRESS_FIELDS:
            found, fits = parse_mailboxes(value)
            self.mailboxes[item.name] += found
            clean = clean and fits
        elif item.name in _NOT_HANDED_ON or item.name.startswith(_PREFIXES_NOT_HANDED_ON):
            return
        else:
            line, fits = one_line(value)
            clean = clean and fits
            self.others.append((item.raw.partition(b":")[0].decode("ascii").strip(), line))
        if not clean:
            self._losses.add(Loss.HEADER_VALUE)


@dataclass(slots=True)
class _Branch:
    """One way down the tree that may yield one body: a child of multipart/alternative, or the message itself."""

    used: bool = False
    alternative: bool = False


@dataclass(frozen=True, slots=True)
class _Entity:
    """The MIME fields of one part; types and names in lower case."""

    content_type: str
    parameters: dict[str, str]
    disposition: str
    filename: str
    encoding: str
    content_id: str

    @property
    def charset(self) -> str:
        return self.parameters.get("charset", "")

    @property
    def attached(self) -> bool:
        return self.disposition == "attachment" or (self.disposition == "inline" and bool(self.filename))


class _Walk:
    """Visits every part once; offsets into `content`, copies for leaves only."""

    def __init__(self, content: bytes) -> None:
        self.losses: set[Loss] = set()
        self.bodies: dict[str, str] = {}
        self.attachments: list[Attachment] = []
        self.header = b""
        self._content = content
        self._parts = 0
        self._header_octets = 0
        self._scan = max(_SCAN_FACTOR * len(content), _SCAN_FLOOR)

    def fields_of(self, header: bytes) -> list[HeaderField]:
        fields = []
        for item in header_fields(header):
            fields.append(item)
            if len(fields) > MOST_FIELDS:
                raise MessageSyntaxError(f"more than {MOST_FIELDS} header fields in one part")
        return fields

    def entity(self, start: int, end: int, branch: _Branch, depth: int, default: str = "text/plain") -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise MessageSyntaxError(f"more than {MOST_PARTS} parts")
        if depth > MOST_NESTING:
            raise MessageSyntaxError(f"parts nested deeper than {MOST_NESTING}")
        header, body = self.split(start, end)
        self.header = self.header if depth else header
        entity = self.describe(header, default)
        if entity.content_type.startswith("multipart/"):
            self._multipart(entity, body, end, branch, depth)
        else:
            self._leaf(entity, self._content[body:end], branch, depth)

    def attachment_at(self, start: int, end: int) -> Attachment | None:
        """The part as an attachment; None for a body, a container, and what is encoded as it says not."""
        header, body = self.split(start, end)
        entity = self.describe(header, "text/plain")
        if not entity.attached or entity.content_type.startswith(("multipart/", "message/")):
            return None
        data, fits = decode_transfer(self._content[body:end], entity.encoding)
        if not fits:
            return None
        inline = entity.disposition == "inline"
        return Attachment(entity.filename, data, entity.content_type, entity.charset, entity.content_id, inline)

    def split(self, start: int, end: int) -> tuple[bytes, int]:
        """Header block of the part and where its body starts; a part that begins with no field has no header."""
        if self._content.startswith(b"\r\n", start, end):
            return b"", start + 2
        if not _FIELD_START.match(self._content, start, end):
            return b"", start
        blank = self._content.find(b"\r\n\r\n", start, end)
        block_end = blank + 2 if blank >= 0 else end
        self._header_octets += block_end - start
        if self._header_octets > HEADER_OCTETS:
            raise MessageSyntaxError(f"more than {HEADER_OCTETS} octets of header")
        return self._content[start:block_end], blank + 4 if blank >= 0 else end

    def describe(self, header: bytes, default: str) -> _Entity:
        values: dict[str, str] = {}
        for item in self.fields_of(header):
            if item.name in values:
                self.losses.add(Loss.DUPLICATE_HEADER)
            elif item.name.startswith("content-"):
                values[item.name] = raw_text(item.value)[0]
        content_type, parameters, _ = parse_parameters(values.get("content-type", default))
        if content_type.count("/") != 1:
            content_type, parameters = "text/plain", {}  # RFC 2045 §5.2
        disposition, details, _ = parse_parameters(values.get("content-disposition", ""))
        filename, clean = decode_words(details.get("filename") or parameters.get("name", ""))
        if not clean:
            self.losses.add(Loss.HEADER_VALUE)
        encoding = values.get("content-transfer-encoding", "").partition(";")[0].partition("(")[0]
        content_id = one_line(values.get("content-id", ""))[0].strip().removeprefix("<").removesuffix(">")
        return _Entity(content_type, parameters, disposition, filename, encoding.strip().lower(), content_id)

    # --- multiparts ----------------------------------------------------------------------------------------

    def _multipart(self, entity: _Entity, start: int, end: int, branch: _Branch, depth: int) -> None:
        subtype = entity.content_type.partition("/")[2]
        if subtype in _MULTIPART_LOSSES:
            self.losses.add(_MULTIPART_LOSSES[subtype])
        if entity.encoding not in ("", "7bit", "8bit", "binary"):
            self.losses.add(Loss.TRANSFER_ENCODING)  # RFC 2045 §6.4 forbids it; read as if it were not said
        default = "message/rfc822" if subtype == "digest" else "text/plain"
        branches = []
        for child_start, child_end in self.children(start, end, entity.parameters.get("boundary", "")):
            child = _Branch(branch.used, True) if subtype == "alternative" else branch
            branches.append(child)
            self.entity(child_start, child_end, child, depth + 1, default)
        branch.used = branch.used or any(child.used for child in branches)

    def children(self, start: int, end: int, boundary: str) -> list[tuple[int, int]]:
        if not 0 < len(boundary) <= _BOUNDARY_OCTETS:
            raise MessageSyntaxError("a multipart without a usable boundary")
        self._scan -= end - start
        if self._scan < 0:
            raise MessageSyntaxError("parts nested too deep for the message's size")
        delimiter = b"--" + boundary.encode("utf-8")
        ranges: list[tuple[int, int]] = []
        opened: int | None = None
        position, misses = start, 0
        while (at := self._delimiter(delimiter, position, start, end)) >= 0:
            line_end, closing = self._delimiter_line(at + len(delimiter), end)
            position = at + len(delimiter)
            if line_end < 0:
                misses += 1
                if misses > _NEAR_MISSES:
                    raise MessageSyntaxError("a boundary that stands in too many lines")
                continue
            if opened is not None:
                ranges.append((opened, max(opened, at - 2)))
            opened = None if closing else line_end
            if closing:
                break
        if opened is not None:
            ranges.append((opened, end))
        if not ranges:
            raise MessageSyntaxError("a multipart whose boundary never stands")
        return ranges

    def _delimiter(self, delimiter: bytes, position: int, start: int, end: int) -> int:
        if position == start and self._content.startswith(delimiter, start, end):
            return start
        found = self._content.find(b"\r\n" + delimiter, max(position - 2, start), end)
        return found + 2 if found >= 0 else -1

    def _delimiter_line(self, position: int, end: int) -> tuple[int, bool]:
        """Where the line after the delimiter starts (-1: it was no delimiter), and whether it is the closing one."""
        closing = self._content.startswith(b"--", position, end)
        position += 2 if closing else 0
        line_end = self._content.find(b"\r\n", position, min(end, position + 1000))
        rest = self._content[position : line_end if line_end >= 0 else min(end, position + 1000)]
        if rest.strip(b" \t"):
            return -1, closing
        return (line_end + 2 if line_end >= 0 else end), closing

    # --- leaves --------------------------------------------------------------------------------------------

    def _leaf(self, entity: _Entity, raw: bytes, branch: _Branch, depth: int) -> None:
        data, fits = decode_transfer(raw, entity.encoding)
        if not fits:
            self.losses.add(Loss.TRANSFER_ENCODING)
        elif not entity.attached and self._body(entity, data, branch, depth):
            return
        self._note(entity, branch, depth)
        self.attachments.append(
            Attachment(
                entity.filename, data, entity.content_type, entity.charset, entity.content_id,
                inline=entity.disposition == "inline",
            )
        )  # fmt: skip

    def _body(self, entity: _Entity, data: bytes, branch: _Branch, depth: int) -> bool:
        """Take the leaf as a body where it is the branch's first; False: it has to become an attachment."""
        kind = entity.content_type
        if kind not in _BODY_TYPES or (kind == "text/x-amp-html" and not branch.alternative):
            return False
        if entity.filename and not branch.alternative and depth:
            return False  # named, and one part of several: a file
        if branch.used or kind in self.bodies:
            self.losses.add(Loss.EXTRA_BODY)
            return False
        text = decode_charset(data, entity.charset)
        if text is None:
            self.losses.add(Loss.CHARSET)
            return False
        if entity.parameters.get("format", "").lower() == "flowed":
            self.losses.add(Loss.FORMAT_FLOWED)
        branch.used = True
        self.bodies[kind] = text
        return True

    def _note(self, entity: _Entity, branch: _Branch, depth: int) -> None:
        kind = entity.content_type
        if kind in _PKCS7 and depth == 0:
            signed = entity.parameters.get("smime-type", "").lower() == "signed-data"
            self.losses.add(Loss.SIGNED if signed else Loss.ENCRYPTED)
        elif kind.startswith("message/"):
            self.losses.add(Loss.ATTACHED_MESSAGE)
        elif kind == "text/calendar" and not entity.attached:
            self.losses.add(Loss.CALENDAR)
        elif branch.alternative and not branch.used and not entity.attached and kind not in _BODY_TYPES:
            self.losses.add(Loss.ALTERNATIVE)

    def find_inline_images(self) -> None:
        """Mark what the HTML shows by `cid:`; a Content-ID alone (many senders number every part) is no loss."""
        page = self.bodies.get("text/html", "") + self.bodies.get("text/x-amp-html", "")
        shown = {unquote(match[1]).replace("&amp;", "&") for match in _CID.finditer(page)}
        for index, item in enumerate(self.attachments):
            if item.content_id and item.content_id in shown:
                self.losses.add(Loss.INLINE_IMAGE)
                self.attachments[index] = Attachment(
                    item.filename, item.content, item.content_type, item.charset, item.content_id, inline=True
                )
