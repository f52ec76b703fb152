"""MIME values: encoded words, mailboxes, parameters, charsets and transfer encodings, each in linear time.

In: one header value or one body, already capped by the caller. Out: decoded text or bytes, with a flag that says
whether anything had to be guessed. Never raises for hostile input, never uses the email package, whose parsers are
quadratic and recursive. Sources: RFC 2045 §5 and §6, RFC 2047, RFC 2231, RFC 5322 §3.4.
"""

from __future__ import annotations

import binascii
import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

MOST_PARAMETERS: Final = 100

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_WORD = re.compile(r"=\?([^?=\s]{1,64})\?([bBqQ])\?([^?]*)\?=")
_PARAMETER = re.compile(r';\s*([^\s=;"]{1,80})\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)', re.DOTALL)
_CONTINUED = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?\Z")
_ADDRESS_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[^"(),:;<>]+|.', re.DOTALL)
_UNQUOTED_WORD = re.compile(r"[^(),:;<>]+|.", re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)

# Codecs a mail may name; utf-7, idna and the escape codecs are left out as traps.
_CHARSETS: Final = (
    "ascii", "utf-8", "utf-16", "utf-32", "iso8859-", "cp12", "cp437", "cp720", "cp737", "cp775", "cp85", "cp86",
    "cp874", "cp932", "cp949", "cp950", "cp1006", "cp1125", "koi8-", "kz1048", "ptcp154", "mac-", "tis-620", "big5",
    "gb2312", "gbk", "gb18030", "hz", "shift_jis", "euc_", "euc-", "iso2022_", "johab",
)  # fmt: skip
# What senders mean by a label their bytes do not fit: the superset everybody's mail reader uses.
_SUPERSETS: Final = {
    "ascii": "utf-8", "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932", "big5": "cp950",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An addr-spec as the header has it, and its decoded display name (`""` for none)."""

    address: str
    name: str = ""


def one_line(text: str) -> tuple[str, bool]:
    """`text` with every control character and line separator a space; False where there was one (tabs aside)."""
    cleaned = _CONTROL.sub(" ", text)
    return cleaned, cleaned == text.replace("\t", " ")


def raw_text(value: bytes) -> tuple[str, bool]:
    """A header value as text: UTF-8 (RFC 6532), else guessed as windows-1252 and said to be so."""
    try:
        return value.decode("utf-8"), True
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace"), False


def decode_words(text: str) -> tuple[str, bool]:
    """RFC 2047 encoded words decoded, made one line. False where a word or a control character did not fit.

    Neighbouring words of one charset are joined as bytes first: many senders cut characters in two.
    """
    clean = True
    out: list[str] = []
    pending: list[tuple[str, bytes]] = []

    def flush() -> None:
        nonlocal clean
        for charset, data, source in _joined(pending):
            decoded = decode_charset(data, charset)
            clean = clean and decoded is not None
            out.append(source if decoded is None else decoded)
        pending.clear()

    position = 0
    for match in _WORD.finditer(text):
        gap = text[position : match.start()]
        if gap and not (pending and gap.isspace()):
            flush()
            out.append(gap)
        pending.append((match[1].partition("*")[0].lower(), _word_bytes(match[2], match[3])))
        position = match.end()
    flush()
    out.append(text[position:])
    line, printable = one_line("".join(out))
    return line, clean and printable


def _joined(words: list[tuple[str, bytes]]) -> Iterator[tuple[str, bytes, str]]:
    index = 0
    while index < len(words):
        charset = words[index][0]
        run = index
        while run < len(words) and words[run][0] == charset:
            run += 1
        data = b"".join(word for _, word in words[index:run])
        yield charset, data, data.decode("ascii", "replace")
        index = run


def _word_bytes(encoding: str, text: str) -> bytes:
    data = text.encode("utf-8")
    if encoding in "qQ":
        return binascii.a2b_qp(data, header=True)
    return decode_transfer(data, "base64")[0]


def decode_charset(data: bytes, label: str) -> str | None:
    """`data` in the charset called `label` (`""`: US-ASCII), or None where the name or a byte does not fit."""
    name = _codec(label.strip()[:64].lower() or "us-ascii")
    for candidate in (name, _SUPERSETS.get(name, "")):
        if candidate:
            try:
                return data.decode(candidate)
            except (UnicodeDecodeError, LookupError):
                continue
    return None


@lru_cache(maxsize=256)
def _codec(label: str) -> str:
    try:
        name = codecs.lookup(label).name
    except (LookupError, ValueError):
        return ""
    return name if name.startswith(_CHARSETS) else ""


def decode_transfer(data: bytes, encoding: str) -> tuple[bytes, bool]:
    """A body without its Content-Transfer-Encoding; False where it is unknown or `data` breaks its rules."""
    if encoding in ("", "7bit", "8bit", "binary"):
        return data, True
    if encoding == "quoted-printable":
        return binascii.a2b_qp(data), True
    if encoding != "base64":
        return data, False
    packed = data.translate(None, b" \t\r\n")
    try:
        return binascii.a2b_base64(packed, strict_mode=True), True
    except binascii.Error:
        pass
    try:
        return binascii.a2b_base64(packed + b"==="), False
    except binascii.Error:
        return data, False


def parse_parameters(text: str) -> tuple[str, dict[str, str], bool]:
    """`text/plain; charset="x"` -> (`text/plain`, `{"charset": "x"}`, clean), names lower case, RFC 2231 joined.

    At most MOST_PARAMETERS are read; the rest is ignored and makes the result not clean.
    """
    value, separator, _ = text.partition(";")
    segments: dict[str, list[tuple[int, bool, str]]] = {}
    clean = True
    position = len(value)
    for _ in range(MOST_PARAMETERS):
        match = _PARAMETER.match(text, position) if separator else None
        if match is None:
            position = text.find(";", position + 1)
            if position < 0:
                break
            continue
        position = match.end()
        name = _CONTINUED.match(match[1].lower())
        if name:
            segment = (int(name[2] or -1), bool(name[3]), _unquoted(match[2]))
            segments.setdefault(name[1], []).append(segment)
    else:
        clean = False
    found: dict[str, str] = {}
    for key, pieces in segments.items():
        found[key], fits = _join_segments(pieces)
        clean = clean and fits
    return value.strip().lower(), found, clean


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        return _QUOTED_PAIR.sub(r"\1", text[1:-1])
    return text.strip('"')


def _join_segments(pieces: list[tuple[int, bool, str]]) -> tuple[str, bool]:
    """One parameter from its RFC 2231 pieces (number or -1, extended, text): `name*`, else `name*N`, else `name`."""
    pieces.sort(key=lambda piece: piece[0])
    chosen = [piece for piece in pieces if piece[0] < 0 and piece[1]][:1]
    chosen = chosen or [piece for piece in pieces if piece[0] >= 0] or pieces[:1]
    charset = ""
    data = b""
    for number, (_, extended, text) in enumerate(chosen):
        if extended and number == 0 and text.count("'") >= 2:
            charset, _, text = text.split("'", 2)
        data += unquote_to_bytes(text) if extended else text.encode("utf-8")
    decoded = decode_charset(data, charset or "utf-8")
    if decoded is None:
        return one_line(data.decode("utf-8", "replace"))[0], False
    return one_line(decoded)


def parse_mailboxes(text: str) -> tuple[tuple[Mailbox, ...], bool]:
    """The mailboxes of an address list in order, group names left out; False where a name had to be guessed."""
    scanner = _AddressScanner()
    pattern = _ADDRESS_WORD
    position = 0
    while position < len(text):
        if text[position] == "(" and not scanner.in_angle:
            position = scanner.comment(text, position)
            continue
        match = pattern.match(text, position)
        assert match is not None  # the last alternative takes any character
        if match[0] == '"':
            pattern = _UNQUOTED_WORD  # it never closes, and so no later one does: searching again would be quadratic
        scanner.take(match[0])
        position = match.end()
    scanner.end()
    return tuple(scanner.found), scanner.clean


class _AddressScanner:
    """RFC 5322 §3.4 with the obsolete and the sloppy forms: one pass, no recursion."""

    def __init__(self) -> None:
        self.found: list[Mailbox] = []
        self.clean = True
        self.in_angle = False
        self._start()

    def _start(self) -> None:
        self.in_angle = False
        self._raw: list[str] = []
        self._words: list[str] = []
        self._angle: list[str] | None = None
        self._comment = ""

    def comment(self, text: str, position: int) -> int:
        depth, at = 0, position
        while at < len(text):
            char = text[at]
            if char == "\\":
                at += 1
            elif char in "()":
                depth += 1 if char == "(" else -1
                if depth == 0:
                    break
            at += 1
        self._comment = text[position + 1 : at]
        return at + 1

    def take(self, word: str) -> None:
        if self.in_angle:
            if word == ">":
                self.in_angle = False
            elif self._angle is not None:
                self._angle.append(word)
        elif word == "<":
            self.in_angle, self._angle = True, []
        elif word in (",", ";"):
            self.end()
        elif word == ":":
            self._start()  # what stood before was a group's name
        else:
            self._raw.append(word)
            quoted = len(word) > 1 and word[0] == '"'
            self._words.append(_QUOTED_PAIR.sub(r"\1", word[1:-1]) if quoted else word)

    def end(self) -> None:
        """The mailbox is complete; without an `@` it was none."""
        if self._angle is not None:
            address = "".join(self._angle).strip()
            if address.startswith("@"):
                address = address.rpartition(":")[2]  # RFC 5322 §4.4, obs-route
            name = "".join(self._words).strip()
        else:
            address = "".join(self._raw).strip()
            name = self._comment.strip()
        if "@" in address:
            decoded, clean = decode_words(name)
            self.clean = self.clean and clean
            self.found.append(Mailbox(one_line(address)[0], " ".join(decoded.split())))
        self._start()
